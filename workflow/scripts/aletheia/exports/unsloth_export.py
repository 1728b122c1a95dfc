"""A run's choice for Unsloth: a script with ``FastLanguageModel.get_peft_model`` and TRL's trainer."""

from __future__ import annotations

from typing import Any

from aletheia.exports.choice import Choice
from aletheia.exports.document import Code, as_call, header
from aletheia.exports.lora_code import lora_patterns
from aletheia.exports.placement import Placement, placement, rslora
from aletheia.exports.row_code import differences as row_differences
from aletheia.exports.row_code import example_code
from aletheia.exports.trainer_settings import DTYPES, differences
from aletheia.exports.trl_export import sft_settings

SCRIPT = '''{header}from unsloth import FastLanguageModel  # isort: skip, since it changes what is imported after it

import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

ROWS = {rows!r}
{layers}

{example}

def main():
    """Train, and save the adapter into the settings' output_dir."""
    model, tokenizer = {load}
    model = {adapter}
    settings = {settings}
    rows = load_dataset("json", data_files=ROWS, split="train")
    rows = rows.map(example, remove_columns=rows.column_names)
    trainer = SFTTrainer(model=model, processing_class=tokenizer, args=settings, train_dataset=rows)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
'''


def unsloth_script(choice: Choice) -> str:
    """Return a script that trains the run's adapter with Unsloth."""
    place = placement(choice)
    layers = f"LAYERS = {place.layers}"
    how = "Run it with python where there is a GPU; it needs unsloth, and no part of this study but its rows."
    return SCRIPT.format(
        header=header("unsloth", choice, how, _differences(choice, place)),
        rows=str(choice.rows),
        layers=layers,
        example=example_code(choice),
        load=_indented(as_call("FastLanguageModel.from_pretrained", _loading(choice))),
        adapter=_indented(
            as_call("FastLanguageModel.get_peft_model", {"model": Code("model"), **_adapter(choice, place)})
        ),
        settings=_indented(as_call("SFTConfig", sft_settings(choice))),
    )


def _loading(choice: Choice) -> dict[str, Any]:
    return {
        "model_name": choice.base,
        "revision": choice.revision,
        "max_seq_length": choice.max_tokens,
        "dtype": Code(f"torch.{DTYPES[choice.dtype]}"),
        "load_in_4bit": bool(choice.quantization),
    }


def _adapter(choice: Choice, place: Placement) -> dict[str, Any]:
    """Return the arguments of ``get_peft_model``: kinds with layers, which its kernels are made for, or full names."""
    short = place.short_kinds()
    return {
        "r": place.rank,
        "lora_alpha": place.alpha,
        "lora_dropout": choice.adapter["dropout"],
        "target_modules": short or place.modules,
        **({"layers_to_transform": Code("LAYERS")} if short else {}),
        **({"target_parameters": place.parameters} if place.parameters else {}),
        "use_rslora": rslora(choice),
        "use_gradient_checkpointing": "unsloth" if choice.training["gradient_checkpointing"] else False,
        "random_state": choice.seed,
        **lora_patterns(choice),
    }


def _differences(choice: Choice, place: Placement) -> list[str]:
    said = [*differences(choice), *row_differences(choice)]
    if not place.short_kinds():
        said.append("Modules by full name work, and print that Unsloth has no kernels for them: it is slower.")
    if not place.uniform:
        said.append(
            "Several ranks or alphas go on to PEFT as rank_pattern and alpha_pattern, which it does not document."
        )
    return said


def _indented(call: str) -> str:
    return call.replace("\n", "\n    ")
