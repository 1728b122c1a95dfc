"""Arms with as many steps as take the time of another arm's (``steps: {seconds_of: ARM}``), and what arms claim.

How many steps these are follows from the step costs that the model's attribution has measured; which attribution that
is, and what of the other arm decides its step's time, stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.study.arms import SHAPE, MakeError, arms_with
from aletheia.study.recipes import MEASURED, timed_arm
from aletheia.study.run_length import LENGTHS, STEPS, lengthened
from aletheia.study.schema_sentences import nearest
from aletheia.study.selectors import COSTS
from aletheia.study.study import Run, Study

# What of an arm's adapters decides a step's time.
ADAPTER_KEYS = ("modules", "rank", "alpha")


def settle_steps(study: Study) -> None:
    """Give each run of such an arm the steps and adapters of the other arm, once all campaigns are loaded.

    ``training.steps``, or ``epochs``, is then that of the other arm, and ``steps`` of the arm's own settings gains
    ``adapter`` and ``gradient_checkpointing`` of the other, beside epochs also its ``extra_steps_percent``.

    Parameters
    ----------
    study
        Whose runs are changed.

    Raises
    ------
    UserError
        When the other arm is no run of the same model and seed, has no plain number of steps, or has steps that the
        measured costs do not compare; when no arm of the model is probed.
    """
    for campaign, model, arm, entry, say in arms_with("steps", study.campaigns):
        if timed_arm(entry):
            for seed in campaign["seeds"]:
                run = study.run(model, arm, seed)
                _settle(run, _other(study, run, timed_arm(entry), say))


def check_claims(study: Study) -> None:
    """Refuse an arm that claims to share something with an arm that its model lacks.

    Raises
    ------
    UserError
        With the names that are near.
    """
    for _, model, arm, entry, say in arms_with("equal", study.campaigns):
        for what, name in entry["equal"].items():
            others = [other for of, other in study.asked if of == model and other != arm]
            if name not in others:
                near = nearest(name, others)
                raise say("equal", what, f"found {name!r}, and {model} has no other arm of that name{near}")


def models_with_costs(study: Study) -> list[str]:
    """Return the models whose measured step costs some run's layers, or number of steps, follow from."""
    needing = (run for run in study.runs.values() if run.reads == COSTS or timed_arm(run.arm_settings))
    return list(dict.fromkeys(run.model for run in needing))


def _other(study: Study, run: Run, name: str, say: MakeError) -> Run:
    """Return the run whose time an arm's steps take, after checking that the measured costs compare both."""
    other = study.runs.get((run.model, name, run.seed))
    if other is None:
        arms = [each.arm for each in study.runs.values() if (each.model, each.seed) == (run.model, run.seed)]
        raise say(
            *("steps", "seconds_of"),
            f"found {name!r}, and {run.model} has no arm of that name with seed {run.seed}{nearest(name, arms)}",
        )
    if other.arm_settings.get("steps") == MEASURED or timed_arm(other.arm_settings):
        raise say(
            "steps", "seconds_of", f"found {name}, whose own steps follow from times; name an arm with a plain number"
        )
    costs = study.attributed_runs().get(run.model)
    if costs is None:
        raise say(
            *("steps", "seconds_of"),
            f"needs the step costs of {run.model}, which are measured with the layers of a probe; add an arm with "
            "layers: gradient",
        )
    turning = next((each.arm for each in (run, other) if each.settings["training"]["layers_active"]), None)
    if turning:
        raise say(
            *("steps", "seconds_of"),
            f"compares {run.arm} and {name} by step costs that know nothing of layers_active, which {turning} has; "
            "state a number of steps",
        )
    for section, key in (*(("training", key) for key in SHAPE), ("adapter", "modules")):
        found = [each.settings[section][key] for each in (run, other, costs)]
        if any(value != found[0] for value in found):
            raise say(
                *("steps", "seconds_of"),
                f"compares {run.arm} and {name} by step costs that are measured with the settings of {costs.arm}, and "
                f"{key} differs among them; make it equal in all three",
            )
    return other


def _settle(run: Run, other: Run) -> None:
    length = {key: other.settings["training"][key] for key in LENGTHS}
    percent = other.arm_settings.get("extra_steps_percent")
    if length[STEPS] is not None:
        length[STEPS] = lengthened(length[STEPS], percent)
    decisive: dict[str, Any] = {
        "seconds_of": other.arm,
        "adapter": {key: other.settings["adapter"][key] for key in ADAPTER_KEYS},
        "gradient_checkpointing": other.settings["training"]["gradient_checkpointing"],
    }
    if percent and length[STEPS] is None:
        # These steps follow from the rows, so that the training adds to them.
        decisive["extra_steps_percent"] = percent
    run.arm_settings = {**run.arm_settings, "steps": decisive}
    training: Mapping[str, Any] = {**run.settings["training"], **length}
    run.settings = {**run.settings, "training": training}
