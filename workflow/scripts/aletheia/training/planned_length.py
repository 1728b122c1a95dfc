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
    from aletheia.training.run import RunInputs


def with_steps(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings with the number of its steps, which epochs leave open.

    Parameters
    ----------
    inputs
        The plan of batches or the table of tokens, whose rows count; without either the rows are encoded here.
    config
        Sections ``arm``, ``encoding`` and ``training`` of the run, among others.

    Returns
    -------
    dict
        ``config``; where ``training`` has epochs, with ``steps`` beside them.

    Raises
    ------
    UserError
        When these steps are too few for the schedule, for a time or loss of a step, or for steps that the arm adds.
    """
    training = config["training"]
    if training.get(EPOCHS) is None:
        return dict(config)
    steps = steps_of(training, _examples(inputs, config))
    name = f"{config['run']['model'] or 'model'}, arm {config['run']['arm']}"
    # Which keys are defaults is not known here, so that each is taken as given.
    check_steps(training, training, steps, functools.partial(_error, f"{name}: training"))
    percent = config["arm"].get("extra_steps_percent")
    check_extra_steps(percent, steps, "this run", functools.partial(_error, f"{name}: arm"))
    return {**config, "training": {**training, STEPS: steps}}


def _examples(inputs: RunInputs, config: Mapping[str, Any]) -> int:
    """Return the number of training rows that keep a target."""
    if inputs.batches:
        return artifacts.payload(inputs.batches, "batches")["examples"]
    rows = inputs.rows(config, lambda: load_tokenizer(checked_folder(inputs.model_lock, "model_lock")))
    return len(rows.encoded_rows("train").examples)


def _error(place: str, *keys_and_sentence: str) -> UserError:
    *keys, sentence = keys_and_sentence
    return UserError(f"{'.'.join([place, *keys])}: {sentence}")
