"""Held-out losses of a model's arms by seed: their differences, and each choice's place among the random draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from aletheia.analysis.benchmarks import stem_of
from aletheia.analysis.controls_arms import RANDOM, SAME_LOWEST, Arms, choice, draws_for
from aletheia.analysis.stats import estimate
from aletheia.inference.randomisation import Randomisation, combined_test, randomisation_test
from aletheia.study.benchmarks import HELDOUT

BENCHMARK, TRAINING = "heldout", "eval_loss"  # the evaluation's rows, or those that trainings end with
DRAWS = (RANDOM, SAME_LOWEST)
FEWEST_DRAWS = 2  # beside a single one p is a half at the least


def losses(rows: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return held-out losses in nats, a row a seed and a column an arm, and which ones they are.

    Those of the evaluation where every arm with a run that ended well was evaluated, since it may read rows that
    chose nothing; else those that the trainings end with. Empty where a run failed.

    Parameters
    ----------
    rows
        The ledger's, of one campaign and model.
    """
    ended, column = rows[rows["status"] == "ok"], stem_of(HELDOUT)
    evaluated = column in ended and len(ended) > 0 and ended.groupby("arm")[column].count().min() > 0
    name = column if evaluated else "eval_loss"
    table = rows.assign(value=rows[name].astype("float64").where(rows["status"] == "ok"))
    order = list(dict.fromkeys(rows["arm"]))
    return BENCHMARK if evaluated else TRAINING, table.pivot(index="seed", columns="arm", values="value")[order]


def difference(table: pd.DataFrame, arm: str, other: str | None) -> dict[str, Any]:
    """Return the estimate of arm − other over the seeds that have both; without a value where there is no other."""
    if other is None or not {arm, other} <= set(table):
        return estimate([])
    return estimate(table[arm] - table[other])


def draws_block(table: pd.DataFrame, draws: Sequence[str]) -> dict[str, Any] | None:
    """Return the losses of random draws, each its mean over the seeds that all draws with a loss have.

    Returns
    -------
    dict or None
        ``{seeds, losses: {draw: mean}, lost}``; ``lost`` are draws without a single loss. None where no seed is left.
    """
    with_loss = [draw for draw in draws if draw in table and table[draw].notna().any()]
    whole = table[with_loss].dropna()
    if not with_loss or whole.empty:
        return None
    lost = [draw for draw in draws if draw not in with_loss]
    return {
        "seeds": [int(seed) for seed in whole.index],
        "losses": {draw: float(value) for draw, value in whole.mean().items()},
        "lost": lost,
    }


def against_draws(table: pd.DataFrame, arms: Arms, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each arm's place among the random draws that differ from it in the choice of layers alone.

    The draws with a choice's lowest layer are for choices with that same layer in every seed: their backward pass is
    as long. An arm of which no seed has a loss beside all draws has no test, nor has one beside a single draw.

    Parameters
    ----------
    table
        Of :func:`losses`.
    arms
        Entries of the campaign for the model.
    rows
        The ledger's, of the same campaign and model.
    """
    adapted = rows.groupby("arm")["layers_adapted"].max().astype("float64")
    known = {arm: None if pd.isna(value) else float(value) for arm, value in adapted.items()}
    lowest = rows.pivot(index="seed", columns="arm", values="lowest_layer")
    tests = []
    for arm, entry in arms.items():
        for kind in DRAWS if choice(arm, entry).kind not in DRAWS and arm in table else ():
            draws = draws_for(arms, arm, kind, known)
            if kind == SAME_LOWEST:
                draws = [draw for draw in draws if draw in lowest and _equal(lowest[arm], lowest[draw])]
            test = _test(table, arm, draws)
            if test is not None:
                tests.append({"arm": arm, "against": kind, **test})
    return tests


def _equal(first: pd.Series, second: pd.Series) -> bool:
    both = pd.concat([first, second], axis=1).dropna()
    return len(both) > 0 and bool((both.iloc[:, 0] == both.iloc[:, 1]).all())


def _test(table: pd.DataFrame, arm: str, draws: Sequence[str]) -> dict[str, Any] | None:
    block = draws_block(table.loc[table[arm].notna()], draws)
    if block is None or len(block["losses"]) < FEWEST_DRAWS:
        return None
    values, own = list(block["losses"].values()), float(table.loc[block["seeds"], arm].mean())
    spread = estimate(values)
    return {
        **{"seeds": block["seeds"], "lost": block["lost"], "loss": own},
        **{"draws_mean": spread["mean"], "draws_sd": spread["sd"], "draws_min": min(values), "draws_max": max(values)},
        "difference": own - spread["mean"],
        **_told(randomisation_test(own, values)),
    }


def _told(test: Randomisation) -> dict[str, Any]:
    return asdict(test) | {"p": test.p, "p_worse": test.p_worse, "smallest_p": test.smallest_p}


def combined(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each arm's tests of a campaign's headline models together, against each kind of draws.

    Parameters
    ----------
    models
        With ``headline`` and ``tests``.
    """
    found: dict[tuple[str, str], list[Randomisation]] = {}
    for model in models:
        for test in model["tests"] if model["headline"] else ():
            made = Randomisation(**{key: test[key] for key in ("draws", "rank", "rank_from_worst")})
            found.setdefault((test["arm"], test["against"]), []).append(made)
    return [{"arm": arm, "against": kind, **asdict(combined_test(tests))} for (arm, kind), tests in found.items()]
