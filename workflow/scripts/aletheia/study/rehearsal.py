"""A rehearsal of a study: stand-ins of random weights for its models, and settings that are small enough for a CPU.

Only the configuration can ask for them, never a campaign, so that no such setting can reach a study of real models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.study.recipes import SECTIONS, decided_elsewhere
from aletheia.study.run_length import LENGTHS
from aletheia.study.schema import check


def rehearsed_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a configuration lays over those of its campaigns; none for a study of real models.

    Parameters
    ----------
    config
        The study's configuration, defaults filled in.

    Raises
    ------
    UserError
        For settings without ``stand_ins: true``, and for what no campaign may set.
    """
    settings = config.get("rehearsal", {})
    if settings and not config["stand_ins"]:
        raise UserError(
            "config: rehearsal would lay its settings over those of real models; add stand_ins: true, or take "
            "rehearsal out"
        )
    check(settings, "campaign", "config: rehearsal", partly=True)
    return settings


def without_rehearsed_keys(arm: Mapping[str, Any], rehearsed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a campaign's arm without what a rehearsal states: its settings lie over the arm's too."""
    stated = {key for section in SECTIONS for key in rehearsed.get(section, {})}
    if stated.intersection(LENGTHS):
        stated |= {*LENGTHS}
    return {key: value for key, value in arm.items() if key not in stated or key in decided_elsewhere(arm)}


def with_stand_ins(
    models: Mapping[str, Mapping[str, Any]], campaigns: Iterable[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the registry of models with each stand-in in its model's place; the keys that plan jobs stay the model's.

    Parameters
    ----------
    models
        The registry.
    campaigns
        Whose models need a stand-in; others of the registry may lack one.

    Raises
    ------
    UserError
        For a campaign's model without one.
    """
    for name in (name for campaign in campaigns for name in campaign["models"]):
        if name in models and "stand_in" not in models[name]:
            raise UserError(
                f"model {name}: the study is made of stand-ins, and the registry has none for it; give it one "
                "(stand_in: {config: {model_type: …}}), or take stand_ins: true out of the configuration"
            )
    return {name: _stand_in(entry) if "stand_in" in entry else entry for name, entry in models.items()}


def _stand_in(entry: Mapping[str, Any]) -> dict[str, Any]:
    # Nobody has to license random numbers, or to accept terms for them, and they answer no question.
    kept = {key: value for key, value in entry.items() if key not in ("licence", "gated", "published_scores")}
    return {**kept, "source": {"type": "random", **entry["stand_in"]}}
