"""A run's steps where its settings state epochs: they follow from the rows that keep a target."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.loading import load_tokenizer
from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import checked_folder
from aletheia.study.arms import check_extra_steps
from aletheia.study.length_checks import check_steps
from aletheia.study.run_length import EPOCHS, STEPS, steps_of

if TYPE_CHECKING:
    from aletheia.training.run_inputs import RunInputs


def with_steps(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings with the number of its steps, which epochs leave open.

    Parameters
    ----------
    inputs
        The plan of batches or the table of tokens, whose rows count; without either the rows are encoded here.
    config
        Sections ``encoding`` and ``training`` of the run, among others.

    Returns
    -------
    dict
        ``config``; where ``training`` has epochs, with ``steps`` beside them.
    """
    training = config["training"]
    if training.get(EPOCHS) is None:
        return dict(config)
    return {**config, "training": {**training, STEPS: steps_of(training, _examples(inputs, config))}}


def check_length(config: Mapping[str, Any]) -> None:
    """Refuse settings that contradict the steps of a run's epochs, which nobody may have known before.

    Parameters
    ----------
    config
        As :func:`with_steps` returns it, with the whole section ``training``.

    Raises
    ------
    UserError
        When the steps are too few for the schedule, for a time or loss of a step, or for steps that the arm adds.
    """
    training, run = config["training"], config["run"]
    if training.get(EPOCHS) is None:
        return
    name = f"{run['model'] or 'model'}, arm {run['arm']}"
    # Which keys are defaults is not known here, so that each is taken as given.
    check_steps(training, training, training[STEPS], functools.partial(_error, f"{name}: training"))
    percent = config["arm"].get("extra_steps_percent")
    check_extra_steps(percent, training[STEPS], "this run", functools.partial(_error, f"{name}: arm"))


def _examples(inputs: RunInputs, config: Mapping[str, Any]) -> int:
    """Return the number of training rows that keep a target."""
    if inputs.batches:
        return artifacts.payload(inputs.batches, "batches")["examples"]
    rows = inputs.rows(config, lambda: load_tokenizer(checked_folder(inputs.model_lock, "model_lock")))
    return len(rows.encoded_rows("train").examples)


def _error(place: str, *keys_and_sentence: str) -> UserError:
    *keys, sentence = keys_and_sentence
    return UserError(f"{'.'.join([place, *keys])}: {sentence}")
