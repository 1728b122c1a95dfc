"""A synthetic study of one model as `aletheia fit` plans it, whose answers are known."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aletheia.analysis.answers import COLUMNS
from aletheia.analysis.fit_summary import FitEvidence, summarise_fit
from aletheia.analysis.ledger import build_ledger
from aletheia.study.paths import Paths
from ledgers import evaluation, run
from reports import PLAN, summarise

MODEL = "model"
BASE_LOSS, GENERAL_LOSS = 3.0, 2.5
SECTION = {"campaign": "fit", "model": MODEL, "split": "test"}
ROWS = {"heldout": 64, "retention": 48}
_SUMMARIES: dict[str, dict[str, Any]] = {}


def fitted(gains: Mapping[str, float], *, split: str = "test", **how: Any) -> dict[str, Any]:
    """Return the summary of a study; ``how`` goes to :func:`evidence`. Many tests look at the same few."""
    key = repr((gains, split, sorted(how.items())))
    if key not in _SUMMARIES:
        _SUMMARIES[key] = summarise_fit({**SECTION, "split": split}, evidence(gains, **how))
    return copy.deepcopy(_SUMMARIES[key])


def evidence(
    gains: Mapping[str, float],
    *,
    seeds: Sequence[int] = (42, 123, 999),
    forgets: Mapping[str, float] | None = None,
    seconds: Mapping[str, float] | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    rates: Mapping[str, Mapping[str, Any]] | None = None,
    noise: float = 0.001,
    row_noise: float = 0.02,
) -> FitEvidence:
    """Return what a study measured.

    Parameters
    ----------
    gains
        By arm: nats that its held-out loss is below the base model's.
    forgets
        By arm: nats that its loss on general text is above the base model's.
    seconds
        By arm: training time; 100 where it is not named.
    changes
        Of the runs' payloads, by arm; a status other than ok takes evaluations and losses with it.
    rates
        By arm: ``rate_chosen_from`` of its runs; the best loss decides.
    noise, row_noise
        SD of a run's loss over seeds, and of a row's difference from the base model, nats.
    """
    generator = np.random.default_rng(1)
    planned, runs, evaluations, tables = [], {}, {}, []
    levels = {"heldout": BASE_LOSS, "retention": GENERAL_LOSS}
    rows = {name: generator.normal(levels[name], 0.5, ROWS[name]) for name in ROWS}
    for name in ROWS:
        evaluations[MODEL, "base", None, name] = evaluation(MODEL, "base", None, name, float(rows[name].mean()))
        tables.append(_table("base", None, name, rows[name]))
    for arm, gain in gains.items():
        for i, seed in enumerate(seeds):
            shift = {"heldout": -gain, "retention": (forgets or {}).get(arm, 0.0)}
            taken = (seconds or {}).get(arm, 100.0) + 0.1 * i
            made = _run(arm, seed, taken, (rates or {}).get(arm), (changes or {}).get(arm, {}))
            runs[MODEL, arm, seed] = made
            for name, count in ROWS.items():
                own = rows[name] + shift[name] + generator.normal(0, noise) + generator.normal(0, row_noise, count)
                ok = made["payload"]["status"] == "ok"
                failed = {} if ok else {"status": made["payload"]["status"], "reason": "it failed"}
                score = float(own.mean()) if ok else None
                evaluations[MODEL, arm, seed, name] = evaluation(MODEL, arm, seed, name, score, **failed)
                tables += [_table(arm, seed, name, own)] if ok else []
                if ok and name == "heldout":
                    made["payload"]["eval_loss"] = score
            planned.append({"model": MODEL, "arm": arm, "seed": seed, "headline": True, "benchmarks": list(ROWS)})
    campaigns = [{"name": "fit", "reports": [], "runs": planned}]
    ledger = build_ledger(campaigns, runs, evaluations)
    answers = pd.concat(tables, ignore_index=True).astype({"seed": "Int64", "tokens": "Int64"})
    payloads = {(arm, seed): envelope["payload"] for (_, arm, seed), envelope in runs.items()}
    folders = {key: Paths().adapter(MODEL, *key) for key in payloads}
    stats = summarise(ledger, answers=answers)
    return FitEvidence(stats, ledger, answers, payloads, folders, PLAN)


def _run(arm: str, seed: int, seconds: float, tried: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    own = {"learning_rate": 1e-3, "adapter": {"files": {"adapter_model.safetensors": f"{arm}{seed}"}}}
    if tried:
        ended = [each for each in tried.values() if each["status"] == "ok"]
        best = min(ended, key=lambda each: each["eval_loss"], default={"learning_rate": None})
        own |= {"learning_rate": best["learning_rate"], "rate_chosen_from": tried}
    return run(MODEL, arm, seed, seconds=seconds, probe=0.0 if arm == "std" else 1.0, **own, **changes)


def _table(arm: str, seed: int | None, benchmark: str, losses: np.ndarray) -> pd.DataFrame:
    cells: dict[str, Any] = dict.fromkeys(COLUMNS)
    cells |= {"model": MODEL, "arm": arm, "seed": seed, "benchmark": benchmark, "tokens": 20, "status": "ok"}
    return pd.DataFrame({**cells, "item": [str(i) for i in range(len(losses))], "loss": losses})[list(COLUMNS)]
