"""A run's optimisation in the words of transformers' TrainingArguments, which four of the tools take or extend."""

from __future__ import annotations

from typing import Any

from aletheia.exports.choice import Choice
from aletheia.exports.placement import placement

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
CONSTANT = "constant"


def output_folder(choice: Choice) -> str:
    """Return the folder that a tool writes into."""
    return f"{choice.model}-{choice.arm}-seed{choice.seed}"


def warmup_steps(choice: Choice) -> int:
    """Return the steps of a run's warm-up; a constant rate has none."""
    training = choice.training
    return 0 if training["schedule"] == CONSTANT else min(training["warmup_steps"], choice.steps)


def optimisation(choice: Choice) -> dict[str, Any]:
    """Return steps, batches, rate, schedule, AdamW, precision and seed as ``TrainingArguments`` names them."""
    training = choice.training
    optimizer = training["optimizer"]
    return {
        "max_steps": choice.steps,
        "per_device_train_batch_size": training["batch_size"],
        "gradient_accumulation_steps": training["accumulation"],
        "learning_rate": choice.learning_rate,
        "lr_scheduler_type": training["schedule"],
        "warmup_steps": warmup_steps(choice),
        "optim": "adamw_torch_fused",
        "adam_beta1": optimizer["beta1"],
        "adam_beta2": optimizer["beta2"],
        "adam_epsilon": optimizer["epsilon"],
        "weight_decay": optimizer["weight_decay"],
        "max_grad_norm": training["max_grad_norm"],
        "bf16": choice.dtype == "bf16",
        "fp16": choice.dtype == "fp16",
        "seed": choice.seed,
    }


def loraplus_ratio(choice: Choice) -> float | None:
    """Return the rate of B over that of A (LoRA+, arXiv:2402.12354); None where they are equal."""
    ratio = choice.training["optimizer"]["loraplus_lr_ratio"]
    return None if ratio == 1 else ratio


def differences(choice: Choice, *, has_loraplus: bool = False) -> list[str]:
    """Return a sentence on each part of a run that no trainer, or this one, has.

    Parameters
    ----------
    choice
        The run's.
    has_loraplus
        Whether the tool takes a ratio of LoRA+.
    """
    training, lowest = choice.training, placement(choice).layers[0]
    said = ["Its order of rows and its starting values come from other generators, so equal seeds give other losses."]
    if lowest:
        said.append(
            f"It computes the frozen layers below layer {lowest} anew at each visit of a row; no cache keeps them."
        )
    if lowest and training["gradient_checkpointing"]:
        said.append(
            f"With gradient checkpointing PEFT has gradients flow to the embeddings, so that its backward pass does "
            f"not end at layer {lowest}: what that saves is lost."
        )
    if training["warmup_from"] == "first_step" and warmup_steps(choice):
        said.append("Its first step has the rate 0, and the warm-up is a step later than the run's.")
    if loraplus_ratio(choice) and not has_loraplus:
        said.append(
            f"One rate for A and B: the run's B had {loraplus_ratio(choice):g} times the rate of A (LoRA+), which this "
            "file leaves out."
        )
    if active := training.get("layers_active"):
        said.append(
            f"All adapted layers train all the time; in the run {active['count']} at a time did, others every "
            f"{active['every']} steps (LISA)."
        )
    return said


def without_gpu(choice: Choice) -> list[str]:
    """Return a sentence for a tool whose file says bf16, which transformers refuses on a CPU unless told."""
    return ["Where there is no GPU, add use_cpu: true, or bf16 is refused."] if choice.dtype == "bf16" else []


def wants_messages(choice: Choice) -> list[str]:
    """Return a sentence for a tool whose chat rows have messages, where the study's rows have instructions."""
    if not choice.templated or choice.chat:
        return []
    return [
        "It wants the column messages (role, content) in the rows; those of the study have instruction, input and "
        "output, which the run put to the chat template as one question and its answer: convert them first."
    ]
