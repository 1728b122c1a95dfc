"""Settings that contradict a run's length: both kinds of it at one place, and what asks for more steps than there are.

Where a run's steps follow from epochs, and nobody knows the rows when the study is read, the same is checked when its
training starts (:mod:`aletheia.training.planned_length`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aletheia.study.run_length import EPOCHS, LENGTHS, STEPS, length_in_words

if TYPE_CHECKING:
    from aletheia.study.arms import MakeError


def check_one_length(stated: Mapping[str, Any], say: MakeError) -> None:
    """Refuse steps and epochs at one place, and epochs without a number.

    Parameters
    ----------
    stated
        What one place states: a section ``training``, or an arm.
    say
        Makes the error: ``say(*keys, sentence)``.

    Raises
    ------
    UserError
        With the key, and what to write instead.
    """
    if all(key in stated for key in LENGTHS):
        raise say(
            EPOCHS,
            f"found {stated[EPOCHS]} beside steps: {stated[STEPS]}, and each says how long a run is; take one of both "
            "out",
        )
    if EPOCHS in stated and stated[EPOCHS] is None:
        raise say(EPOCHS, "expected a number, found nothing; write one, or take it out and state steps")


def check_steps(given: Mapping[str, Any], settings: Mapping[str, Any], steps: int, say: MakeError) -> None:
    """Refuse a schedule that is all warm-up, a run without a step to time, and what would never happen in its steps.

    Parameters
    ----------
    given
        The keys of ``training`` that the user wrote.
    settings
        The whole section.
    steps
        Of the run (:func:`aletheia.study.run_length.steps_of`).
    say
        Makes the error: ``say(*keys, sentence)``, with the keys below ``training``.

    Raises
    ------
    UserError
        With the key, and what to write instead. (The default of 20 warm-up steps is a tenth of the paper's 200 steps;
        with fewer, the user has to state it.)
    """
    length = length_in_words(settings, steps)
    if (settings["curve_every"] or 0) >= steps:
        raise say(
            "curve_every",
            f"expected less than {length}, found {settings['curve_every']}: no loss would be taken on the way; write "
            f"{max(1, steps // 10)}",
        )
    active = settings["layers_active"]
    if active and active["every"] >= steps:
        raise say(
            "layers_active",
            f"expected every to be less than {length}, found {active['every']}: the first layers drawn would train "
            f"alone; write {max(1, steps // 10)}",
        )
    bounds = {"timing_warmup_steps": ("no step would be left to time", min(1, steps - 1))}
    if settings["schedule"] != "constant":
        bounds = {"warmup_steps": ("the rate would not fall", steps // 10), **bounds}
    for key, (effect, better) in bounds.items():
        value = settings[key]
        if value >= steps and key in given:
            raise say(key, f"expected less than {length}, found {value}: {effect}; write {better}")
        if value >= steps:
            stated = EPOCHS if settings.get(EPOCHS) is not None else STEPS
            found = f"{steps}" if stated == STEPS else f"{settings[EPOCHS]:g}, which is {steps} steps"
            raise say(stated, f"found {found}, but {key} is {value} where not given: {effect}; add {key}: {better}")
