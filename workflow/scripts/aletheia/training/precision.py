"""Choose between bf16 and fp32 by what this machine does faster, once for all jobs of a model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aletheia.training.token_table import TokenRows

CANDIDATES = ("bf16", "fp32")
# Chosen by hand: long enough for a few passes of a model that a CPU can train at all.
LIMIT_SECONDS = 30.0
REPEATS = 3  # passes of each dtype, after the first; in turns, so that a busy moment affects both
SAMPLE_ROWS = 256  # of the training data; enough for a median of lengths
MIN_POSITIONS = 16  # of the smallest shape: below it a pass is mostly overhead
POSITIONS_FACTOR = 4  # from one shape to the next


@dataclass(frozen=True)
class Shape:
    """A micro-batch: so many sequences of so many tokens."""

    sequences: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.sequences} × {self.tokens} tokens"


@dataclass(frozen=True)
class Measurement:
    """The seconds of a pass in each dtype.

    Attributes
    ----------
    shape
        Of the passes; smaller than the one asked for where there was no time for it.
    seconds
        Median of a forward and backward pass, by dtype.
    repeats
        Passes of each that the median is over.
    """

    shape: Shape
    seconds: dict[str, float]
    repeats: int

    @property
    def dtype(self) -> str:
        """Return the faster one."""
        return min(self.seconds, key=lambda name: self.seconds[name])


def typical_shape(rows: TokenRows, *, batch_size: int, accumulation: int) -> Shape:
    """Return the shape that micro-batches of this data usually have.

    That is ``batch_size`` sequences of the median length to which the micro-batches of a seeded sample of
    :data:`SAMPLE_ROWS` rows are padded, once these are dealt to micro-batches as training deals them.

    Parameters
    ----------
    rows
        Of the training data (:func:`aletheia.training.token_table.token_rows`).
    batch_size, accumulation
        Of the training.

    Raises
    ------
    UserError
        When no row keeps a target, or there are fewer than one micro-batch needs.
    """
    from aletheia.seeded_order import seeded_order
    from aletheia.training.batch_plan import plan_batches

    size = batch_size * accumulation
    drawn = seeded_order(range(rows.count("train")), seed="precision")[: max(SAMPLE_ROWS, size)]
    lengths = rows.encoded_rows("train", drawn, what="rows").example_lengths
    # Some rows of the sample may keep no target, and leave it short of a whole step.
    accumulation = max(1, min(accumulation, len(lengths) // batch_size))
    steps = max(1, len(lengths) // (batch_size * accumulation))
    plan = plan_batches(lengths, steps=steps, batch_size=batch_size, accumulation=accumulation, seed=0)
    return Shape(batch_size, round(statistics.median(max(lengths[index] for index in micro) for micro in plan)))


def gpu_dtype() -> str | None:
    """Return the dtype for a GPU, which needs no measurement; None where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return "bf16" if torch.cuda.is_bf16_supported() else "fp32"


def measure(
    model: PreTrainedModel,
    shape: Shape,
    *,
    limit: float = LIMIT_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """Time forward and backward passes in bf16 and fp32, in turns.

    It starts with a small shape and takes a larger one only where the time of the passes so far says that it fits in
    the time left; so a slow machine measures a smaller shape. Then passes are repeated while there is time.

    Parameters
    ----------
    model
        A model in fp32; its weights are not changed.
    shape
        Of the micro-batch that training will use.
    limit
        Seconds in all. The smallest shape is measured whatever it takes.
    clock
        Returns the time in seconds.
    """
    import copy

    import torch

    started = clock()
    models = {"fp32": model, "bf16": copy.deepcopy(model).to(torch.bfloat16)}

    def passes(size: Shape) -> dict[str, float]:
        ids = torch.randint(0, int(model.config.vocab_size), (size.sequences, size.tokens), generator=generator)
        return {name: _pass_seconds(each, ids, clock) for name, each in models.items()}

    def fits(longer: float) -> bool:
        return clock() - started + longer * sum(last.values()) <= limit

    generator = torch.Generator().manual_seed(0)
    size, *larger = _ladder(shape)
    last = passes(size)
    for wanted in larger:
        # Time grows with the positions, or less: a small pass is mostly overhead.
        if not fits(wanted.sequences * wanted.tokens / (size.sequences * size.tokens)):
            break
        size, last = wanted, passes(wanted)
    timings = [last]
    while len(timings) <= REPEATS and fits(1):
        last = passes(size)
        timings.append(last)
    # The first pass of each fills caches; it counts only where it is the only one.
    counted = timings[1:] or timings
    seconds = {name: statistics.median(each[name] for each in counted) for name in CANDIDATES}
    return Measurement(size, seconds, len(counted))


def sentence(measurement: Measurement, wanted: Shape) -> str:
    """Return the result as a sentence, which also says what the time limit did not allow."""
    (dtype, least), (other, most) = sorted(measurement.seconds.items(), key=lambda item: item[1])
    passes = f"{least:.3g} s a pass against {most:.3g} s in {other} ({measurement.shape}, n = {measurement.repeats})"
    text = f"dtype auto: {dtype}, {passes}"
    if measurement.shape != wanted:
        return f"{text}; there was no time for {wanted}, so name a dtype in the registry if you know better"
    return f"{text}; there was no time for more" if measurement.repeats < REPEATS else text


def _ladder(shape: Shape) -> list[Shape]:
    """Return shapes from the smallest to the whole one, each of about four times the positions of the one before."""
    positions, shapes = shape.sequences * shape.tokens, [shape]
    while positions >= POSITIONS_FACTOR * MIN_POSITIONS:
        positions //= POSITIONS_FACTOR
        shapes.append(Shape(max(1, positions // shape.tokens), min(shape.tokens, positions)))
    return shapes[::-1]


def _pass_seconds(model: PreTrainedModel, ids: Any, clock: Callable[[], float]) -> float:
    """Time one forward and one backward pass through all layers, down to the embeddings' output."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    start = clock()
    model(inputs_embeds=embedded, labels=ids, use_cache=False).loss.backward(inputs=[embedded])
    return clock() - start
