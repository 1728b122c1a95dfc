"""Where a step of all layers of SmolLM2-135M goes: its bound, the gap to it, its parts, and what each join saves.

On the micro-batches of bench_training.py, in bf16 and in fp32, one step of each side in turns:

    step        the study's loop as it is
    plain       the same loop with PEFT's own modules on padded rows
    linears     plain, with the products of one input joined; rows, elementwise: with these joined
    bare        the step with one adapter of rank 1 in layer 0: the same passes, and hardly an adapter
    gradient_half, last_half    the step with adapters in the default study's gradient selection (seed 42), or in the
                last half of the layers; plain_gradient_half and plain_last_half: the same without joins
    bound       the products with frozen weights alone (forward, and the input's gradient), without padding, each on the
                step's own shapes

Then, in turns of their own, each in a process of its own as it would run:

    alone       the step
    alone_plain the plain loop
    stock       transformers.Trainer over PEFT, as in bench_training.py

The gap is step / bound. The parts are shares of a profiled step's processor time by operator and shape
(torch.profiler); they add up to 1 by construction, and what no operator accounts for is `other`: Python, autograd, the
profiler itself.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from bench_training import ACCUMULATION, BATCH, DATA, LOCK, SEED, SELECTION, TOKENS, arm_side, stock_side, timed
from own_process import in_own_process
from profiles import step_parts

PARTS = ("bf16", "fp32")  # the dtypes it computes in
JOINS = ("linears", "rows", "elementwise")
HALVES = ("gradient_half", "last_half")
RANK = 16
ROUNDS_ALONE = 21
PROFILED = 2  # steps: the first fills what the profiler's start empties


def measure(
    interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int, parts: Sequence[str] = PARTS
) -> dict[str, Any]:
    """Return seconds, ratios and parts of a step, for each dtype that is asked for."""
    from aletheia.method.loading import load
    from aletheia.provenance import artifacts
    from aletheia.provenance.staged_files import checked_folder, read_rows
    from aletheia.training.batch_plan import plan_batches
    from aletheia.training.encoding import collate, encode_rows

    by_dtype, ratios = {}, {}
    for dtype in parts:
        base, tokenizer = load(LOCK, dtype=dtype)
        rows = read_rows(checked_folder(DATA) / "train.jsonl")
        examples = encode_rows(rows, tokenizer, TOKENS, prompt="plain").examples
        lengths = [len(example["input_ids"]) for example in examples]
        steps = max(rounds + PROFILED, ROUNDS_ALONE) + 1
        shape = {"steps": steps, "batch_size": BATCH, "accumulation": ACCUMULATION, "seed": SEED}
        planned, drawn = plan_batches(lengths, **shape), plan_batches([0] * len(lengths), **shape)
        batches = [collate([examples[i] for i in micro], tokenizer.pad_token_id) for micro in planned]
        sides = {**loop_sides(base, batches, dtype=dtype), "bound": bound_side(base, batches, dtype=dtype)}
        sides |= half_sides(base, batches, artifacts.payload(SELECTION, "selection")["layers"], dtype=dtype)
        seconds = interleaved(sides, rounds=rounds)
        alone = alone_sides(batches, dtype=dtype)
        alone["stock"] = in_own_process(stock_side, examples=examples, plan=drawn, dtype=dtype)
        seconds |= interleaved(alone, rounds=max(rounds, ROUNDS_ALONE))
        by_dtype[dtype] = {
            "seconds": seconds,
            "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
            "parts": step_parts(sides["step"], rank=RANK, vocabulary=base.config.vocab_size),
        }
        ratios[dtype] = step_ratios(seconds, ratio)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")  # of instructions, which a machine's name does not say
    return {"what": __doc__.splitlines()[0], "ratios": ratios, "instructions_up_to": limit, **by_dtype}


def step_ratios(seconds: dict[str, list[float]], ratio: Callable[..., Any]) -> dict[str, Any]:
    """Return the gap, what a join saves, what fewer layers do, and the gain over stock and over the plain loop."""
    pairs = [("step", "bound"), ("plain", "step"), ("step", "bare"), *(("plain", join) for join in JOINS)]
    pairs += [pair for half in HALVES for pair in (("step", half), ("plain", f"plain_{half}"))]
    pairs += [("stock", "alone"), ("stock", "alone_plain"), ("alone_plain", "alone")]
    return {
        f"{above} / {below}": ratio(seconds[above], seconds[below])
        for above, below in pairs
        if {above, below} <= seconds.keys()
    }


def loop_sides(base: Any, batches: Sequence[Any], *, dtype: str, rank: int = RANK) -> dict[str, Callable[[], float]]:
    """Return what times the next step of each loop.

    Parameters
    ----------
    base
        A base model, whose weights all share.
    batches
        Micro-batches of all steps, on the host.
    dtype
        That they compute in.
    rank
        Of the adapters, in all layers.
    """
    from aletheia.method.adapters import module_kind
    from aletheia.method.layers import adaptable_layers
    from aletheia.training.computation import Joins

    off = dict.fromkeys(JOINS, False)
    variants = {"step": Joins(), "plain": Joins(**off)}
    variants |= {name: Joins(**{**off, name: True}) for name in JOINS}
    every, first = range(base.config.num_hidden_layers), adaptable_layers(base)[0].attention[0]
    common = {"dtype": dtype, "rank": rank}
    sides = {name: arm_side(base, batches, every, joins=joins, **common) for name, joins in variants.items()}
    bare = arm_side(base, batches, [0], dtype=dtype, rank=1, modules=[module_kind(first)])
    return {**sides, "bare": bare}


def alone_sides(batches: Sequence[Any], *, dtype: str) -> dict[str, Callable[[], float]]:
    """Return what times the next step of the study's loop, each in a process of its own."""
    from aletheia.training.computation import Joins

    ways = {"alone": Joins(), "alone_plain": Joins(**dict.fromkeys(JOINS, False))}
    return {name: in_own_process(alone_side, batches=batches, dtype=dtype, joins=joins) for name, joins in ways.items()}


