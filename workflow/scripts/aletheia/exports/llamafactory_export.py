"""A run's choice for LLaMA-Factory: the YAML of ``llamafactory-cli train``."""

from __future__ import annotations

import json
from typing import Any

from aletheia.errors import UserError
from aletheia.exports.choice import Choice
from aletheia.exports.document import as_yaml, header
from aletheia.exports.placement import placement, rslora
from aletheia.exports.trainer_settings import differences, loraplus_ratio, optimisation, output_folder, without_gpu

MESSAGES = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}
INSTRUCTIONS = {"columns": {"prompt": "instruction", "query": "input", "response": "output"}}
TEXTS = {"columns": {"prompt": "output"}}
# Its words differ a little from Stanford's: a row with an input has no sentence of its own.
TEMPLATES = {"alpaca": "alpaca", "plain": "empty", "text": "empty"}


def llamafactory_file(choice: Choice) -> str:
    """Return the YAML of ``llamafactory-cli train FILE``.

    Raises
    ------
    UserError
        When the run's adapters have several ranks or alphas, or are on fused experts, for which it has no key.
    """
    place = placement(choice)
    if not place.uniform:
        raise UserError(
            "--for llamafactory: LLaMA-Factory takes one lora_rank and one lora_alpha for all modules, and this run "
            "has several; export for peft, trl, axolotl or unsloth, or train an arm of one rank"
        )
    if place.parameters:
        raise UserError(
            "--for llamafactory: LLaMA-Factory adapts modules alone, and this run adapts fused experts "
            f"({place.parameters[0]}, …); export for peft, trl, axolotl or unsloth"
        )
    settings = {
        "model_name_or_path": choice.base,
        **({"model_revision": choice.revision} if choice.revision else {}),
        "stage": "pt" if _is_text(choice) else "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": ",".join(place.modules),
        "lora_rank": place.rank,
        "lora_alpha": place.alpha,
        "lora_dropout": float(choice.adapter["dropout"]),
        "use_rslora": rslora(choice),
        **({"loraplus_lr_ratio": ratio} if (ratio := loraplus_ratio(choice)) else {}),
        **_four_bit(choice),
        "dataset_dir": str(choice.rows.parent),
        "dataset": "rows",
        "template": _template(choice),
        "cutoff_len": choice.max_tokens,
        "train_on_prompt": choice.loss_on == "all" and not _is_text(choice),
        "packing": False,
        **optimisation(choice),
        "disable_gradient_checkpointing": not choice.training["gradient_checkpointing"],
        "report_to": "none",
        "output_dir": output_folder(choice),
    }
    how = "Run it with: llamafactory-cli train FILE, once dataset_info.json (below) stands in dataset_dir."
    return header("llamafactory", choice, how, _differences(choice)) + as_yaml(settings)


def dataset_info(choice: Choice) -> dict[str, Any]:
    """Return the ``dataset_info.json`` that names the columns of the study's rows."""
    columns = MESSAGES if choice.chat else TEXTS if _is_text(choice) else INSTRUCTIONS
    return {"rows": {"file_name": choice.rows.name, **columns}}


def _differences(choice: Choice) -> list[str]:
    said = [
        f"It reads the rows' columns from a file beside them, dataset_info.json: {json.dumps(dataset_info(choice))}",
        *differences(choice, has_loraplus=True),
        *without_gpu(choice),
        "The modules stand by full name, since it has no key for layers.",
    ]
    if choice.templated:
        said.append("It has templates of its own by name: put that of your model in place of `default`.")
    elif choice.prompt in ("alpaca", "plain"):
        said.append("Its wording of a row and the white space around it differ a little from the run's.")
    return said


def _is_text(choice: Choice) -> bool:
    return choice.prompt == "text" and not choice.chat


def _template(choice: Choice) -> str:
    return "default" if choice.templated else TEMPLATES[choice.prompt]


def _four_bit(choice: Choice) -> dict[str, Any]:
    if not choice.quantization:
        return {}
    return {
        "quantization_bit": 4,
        "quantization_method": "bnb",
        "quantization_type": "nf4",
        "double_quantization": True,
    }
