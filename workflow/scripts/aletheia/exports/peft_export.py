"""A run's choice for PEFT: ``LoraConfig`` with the same placement, in Python."""

from __future__ import annotations

from aletheia.exports.choice import Choice
from aletheia.exports.document import header
from aletheia.exports.lora_code import lora_code


def peft_file(choice: Choice) -> str:
    """Return Python that makes the run's ``LoraConfig``, for ``get_peft_model`` or any trainer that takes one."""
    said = [
        "PEFT holds placement, ranks and scaling alone: rate, schedule, batches and precision are the trainer's "
        f"(the run: rate {choice.learning_rate:g}, {choice.training['schedule']}, {choice.steps} steps of "
        f"{choice.training['batch_size']} x {choice.training['accumulation']} rows).",
        "It draws the starting values of A from torch's generator; the run drew them from (seed, name of module).",
    ]
    how = "Use it as get_peft_model(model, adapter); the adapter folder's own adapter_config.json says the same."
    return f"{header('peft', choice, how, said)}from peft import LoraConfig\n\n{lora_code(choice)}"
