"""A run's choice for Axolotl: the YAML of ``axolotl train``."""

from __future__ import annotations

from typing import Any

from aletheia.exports.choice import Choice
from aletheia.exports.document import as_yaml, header
from aletheia.exports.lora_code import lora_patterns
from aletheia.exports.placement import placement, rslora
from aletheia.exports.trainer_settings import (
    differences,
    loraplus_ratio,
    optimisation,
    output_folder,
    wants_messages,
)
from aletheia.training.prompts import ALPACA_BARE, ALPACA_INPUT

# Whose names differ from those of transformers; the others are the same.
NAMES = {"per_device_train_batch_size": "micro_batch_size", "lr_scheduler_type": "lr_scheduler", "optim": "optimizer"}
INSTRUCTIONS = {
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    # Without it Axolotl puts a system prompt of its own before each row.
    "system_prompt": "",
    "system_format": "{system}",
}


def axolotl_file(choice: Choice) -> str:
    """Return the YAML of ``axolotl train FILE``."""
    settings = {
        "base_model": choice.base,
        **({"revision_of_model": choice.revision} if choice.revision else {}),
        "adapter": "qlora" if choice.quantization else "lora",
        "load_in_4bit": bool(choice.quantization),
        **_adapter(choice),
        "datasets": [_rows(choice)],
        **({"chat_template": "tokenizer_default"} if choice.templated else {}),
        "val_set_size": 0.0,
        "sequence_len": choice.max_tokens,
        "excess_length_strategy": "truncate",
        "sample_packing": False,
        "pad_to_sequence_len": False,
        "train_on_inputs": choice.loss_on == "all",
        **{NAMES.get(key, key): value for key, value in optimisation(choice).items()},
        "gradient_checkpointing": choice.training["gradient_checkpointing"],
        **({"loraplus_lr_ratio": ratio} if (ratio := loraplus_ratio(choice)) else {}),
        "output_dir": output_folder(choice),
    }
    said = [*differences(choice, has_loraplus=True), *wants_messages(choice)]
    return header("axolotl", choice, "Run it with: axolotl train FILE", said) + as_yaml(settings)


def _adapter(choice: Choice) -> dict[str, Any]:
    """Return rank, alpha and placement: kinds of modules with layers where they say it all, else full names."""
    place = placement(choice)
    short = place.short_kinds()
    targets: dict[str, Any] = {"lora_target_modules": short or place.modules}
    if short:
        targets["peft_layers_to_transform"] = place.layers
    if place.parameters:
        targets["lora_target_parameters"] = place.parameters
    return {
        "lora_r": place.rank,
        "lora_alpha": place.alpha,
        "lora_dropout": float(choice.adapter["dropout"]),
        **({"peft_use_rslora": True} if rslora(choice) else {}),
        **targets,
        **{f"lora_{key}": value for key, value in lora_patterns(choice).items()},
    }


def _rows(choice: Choice) -> dict[str, Any]:
    """Return the entry of ``datasets``, with the run's own wording."""
    rows = {"path": str(choice.rows), "ds_type": "json"}
    if choice.templated:
        return {**rows, "type": "chat_template", "field_messages": "messages"}
    if choice.prompt == "text":
        return {**rows, "type": "completion", "field": "output"}
    if choice.prompt == "alpaca":
        wording = {"format": ALPACA_INPUT, "no_input_format": ALPACA_BARE}
    else:
        wording = {"format": "{instruction}\n{input}\n", "no_input_format": "{instruction}\n"}
    return {**rows, "type": {**INSTRUCTIONS, **wording}}
