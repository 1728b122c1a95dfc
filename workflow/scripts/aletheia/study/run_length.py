"""How long a run is: a number of steps, or of epochs, whose steps follow from the rows that keep a target.

A section ``training`` states one of both; the other is None. Who overrides one of them replaces both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

STEPS, EPOCHS = "steps", "epochs"
LENGTHS = (STEPS, EPOCHS)


def with_one_length(stated: Mapping[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which the length that was stated last holds, and no other.

    Parameters
    ----------
    stated
        What was stated last.
    whole
        That, over earlier settings or defaults.

    Returns
    -------
    dict
        ``whole``, with None for ``epochs`` where ``stated`` has ``steps``, and the reverse; as it is where ``stated``
        has neither, or both.
    """
    given = [key for key in LENGTHS if stated.get(key) is not None]
    if len(given) != 1:
        return whole
    return {key: None if key in LENGTHS and key not in given else value for key, value in whole.items()}


def without_null_epochs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without ``epochs`` where they state steps: what is not stated makes no run out of date."""
    return {key: value for key, value in settings.items() if (key, value) != (EPOCHS, None)}


def steps_an_epoch(examples: int, settings: Mapping[str, Any]) -> int:
    """Return the optimiser steps of one epoch; an epoch leaves out the rows that fill no step.

    Parameters
    ----------
    examples
        Rows that keep a target.
    settings
        ``batch_size`` and ``accumulation``, whose product is the rows of a step.
    """
    return examples // (settings["batch_size"] * settings["accumulation"])


def steps_of(settings: Mapping[str, Any], examples: int | None) -> int | None:
    """Return the steps that a section ``training`` states, or that follow from its epochs.

    Parameters
    ----------
    settings
        ``steps`` or ``epochs``, ``batch_size`` and ``accumulation``.
    examples
        Rows that keep a target; None where nobody knows yet.

    Returns
    -------
    int or None
        round(epochs · (examples // rows of a step)), at least 1; None where that needs a number of rows that is not
        known.
    """
    if settings.get(EPOCHS) is None:
        return settings[STEPS]
    if examples is None:
        return None
    return max(1, round(settings[EPOCHS] * steps_an_epoch(examples, settings)))


def lengthened(steps: int, percent: float | None) -> int:
    """Return a number of steps with ``percent`` more, rounded."""
    return round(steps * (1 + (percent or 0) / 100))


def epochs_needed(epochs: float, percent: float | None) -> float:
    """Return how many epochs of rows a run may read, but for the last half, with ``percent`` more steps.

    It has at least one step, and rounding adds less than half of one; a step has at most as many rows as an epoch.
    """
    most = max(epochs, 0.5)
    return (most + 0.5) * (1 + percent / 100) if percent else most


def steps_of_plan_section(section: Mapping[str, Any], examples: int) -> int:
    """Return the steps of a plan of batches that serves every arm of a model and seed.

    Parameters
    ----------
    section
        Settings ``batches``: ``batch_size``, ``accumulation``, ``steps``, and ``epochs`` where some arm states these.
    examples
        Rows that keep a target.

    Returns
    -------
    int
        The larger of ``steps``, and what takes ``epochs`` and half an epoch more, since the steps of an arm are rounded
        and may have another number of rows.
    """
    size = section["batch_size"] * section["accumulation"]
    of_epochs = math.ceil((section[EPOCHS] + 0.5) * examples / size) if section.get(EPOCHS) else 0
    return max(section.get(STEPS) or 0, of_epochs, 1)


def length_in_words(settings: Mapping[str, Any], steps: int) -> str:
    """Return a run's length for sentences: ``training.steps (40)``, or the steps of its epochs."""
    epochs = settings.get(EPOCHS)
    return f"training.steps ({steps})" if epochs is None else f"the {steps} steps of training.epochs ({epochs:g})"
