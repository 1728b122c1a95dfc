"""A run's choice for mlx-lm: the YAML of ``mlx_lm.lora``, where it can express the choice."""

from __future__ import annotations

import math
from typing import Any

from aletheia.errors import UserError
from aletheia.exports.choice import Choice
from aletheia.exports.document import as_yaml, header
from aletheia.exports.placement import Placement, placement, rslora
from aletheia.exports.trainer_settings import differences, output_folder, warmup_steps


def mlx_file(choice: Choice) -> str:
    """Return the YAML of ``mlx_lm.lora --config FILE``.

    Raises
    ------
    UserError
        When the choice is no last layers with the same modules, one rank and one alpha in each.
    """
    place = placement(choice)
    _check(choice, place)
    training, optimizer = choice.training, choice.training["optimizer"]
    schedule = _schedule(choice)
    settings = {
        "model": choice.base,
        "train": True,
        "fine_tune_type": "lora",
        "data": str(choice.rows.parent),
        "mask_prompt": choice.loss_on == "response" and choice.prompt != "text",
        "num_layers": len(place.layers),
        "lora_parameters": {
            "keys": place.kinds,
            "rank": place.rank,
            "scale": place.alpha / (math.sqrt(place.rank) if rslora(choice) else place.rank),
            "dropout": float(choice.adapter["dropout"]),
        },
        # It counts micro-batches.
        "iters": choice.steps * training["accumulation"],
        "batch_size": training["batch_size"],
        "grad_accumulation_steps": training["accumulation"],
        "max_seq_length": choice.max_tokens,
        "learning_rate": choice.learning_rate,
        **({"lr_schedule": schedule} if schedule else {}),
        "optimizer": "adamw",
        "optimizer_config": {
            "adamw": {
                "betas": [optimizer["beta1"], optimizer["beta2"]],
                "eps": optimizer["epsilon"],
                "weight_decay": optimizer["weight_decay"],
                "bias_correction": True,
            }
        },
        "grad_checkpoint": training["gradient_checkpointing"],
        "seed": choice.seed,
        "adapter_path": output_folder(choice),
    }
    return header("mlx", choice, "Run it with: mlx_lm.lora --config FILE", _differences(choice)) + as_yaml(settings)


def _check(choice: Choice, place: Placement) -> None:
    """Refuse what mlx-lm cannot express, with what it can."""
    can = (
        "mlx-lm adapts the same modules in the last layers, all from one layer on, with one rank and one scale; train "
        "an arm of layers: last, or export for peft, trl, axolotl or unsloth"
    )
    last = [*range(place.layers[0], choice.layers_total)]
    if place.layers != last:
        shown = ", ".join(map(str, place.layers))
        raise UserError(f"--for mlx: the run adapts layers {shown} of {choice.layers_total}, with a gap; {can}")
    if place.kinds is None or place.parameters:
        raise UserError(
            f"--for mlx: the run adapts other modules in some layers than in others, or fused experts; {can}"
        )
    if not place.uniform:
        raise UserError(f"--for mlx: the run's adapters have several ranks or alphas; {can}")


def _schedule(choice: Choice) -> dict[str, Any] | None:
    """Return ``lr_schedule``, whose steps are optimiser steps; None for a constant rate from the first step on."""
    rate, warmup = choice.learning_rate, warmup_steps(choice)
    rest = max(1, choice.steps - warmup)
    schedule = choice.training["schedule"]
    if schedule == "constant":
        return None
    named = {
        "cosine": {"name": "cosine_decay", "arguments": [rate, rest]},
        "linear": {"name": "linear_schedule", "arguments": [rate, 0.0, rest]},
        "constant_with_warmup": {"name": "linear_schedule", "arguments": [rate, rate, rest]},
    }[schedule]
    return {**named, **({"warmup": warmup} if warmup else {})}


def _differences(choice: Choice) -> list[str]:
    said = [
        "It wants train.jsonl, valid.jsonl and test.jsonl in the folder `data`, each row with messages, with prompt "
        "and completion, or with text, and puts prompts through the model's chat template whatever the run did.",
        "It clips no gradients, and averages micro-batches, not tokens, over an optimiser step.",
        "Names of modules are those of transformers; mlx-lm's own models have nearly always the same.",
    ]
    if choice.revision:
        said.append(f"It takes no revision of a model; the run had {choice.revision}.")
    if choice.quantization:
        said.append("A 4-bit model is one that mlx_lm.convert -q has made: name its folder in place of `model`.")
    return [*said, *differences(choice)]
