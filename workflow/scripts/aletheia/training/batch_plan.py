"""The plan of batches: the examples of each micro-batch, drawn once for a model and a seed, and read by every arm."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError
from aletheia.method.token_batch import TokenBatch
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import compact_json
from aletheia.seeded_order import seeded_order
from aletheia.study.arms import SHAPE
from aletheia.study.run_length import steps_an_epoch
from aletheia.training.encoded_rows import EncodedRows
from aletheia.training.encoding import collate
from aletheia.training.token_table import TokenRows


@dataclass(frozen=True)
class PlannedBatches:
    """The micro-batches of a run.

    Attributes
    ----------
    batches
        Collated, in order.
    sha256
        Hash of the row indices in the micro-batches.
    row_counts
        What became of the training rows (:meth:`aletheia.training.encoded_rows.EncodedRows.counts`); None where the
        plan of an earlier version does not say.
    """

    batches: list[TokenBatch]
    sha256: str
    row_counts: dict[str, int] | None


def draw_order(examples: int, count: int, *, step_rows: int, seed: int) -> list[int]:
    """Draw the order of the training examples.

    The first epoch is one permutation of them, drawn from the seed and cut into pieces of one optimiser step, without
    the remainder that fills none. Each later epoch has the same pieces, in an order drawn from (seed, epoch): its
    micro-batches, and their padding, are those of the first epoch. So no example comes twice in an epoch, and a longer
    order begins with the shorter one: the first steps of every arm see the same examples in the same order. An arm
    whose optimiser step divides the plan's has the same micro-batches in each epoch, too.

    Parameters
    ----------
    examples
        Number of examples.
    count
        Length of the order.
    step_rows
        Examples in an optimiser step.
    seed
        Of the order.

    Raises
    ------
    UserError
        When there are fewer examples than one optimiser step needs.
    """
    if examples < step_rows:
        raise UserError(
            f"the training data has {examples} usable rows, fewer than an optimiser step needs "
            f"(training.batch_size · training.accumulation = {step_rows}); lower one of both or add rows"
        )
    permutation = seeded_order(range(examples), seed=f"{seed}:epoch0")
    starts = range(0, examples // step_rows * step_rows, step_rows)
    drawn, epoch, pieces = [], 0, list(starts)
    while len(drawn) < count:
        drawn += [example for start in pieces for example in permutation[start : start + step_rows]]
        epoch += 1
        pieces = seeded_order(starts, seed=f"{seed}:epoch{epoch}")
    return drawn[:count]


def split_into_micro_batches(
    order: Sequence[int], lengths: Mapping[int, int] | Sequence[int], *, batch_size: int, accumulation: int
) -> list[list[int]]:
    """Split an order of examples into micro-batches.

    The examples of an optimiser step are sorted by length before they are split. The step's gradient is a sum over all
    of them, so this changes the padding alone.

    Parameters
    ----------
    order
        Example indices; a remainder that fills no optimiser step is left out.
    lengths
        Tokens of each example.
    batch_size, accumulation
        Examples in a micro-batch, and micro-batches in an optimiser step.
    """
    size, plan = batch_size * accumulation, []
    for first in range(0, len(order) // size * size, size):
        # Stable: of equal lengths the first drawn comes first.
        of_step = sorted(order[first : first + size], key=lengths.__getitem__)
        plan += [of_step[start : start + batch_size] for start in range(0, size, batch_size)]
    return plan


def plan_batches(
    lengths: Sequence[int], *, steps: int, batch_size: int, accumulation: int, seed: int
) -> list[list[int]]:
    """Return the example indices of each micro-batch, in order: ``steps * accumulation`` lists.

    Parameters
    ----------
    lengths
        Tokens of each example.
    steps, accumulation
        Optimiser steps, and micro-batches in each.
    batch_size
        Examples in a micro-batch.
    seed
        Of the order (:func:`draw_order`).
    """
    step_rows = batch_size * accumulation
    order = draw_order(len(lengths), steps * step_rows, step_rows=step_rows, seed=seed)
    return split_into_micro_batches(order, lengths, batch_size=batch_size, accumulation=accumulation)


def batches_payload(
    encoded: EncodedRows, *, model: str | None, seed: int, steps: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the payload of a ``batches`` artifact.

    Parameters
    ----------
    encoded
        The training rows.
    model, seed
        Whose plan it is.
    steps
        Of the plan (:func:`aletheia.study.run_length.steps_of_plan_section`).
    settings
        ``batch_size`` and ``accumulation``.
    """
    lengths, rows = encoded.example_lengths, encoded.rows.tolist()
    shape = {key: settings[key] for key in SHAPE}
    step_rows = shape["batch_size"] * shape["accumulation"]
    order = draw_order(len(lengths), steps * step_rows, step_rows=step_rows, seed=seed)
    plan = split_into_micro_batches(order, lengths, **shape)
    return {
        "model": model,
        "seed": seed,
        "steps": steps,
        "steps_an_epoch": steps_an_epoch(len(rows), shape),
        **shape,
        "examples": len(rows),
        "tokens": sum(lengths[i] for micro in plan for i in micro),
        "padded_tokens": sum(len(micro) * max(lengths[i] for i in micro) for micro in plan),
        "rows": [[rows[i] for i in micro] for micro in plan],
        # In the order of the draw, for arms with micro-batches of another shape.
        "order": [rows[i] for i in order],
    }


