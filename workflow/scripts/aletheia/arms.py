"""Arms of a campaign: which rule trains each, and which of the campaign's models have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.config import nearest
from aletheia.errors import UserError

BASELINE = "std"
MATCHED = "ale"


def rule_of(arm: Mapping[str, Any]) -> str:
    """Return which rule trains an arm: ``train_std`` (all layers), ``train_cm`` (bought steps), else ``train_ale``."""
    if arm.get("steps") or arm.get("extra_steps_percent"):
        return "train_cm"
    return "train_std" if arm["layers"] == "all" else "train_ale"


def arms_of(campaign: Mapping[str, Any], model: str) -> list[str]:
    """Return the arms that a model of a campaign has: those that name it, and those that name no models."""
    return [arm for arm, entry in campaign["arms"].items() if model in entry.get("models", campaign["models"])]


def meaning(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a run of an arm: all but which models have it."""
    return {key: value for key, value in arm.items() if key != "models"}


def check_arms(campaign: Mapping[str, Any]) -> None:
    """Hold a campaign's arms against its models.

    Parameters
    ----------
    campaign
        With its ``path``, ``models`` and ``arms``.

    Raises
    ------
    UserError
        When an arm names a model that the campaign has not, a model has no arm, or an arm of measured steps lacks the
        two arms that decide them.
    """
    for arm, entry in campaign["arms"].items():
        where = f"{campaign['path']}: arms.{arm}"
        for model in entry.get("models", []):
            if model not in campaign["models"]:
                near = nearest(model, campaign["models"])
                raise UserError(f"{where}.models: {model!r} is no model of the campaign{near}")
        for model in entry.get("models", campaign["models"]):
            if entry.get("steps") and not {BASELINE, MATCHED} <= set(arms_of(campaign, model)):
                raise UserError(f"{where}.steps: measured needs the arms std and ale for {model} too")
    for model in campaign["models"]:
        if not arms_of(campaign, model):
            raise UserError(f"{campaign['path']}: no arm has the model {model!r}; name it in one, or take it out")
