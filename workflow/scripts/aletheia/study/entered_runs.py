"""What enters a run into a study: the sections that it reads, and its place in the plan of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import SHAPE, plan_needs
from aletheia.study.recipes import recipe
from aletheia.study.schema import merge
from aletheia.study.study import Run, Study


def recipe_sections(arm: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of an arm's runs: the model's, with what the arm states."""
    return {section: merge(settings[section], stated) for section, stated in recipe(arm, settings).items()}


def enter_plan(study: Study, campaign: Mapping[str, Any], run: Run, common: Mapping[str, Any]) -> None:
    """Enter a run into the plan of batches that all arms of its model and seed read.

    Its shape is that of ``common``, the campaign's section ``training`` for the model; an arm of another shape cuts the
    plan's rows otherwise.

    Raises
    ------
    UserError
        When an earlier campaign has planned this model and seed in another shape.
    """
    shape = {key: common[key] for key in SHAPE}
    plan = study.batches.setdefault((run.model, run.seed), shape)
    differing = [key for key, value in shape.items() if plan[key] != value]
    if differing:
        raise UserError(
            f"{campaign['path']}: {run.model} has another training.{differing[0]} in an earlier campaign with the same "
            "seeds; its arms read one plan of batches, so make it equal, or state it in arms instead"
        )
    for key, needed in plan_needs(common, run.settings["training"], run.arm_settings).items():
        plan[key] = max(plan.get(key, 0), needed)
