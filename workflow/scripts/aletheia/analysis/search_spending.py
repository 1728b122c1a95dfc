"""What a search has spent, in runs or in seconds by the measured costs, and what of its next wishes it can pay for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aletheia.analysis.search_rows import Prices, Row
from aletheia.search.equal_time import affordable
from aletheia.search.space import Space
from aletheia.search.trials import Trial


def spent(space: Space, rows: Iterable[Row], known: Prices) -> dict[str, Any]:
    """Return what some rungs have taken.

    Returns
    -------
    dict
        ``runs``; ``seconds`` of these runs without probes, ``measuring`` and ``probes``, each in seconds and None where
        not known; ``of``, the budget; ``left`` of it.
    """
    rows = list(rows)
    trained = [known.training_seconds(row["recipe"], row["steps"]) for row in rows]
    measuring = [each["measured_seconds"] for each in known.costs.values() if each["measured_seconds"] is not None]
    # One probe serves all recipes of a seed.
    probes = max((each["probe_seconds"] or 0.0 for each in known.costs.values()), default=0.0)
    seconds = None if known.std_seconds is None else sum(each or 0.0 for each in trained)
    total = None if seconds is None else seconds + sum(measuring) + probes
    budget = space.budget_runs if space.budget_runs is not None else space.budget_seconds
    used = len(rows) if space.budget_runs is not None else total
    return {
        **{"runs": len(rows), "seconds": seconds, "measuring": sum(measuring), "probes": probes, "total": total},
        "of": {"unit": "runs" if space.budget_runs is not None else "seconds", "budget": budget},
        "left": None if used is None else max(0.0, budget - used),
    }


def bought(space: Space, wishes: Sequence[Trial], left: float | None, known: Prices) -> tuple[list[Trial], list[Trial]]:
    """Return the trials that the rest of a budget pays for, in their order, and those that it does not."""
    if left is None:
        return list(wishes), []
    chosen = affordable([_price(space, trial, known) for trial in wishes], left)
    return [wishes[place] for place in chosen.bought], [wishes[place] for place in chosen.refused]


def _price(space: Space, trial: Trial, known: Prices) -> float:
    if space.budget_runs is not None:
        return 1.0
    # At equal seconds every run takes those of std.
    return trial.std_steps * (known.std_seconds or 0.0)


def asked_entries(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Return trials as an artifact lists them, each once."""
    entries: Mapping[tuple[str, int], dict[str, Any]] = {
        (trial.arm_name, trial.seed): {
            **{"rung": trial.rung, "arm": trial.arm_name, "recipe": trial.recipe},
            **{"rate": trial.rate, "seed": trial.seed},
        }
        for trial in trials
    }
    return list(entries.values())
