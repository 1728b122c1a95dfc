"""Which examples each micro-batch holds: drawn once for a model and a seed, and read by every arm."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError
from aletheia.method.token_batch import TokenBatch
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import compact_json
from aletheia.seeded_order import ranked
from aletheia.training.encoded_rows import Encoded
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
        Of which rows they hold.
    row_counts
        What became of the training rows (:meth:`aletheia.training.encoded_rows.Encoded.counts`); None where a plan of
        an earlier version does not say.
    """

    batches: list[TokenBatch]
    sha256: str
    row_counts: dict[str, int] | None


def plan_batches(
    lengths: Sequence[int], *, steps: int, batch_size: int, accumulation: int, seed: int
) -> list[list[int]]:
    """Return which examples each micro-batch holds, in order.

    Each epoch is one permutation, drawn from (seed, epoch), cut into groups of ``batch_size``; what is left over is not
    used in that epoch. So no example comes twice in an epoch, and a longer plan begins with the shorter one: the first
    steps of every arm see the same examples in the same order.

    Within an optimiser step the examples are dealt to its micro-batches by length. The step's gradient is a sum over
    all of them, so that only the padding changes.

    Parameters
    ----------
    lengths
        Tokens of each example.
    steps, accumulation
        Optimiser steps, and micro-batches in each.
    batch_size
        Examples in a micro-batch.
    seed
        Of the order.

    Returns
    -------
    list of list of int
        ``steps * accumulation`` micro-batches of indices.

    Raises
    ------
    UserError
        When there are fewer examples than one micro-batch needs.
    """
    if len(lengths) < batch_size:
        raise UserError(
            f"the training data has {len(lengths)} usable rows, fewer than "
            f"training.batch_size={batch_size}; lower the batch size or add rows"
        )
    drawn: list[int] = []
    epoch = 0
    while len(drawn) < steps * accumulation * batch_size:
        order = ranked(range(len(lengths)), seed=f"{seed}:epoch{epoch}")
        drawn += order[: len(order) // batch_size * batch_size]
        epoch += 1
    plan = []
    for step in range(steps):
        size = batch_size * accumulation
        # Stable: of equal lengths the first drawn comes first.
        mine = sorted(drawn[step * size : (step + 1) * size], key=lengths.__getitem__)
        plan += [mine[start : start + batch_size] for start in range(0, size, batch_size)]
    return plan


def batches_payload(
    encoded: Encoded, *, model: str | None, seed: int, steps: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the payload of a ``batches`` artifact.

    Parameters
    ----------
    encoded
        The training rows.
    model, seed
        Whose plan it is.
    steps
        Of the plan (:func:`aletheia.study.arms.steps_of_plan`).
    settings
        ``batch_size`` and ``accumulation``.
    """
    lengths, rows = encoded.example_lengths, encoded.rows.tolist()
    shape = {key: settings[key] for key in ("batch_size", "accumulation")}
    plan = plan_batches(lengths, steps=steps, seed=seed, **shape)
    return {
        "model": model,
        "seed": seed,
        "steps": steps,
        **shape,
        "examples": len(rows),
        "tokens": sum(lengths[i] for micro in plan for i in micro),
        "padded_tokens": sum(len(micro) * max(lengths[i] for i in micro) for micro in plan),
        "rows": [[rows[i] for i in micro] for micro in plan],
    }


def first_batches(payload: Mapping[str, Any], *, steps: int, seed: int, settings: Mapping[str, Any]) -> list[list[int]]:
    """Return the micro-batches of an arm's steps, as rows of the training data.

    Parameters
    ----------
    payload
        Of a ``batches`` artifact.
    steps, seed, settings
        Of the arm; the plan must be of this seed, batch size and accumulation.

    Raises
    ------
    UserError
        When the plan is another's, or the arm is longer than it.
    """
    own = {"seed": seed, **{key: settings[key] for key in ("batch_size", "accumulation")}}
    for key, expected in own.items():
        if payload[key] != expected:
            raise UserError(f"batches: expected a plan with {key} {expected}, found {payload[key]}; draw one anew")
    if steps > payload["steps"]:
        raise UserError(
            f"batches: expected a plan of at least {steps} steps, found {payload['steps']}; "
            "an arm may buy as many as the plan has"
        )
    return payload["rows"][: steps * payload["accumulation"]]


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
        Token that fills a batch up.
    settings
        The section ``training``.
    plan
        The ``batches`` artifact, which all arms of the model and seed read; drawn here when None, as by hand.
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
        wanted, number = sorted({row for micro in micro_batches for row in micro}), rows.number("train")
        if wanted[-1] >= number:
            raise UserError(f"{plan}: row {wanted[-1]} is not in {rows.folder}, which has {number}; draw one anew")
        encoded = rows.encoded("train", wanted, what="rows")
        examples = {wanted[example["row"]]: example for example in encoded.examples}
        counts = payload["row_counts"]["train"] if "row_counts" in payload else None
        lost = next((row for row in wanted if row not in examples), None)
        if lost is not None:
            raise UserError(f"{plan}: row {lost} keeps no target with these encoding settings; draw one anew")
    else:
        encoded = rows.encoded("train")
        drawn = batches_payload(encoded, model=None, seed=seed, steps=steps, settings=settings)
        micro_batches = first_batches(drawn, steps=steps, seed=seed, settings=settings)
        used = {row for micro in micro_batches for row in micro}
        examples = {row: encoded.examples[index] for index, row in enumerate(encoded.rows.tolist()) if row in used}
        counts = encoded.counts()
    return PlannedBatches(
        [collate([examples[row] for row in micro], pad_token_id) for micro in micro_batches],
        hashlib.sha256(compact_json(micro_batches).encode()).hexdigest(),
        counts,
    )
