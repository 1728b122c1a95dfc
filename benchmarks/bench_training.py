"""Seconds of one optimiser step of SmolLM2-135M (bf16), by arm, and of stock Trainer with PEFT.

Two micro-batches of four rows of the default study, at most 128 tokens each; rank 16 on all linear maps. The arms: all
layers; the default study's gradient selection (seed 42); the last half; the last half but one with layer 0; every other
layer; all layers at half the rank; and three of them with gradient checkpointing. `stock` is `transformers.Trainer`
over `get_peft_model` with `DataCollatorForSeq2Seq`, on the same rows in the same steps, in the order of their draw, in
a process of its own.
Then, in turns of their own, all layers beside the last half and the last third, which keep what the frozen layers below
give for a micro-batch and read it at the second visit (`prefix_last_half`, `prefix_last_third`).

Needs the default study's staged files and one selection: `snakemake results/select/smollm2-135m/ale/seed42.json`, which
`make bench` runs first.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from own_process import in_own_process
from prefix_sides import prefix_ratios, prefix_sides

LOCK = Path("resources/models/smollm2-135m.lock.json")
DATA = Path("resources/data/docstrings.lock.json")
SELECTION = Path("results/select/smollm2-135m/ale/seed42.json")
BATCH, ACCUMULATION, TOKENS, SEED = 4, 2, 128, 42
CHECKPOINTING = ", checkpointing"
PREFIX_ROUNDS = 15
STEPS = 200  # of the run in which the probe's time is counted


def measure(interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int) -> dict[str, Any]:
    """Return seconds and ratios."""
    from aletheia.method.loading import load
    from aletheia.method.probe import probe_layers
    from aletheia.provenance import artifacts
    from aletheia.provenance.staged_files import checked_folder, read_rows
    from aletheia.training.batch_plan import plan_batches
    from aletheia.training.encoding import collate, encode_rows, probe_batches

    base, tokenizer = load(LOCK, dtype="bf16")
    rows = read_rows(checked_folder(DATA) / "train.jsonl")
    examples = encode_rows(rows, tokenizer, TOKENS, prompt="plain").examples
    lengths = [len(example["input_ids"]) for example in examples]
    shape = {"steps": max(rounds, PREFIX_ROUNDS) + 1, "batch_size": BATCH, "accumulation": ACCUMULATION, "seed": SEED}
    planned, drawn = plan_batches(lengths, **shape), plan_batches([0] * len(lengths), **shape)
    batches = [collate([examples[i] for i in micro], tokenizer.pad_token_id) for micro in planned]
    gradient = artifacts.payload(SELECTION, "selection")["layers"]
    sides = arm_sides(base, batches, gradient)
    sides["stock"] = in_own_process(stock_side, examples=examples, plan=drawn)
    probed = probe_batches(examples, tokenizer.pad_token_id, batches=5, seed=SEED)
    sides["probe"] = lambda: timed(lambda: probe_layers(base, probed))
    seconds = interleaved(sides, rounds=rounds)
    ratios = {**arm_ratios(seconds, ratio), "stock / all": ratio(seconds["stock"], seconds["all"])}
    with_probe = [ale + probe / STEPS for ale, probe in zip(seconds["gradient_half"], seconds["probe"], strict=True)]
    kept = interleaved(prefix_sides(base, batches, accumulation=ACCUMULATION), rounds=max(rounds, PREFIX_ROUNDS))
    ratios[f"all / gradient_half with the probe, {STEPS} steps"] = ratio(seconds["all"], with_probe)
    return {
        "what": __doc__.splitlines()[0],
        "gradient_layers": gradient,
        "padding": {
            name: 1 - sum(lengths[i] for m in plan for i in m) / sum(len(m) * max(lengths[i] for i in m) for m in plan)
            for name, plan in (("ours", planned), ("stock", drawn))
        },
        "targets_of_tokens": _targets(batches),
        "seconds": seconds,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratios": ratios,
        **prefix_ratios(kept, ratio),
    }


def arm_sides(
    base: Any, batches: list[Any], gradient: list[int], *, joins: Any = None, checkpointing: bool = True
) -> dict[str, Callable[[], float]]:
    """Return what times the next step of each arm.

    Parameters
    ----------
    base
        A base model, whose weights the arms share.
    batches
        Micro-batches of all steps.
    gradient
        The layers that a probe selected.
    joins
        What steps join (:class:`aletheia.training.computation.Joins`); the default when None.
    checkpointing
        Whether some arms are there with gradient checkpointing too.
    """
    depth = base.config.num_hidden_layers
    half, every = [*range(depth // 2, depth)], [*range(depth)]
    arms: dict[str, tuple[list[int], int, bool]] = {
        "all": (every, 16, False),
        "gradient_half": (gradient, 16, False),
        "last_half": (half, 16, False),
        "last_half_with_layer_0": ([0, *half[1:]], 16, False),
        "every_other": ([*range(0, depth, 2)], 16, False),
        "all_rank_halved": (every, 8, False),
    }
    if checkpointing:
        arms |= {f"{name}{CHECKPOINTING}": (*arms[name][:2], True) for name in ("all", "gradient_half", "last_half")}
    return {
        name: arm_side(base, batches, layers, rank=rank, checkpointing=recomputed, joins=joins)
        for name, (layers, rank, recomputed) in arms.items()
    }


def arm_ratios(seconds: dict[str, list[float]], ratio: Callable[..., Any]) -> dict[str, Any]:
    """Return the ratio of all layers to each other arm, with checkpointing on both sides or on neither."""
    found = {}
    for name, own in seconds.items():
        whole = f"all{CHECKPOINTING}" if name.endswith(CHECKPOINTING) else "all"
        if name not in (whole, "stock", "probe"):
            found[f"{whole} / {name}"] = ratio(seconds[whole], own)
    return found


def _targets(batches: list[Any]) -> float:
    """Return which share of the tokens is a target: the head's logits are computed for these alone."""
    return sum(len(batch.targets) for batch in batches) / sum(batch.tokens for batch in batches)


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def arm_side(
    base: Any,
    batches: Sequence[Any],
    layers: Sequence[int],
    *,
    rank: int = 16,
    modules: Sequence[str] | str = "all",
    dtype: str = "bf16",
    checkpointing: bool = False,
    joins: Any = None,
) -> Callable[[], float]:
    """Return what times the next step of an arm, by the study's own loop (:func:`arm_sides`)."""
    from aletheia.method.adapters import attach, placement_plan
    from aletheia.method.layers import adaptable_layers
    from aletheia.study.schema import section_defaults
    from aletheia.timing.interleaving import copy_sharing_weights
    from aletheia.training.activation_checkpointing import checkpoint_activations
    from aletheia.training.computation import DEFAULT
    from aletheia.training.loop import Loop

    model = copy_sharing_weights(base)
    plan = placement_plan(adaptable_layers(model), layers, rank=rank, modules=modules)
    model = attach(model, plan, dropout=0, seed=SEED)
    if checkpointing:
        checkpoint_activations(model)
    settings = {**section_defaults("training"), "accumulation": ACCUMULATION}
    loop = Loop(
        model,
        batches,
        settings=settings,
        steps=len(batches) // ACCUMULATION,
        learning_rate=settings["learning_rate"],
        dtype=dtype,
        seed=SEED,
        joins=joins or DEFAULT,
    )
    return lambda: timed(loop.step)


