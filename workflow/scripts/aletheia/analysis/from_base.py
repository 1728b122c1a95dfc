"""An arm's losses against the base model's, paired over rows: did fine-tuning help at all?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from aletheia.analysis.effects import NATS
from aletheia.analysis.verdicts import Stated, conclude
from aletheia.inference.questions import paired_difference
from aletheia.study.paths import BASE

_NOTHING = dict.fromkeys(("mean", "se", "df", "low", "high", "p"))


def loss_from_base(
    answers: pd.DataFrame | None, stated: Stated, *, model: str, arm: str, seeds: Sequence[int], benchmark: str
) -> dict[str, Any]:
    """Return the mean difference of losses, arm − base, with its error over rows and seeds, and its verdict.

    A verdict is of the adapters that were trained. With one seed the error is that over rows, which says how this one
    adapter does on further rows and nothing of another seed; so its verdict stands, unlike that of a comparison of two
    arms.

    Parameters
    ----------
    answers
        The table of answers, with those of the base model; None where there is none.
    stated
        The plan.
    model, arm
        Their names.
    seeds
        Of the runs that ended well.
    benchmark
        One with losses: ``heldout`` or ``retention``.

    Returns
    -------
    dict
        ``{n, seeds, mean, low, high, p, verdict, reason}``: nats a token, negative where the arm's loss is lower; ``n``
        counts the rows that base model and all seeds have a loss of. Without any the mean is None.
    """
    found = _paired(answers, model, arm, seeds, benchmark)
    verdict = conclude(found, higher_is_better=False, unit=NATS, stated=stated)
    kept = {key: found[key] for key in ("mean", "low", "high", "p")}
    told = {"verdict": verdict["verdict"], "reason": verdict["reason"]}
    return {"n": found["n_questions"], "seeds": found["n_seeds"], **kept, **told}


def _paired(
    answers: pd.DataFrame | None, model: str, arm: str, seeds: Sequence[int], benchmark: str
) -> Mapping[str, Any]:
    nothing = {"n_questions": 0, "n_seeds": 0, **_NOTHING}
    if answers is None or not seeds:
        return nothing
    asked = answers[(answers["model"] == model) & (answers["benchmark"] == benchmark)]
    base = asked[asked["arm"] == BASE].set_index("item")
    own = asked[(asked["arm"] == arm) & asked["seed"].isin(list(seeds))]
    if base.empty or own.empty:
        return nothing
    by_seed = own.assign(loss=own["loss"].astype("float64")).pivot_table(
        index="item", columns="seed", values="loss", observed=True
    )
    tokens = base["tokens"].astype("float64").fillna(0)
    differences = by_seed.reindex(base.index).sub(base["loss"].astype("float64"), axis=0).where(tokens > 0)
    return asdict(paired_difference(differences.T.to_numpy(), weights=tokens.to_numpy()))