def first_batches(payload: Mapping[str, Any], *, steps: int, seed: int, settings: Mapping[str, Any]) -> list[list[int]]:
    """Return the row indices of an arm's steps, as micro-batches where the arm has the plan's shape.

    Parameters
    ----------
    payload
        Of a ``batches`` artifact.
    steps, seed, settings
        Of the arm; the plan must be of this seed.

    Returns
    -------
    list of list of int
        The plan's micro-batches where the arm has its shape; one list of all rows as they were drawn where it has
        another, which is then for :func:`split_into_micro_batches`.

    Raises
    ------
    UserError
        When the plan has another seed or fewer steps than the arm.
    """
    if payload["seed"] != seed:
        raise UserError(f"batches: expected a plan with seed {seed}, found {payload['seed']}; draw one anew")
    same_shape = _has_shape(payload, settings)
    if not same_shape and "order" not in payload:
        raise UserError("batches: expected a plan with the order of its rows, found an earlier one; draw it anew")
    size = settings["batch_size"] * settings["accumulation"]
    available = payload["steps"] * payload["batch_size"] * payload["accumulation"] // size
    if steps > available:
        raise UserError(
            f"batches: expected a plan of at least {steps} steps, found {available}; an arm may buy as many as the "
            "plan has"
        )
    return payload["rows"][: steps * payload["accumulation"]] if same_shape else [payload["order"][: steps * size]]


def _has_shape(payload: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    return all(payload[key] == settings[key] for key in SHAPE)


def planned_batches(
    rows: TokenRows,
    pad_token_id: int,
    settings: Mapping[str, Any],
    *,
    plan: artifacts.Source | None,
    steps: int,
    seed: int,
) -> PlannedBatches:
    """Return the micro-batches of a run's steps.

    Parameters
    ----------
    rows
        Of the training data (:func:`aletheia.training.token_table.token_rows`).
    pad_token_id
        Token that pads a batch.
    settings
        The section ``training``.
    plan
        The ``batches`` artifact, which all arms of the model and seed read; None draws the batches here, for a run by
        hand. For an arm of another shape its rows are split into micro-batches of that shape.
    steps, seed
        Of the run.

    Raises
    ------
    UserError
        When the plan is another's, is too short, or names rows that the data has not.
    """
    if plan:
        payload = artifacts.payload(plan, "batches")
        micro_batches = first_batches(payload, steps=steps, seed=seed, settings=settings)
        wanted, row_count = sorted({row for micro in micro_batches for row in micro}), rows.count("train")
        if wanted[-1] >= row_count:
            raise UserError(f"{plan}: row {wanted[-1]} is not in {rows.folder}, which has {row_count}; draw one anew")
        encoded = rows.encoded_rows("train", wanted, what="rows")
        examples = {wanted[example["row"]]: example for example in encoded.examples}
        counts = payload["row_counts"]["train"] if "row_counts" in payload else None
        lost = next((row for row in wanted if row not in examples), None)
        if lost is not None:
            raise UserError(f"{plan}: row {lost} keeps no target with these encoding settings; draw one anew")
        if not _has_shape(payload, settings):
            lengths = {row: len(example["input_ids"]) for row, example in examples.items()}
            micro_batches = split_into_micro_batches(micro_batches[0], lengths, **{key: settings[key] for key in SHAPE})
    else:
        encoded = rows.encoded_rows("train")
        micro_batches = batches_payload(encoded, model=None, seed=seed, steps=steps, settings=settings)["rows"]
        used = {row for micro in micro_batches for row in micro}
        examples = {row: encoded.examples[index] for index, row in enumerate(encoded.rows.tolist()) if row in used}
        counts = encoded.counts()
    return PlannedBatches(
        [collate([examples[row] for row in micro], pad_token_id) for micro in micro_batches],
        hashlib.sha256(compact_json(micro_batches).encode()).hexdigest(),
        counts,
    )
