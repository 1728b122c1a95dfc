"""A run's choice for TRL: a script with ``SFTConfig`` and ``LoraConfig``, or the YAML that ``trl sft`` takes."""

from __future__ import annotations

from typing import Any

from aletheia.errors import UserError
from aletheia.exports.choice import Choice
from aletheia.exports.document import Code, as_call, as_yaml, header
from aletheia.exports.lora_code import lora_code
from aletheia.exports.placement import placement, rslora
from aletheia.exports.row_code import differences as row_differences
from aletheia.exports.row_code import example_code
from aletheia.exports.trainer_settings import (
    DTYPES,
    differences,
    optimisation,
    output_folder,
    without_gpu,
)

SCRIPT = '''{header}{torch}from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM{bitsandbytes}
from trl import SFTConfig, SFTTrainer

MODEL, REVISION = {base!r}, {revision!r}
ROWS = {rows!r}
{layers}
settings = {settings}

{example}

def main():
    """Train, and save the adapter into settings.output_dir."""
    rows = load_dataset("json", data_files=ROWS, split="train")
    rows = rows.map(example, remove_columns=rows.column_names)
    model = {model}
    trainer = SFTTrainer(model=model, args=settings, train_dataset=rows, peft_config=adapter)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
'''
NF4 = (
    'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
    "bnb_4bit_compute_dtype={dtype!r})"
)


def trl_script(choice: Choice) -> str:
    """Return a script that trains the run's adapter with TRL's ``SFTTrainer``, on the study's rows."""
    how = "Run it with python; it needs trl, peft and datasets, and no part of this study but its rows."
    return SCRIPT.format(
        header=header("trl", choice, how, _differences(choice)),
        torch="import torch\n" if choice.dtype == "bf16" else "",
        bitsandbytes=", BitsAndBytesConfig" if choice.quantization else "",
        base=choice.base,
        revision=choice.revision,
        rows=str(choice.rows),
        layers=lora_code(choice),
        settings=as_call("SFTConfig", {**sft_settings(choice), **_on_cpu(choice)}),
        example=example_code(choice),
        model=_model_code(choice),
    )


def sft_settings(choice: Choice) -> dict[str, Any]:
    """Return the arguments of ``SFTConfig``."""
    loss = {} if choice.prompt == "text" and not choice.chat else {"completion_only_loss": choice.loss_on == "response"}
    return {
        "output_dir": output_folder(choice),
        **optimisation(choice),
        "max_length": choice.max_tokens,
        **loss,
        "gradient_checkpointing": choice.training["gradient_checkpointing"],
        "report_to": "none",
    }


def trl_yaml(choice: Choice) -> str:
    """Return the YAML of ``trl sft --config FILE``.

    Raises
    ------
    UserError
        When the run's adapters have several ranks or alphas, for which that command has no key.
    """
    place = placement(choice)
    if not place.uniform:
        raise UserError(
            "--for trl --yaml: `trl sft` takes one rank and one alpha for all modules, and this run has several; write "
            "the script (without --yaml), whose LoraConfig has rank_pattern"
        )
    settings = {
        "model_name_or_path": choice.base,
        **({"model_revision": choice.revision} if choice.revision else {}),
        "dtype": DTYPES[choice.dtype],
        **({"load_in_4bit": True, "use_bnb_nested_quant": True} if choice.quantization else {}),
        "use_peft": True,
        "lora_r": place.rank,
        "lora_alpha": place.alpha,
        "lora_dropout": choice.adapter["dropout"],
        "use_rslora": rslora(choice),
        "lora_target_modules": place.modules,
        **({"lora_target_parameters": place.parameters} if place.parameters else {}),
        "datasets": [{"path": "json", "data_files": str(choice.rows), "split": "train"}],
        **sft_settings(choice),
    }
    said = [*_differences(choice), *without_gpu(choice)]
    if not choice.chat:
        said.append(
            "It wants the columns prompt and completion (or text, or messages) in the rows; those of the study have "
            "instruction, input and output, which the script of --for trl turns into prompts."
        )
    return header("trl --yaml", choice, "Run it with: trl sft --config FILE", said) + as_yaml(settings)


def _differences(choice: Choice) -> list[str]:
    said = [*differences(choice), *row_differences(choice)]
    if choice.quantization:
        said.append("It casts the adapters of a 4-bit model to bf16; the run kept them in fp32.")
    return said


def _on_cpu(choice: Choice) -> dict[str, Any]:
    """Return the argument without which ``TrainingArguments`` refuses bf16 where there is no GPU."""
    return {"use_cpu": Code("not torch.accelerator.is_available()")} if choice.dtype == "bf16" else {}


def _model_code(choice: Choice) -> str:
    arguments = f"MODEL, revision=REVISION, dtype={DTYPES[choice.dtype]!r}"
    if not choice.quantization:
        return f"AutoModelForCausalLM.from_pretrained({arguments})"
    four_bit = NF4.format(dtype=DTYPES[choice.dtype])
    return f"AutoModelForCausalLM.from_pretrained(\n        {arguments}, quantization_config={four_bit}\n    )"