def stock_side(*, examples: list[Any], plan: list[list[int]], dtype: str = "bf16") -> Callable[[], float]:
    """Return what times the next step of transformers' Trainer over PEFT, set up as their documentation shows.

    Parameters
    ----------
    examples
        Encoded rows.
    plan
        The rows of each micro-batch.
    dtype
        That it computes in.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    from aletheia.method.loading import load

    base, tokenizer = load(LOCK, dtype=dtype)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules=names)
    model = get_peft_model(base, lora)
    scratch = tempfile.mkdtemp()
    arguments = TrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=ACCUMULATION,
        max_steps=1,
        learning_rate=5e-4,
        bf16=dtype == "bf16",
        use_cpu=True,
        train_sampling_strategy="sequential",
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    collator = DataCollatorForSeq2Seq(tokenizer)
    done = iter(range(len(plan) // ACCUMULATION))
    # One optimiser for all steps, as in one run: its moments are there from the second step on.
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-4, fused=True)

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            Clock.seconds = time.perf_counter() - self.start

    def step() -> float:
        first = next(done) * ACCUMULATION
        rows = [i for micro in plan[first : first + ACCUMULATION] for i in micro]
        keys = ("input_ids", "labels")
        data = [{key: examples[i][key] for key in keys} | {"attention_mask": [1] * lengths(i)} for i in rows]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
        Trainer(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=collator,
            callbacks=[Clock()],
            optimizers=(optimizer, schedule),
        ).train()
        return Clock.seconds

    def lengths(i: int) -> int:
        return len(examples[i]["input_ids"])

    return step
