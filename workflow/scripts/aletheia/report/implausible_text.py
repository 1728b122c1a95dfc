"""Implausible base scores as sentences: ours, the published one beside it, and where that stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.validity import STANDARD_ERRORS, implausible
from aletheia.report.table_text import number


def implausible_bases(campaigns: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one sentence a model and benchmark whose base score is implausible; campaigns that share one say it once.

    Parameters
    ----------
    campaigns
        Of the statistics.
    """
    models = [(model, model["base_validity"]) for campaign in campaigns for model in campaign["models"]]
    found = (_sentence(model["model"], name, known[name]) for model, known in models for name in implausible(known))
    return list(dict.fromkeys(found))


def _sentence(model: str, benchmark: str, found: Mapping[str, Any]) -> str:
    asked = f" of {found['questions']} questions" if found["questions"] is not None else ""
    return (
        f"{model}, {TITLES[benchmark]}: the base model has {number(100 * found['base'], 1)} %{asked} right, and "
        f"{number(found['published_percent'], 1)} % is published ({found['source']}). That is below by more than "
        f"{found['tolerance_points']:g} points and {STANDARD_ERRORS:g} standard errors, so the asking or the judging "
        "is at fault, and no change of this score counts."
    )