def alone_side(*, batches: Sequence[Any], dtype: str, joins: Any) -> Callable[[], float]:
    """Return what times the next step of all layers."""
    from aletheia.method.loading import load

    base, _ = load(LOCK, dtype=dtype)
    return arm_side(base, batches, range(base.config.num_hidden_layers), dtype=dtype, rank=RANK, joins=joins)


def half_sides(
    base: Any, batches: Sequence[Any], gradient: Sequence[int], *, dtype: str
) -> dict[str, Callable[[], float]]:
    """Return what times the next step of arms with half of the layers, with and without joins."""
    from aletheia.training.computation import DEFAULT, Joins

    depth = base.config.num_hidden_layers
    layers = dict(zip(HALVES, (gradient, [*range(depth // 2, depth)]), strict=True))
    ways = {"": DEFAULT, "plain_": Joins(**dict.fromkeys(JOINS, False))}
    return {
        f"{before}{name}": arm_side(base, batches, own, dtype=dtype, rank=RANK, joins=joins)
        for name, own in layers.items()
        for before, joins in ways.items()
    }


def bound_side(base: Any, batches: Sequence[Any], *, dtype: str) -> Callable[[], float]:
    """Return what times the products of the next step's frozen weights, on random numbers.

    The input's gradient of the lowest layer's first maps is left out: that layer reads the embeddings.
    """
    import torch

    from aletheia.method.layers import adaptable_layers
    from aletheia.method.loading import torch_dtype

    own = torch_dtype(dtype)
    head = base.get_output_embeddings().weight.detach().to(own)
    first = set(adaptable_layers(base)[0].attention[:-1])
    names = [name for layer in adaptable_layers(base) for name in (*layer.attention, *layer.mlp)]
    weights = [(base.get_submodule(name).weight.detach().to(own), name not in first) for name in names]
    done = iter(range(0, len(batches), ACCUMULATION))

    def random(*shape: int) -> Any:
        return torch.randn(*shape, dtype=own, device=base.device)

    def step() -> float:
        begin = next(done)
        seconds = 0.0
        for batch in batches[begin : begin + ACCUMULATION]:
            passes = [(batch.tokens, weights), (len(batch.targets), [(head, True)])]
            numbers = {
                (count, width): random(count, width)
                for count, maps in passes
                for width in {size for weight, _ in maps for size in weight.shape}
            }
            seconds += timed(lambda passes=passes, numbers=numbers: _products(passes, numbers))
        return seconds

    return step


def _products(passes: Any, numbers: Any) -> None:
    for count, maps in passes:
        for weight, differentiated in maps:
            outputs, inputs = weight.shape
            numbers[count, inputs] @ weight.t()
            if differentiated:
                numbers[count, outputs] @ weight
