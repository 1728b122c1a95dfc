"""The optimiser of a run and its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel


def adamw(model: PeftModel, learning_rate: float, settings: Mapping[str, Any]) -> Any:
    """Return the optimiser of a model's adapters, fused.

    Parameters
    ----------
    model
        With adapters, all that it trains.
    learning_rate
        Peak rate; that of the matrices A where B has another.
    settings
        The section ``training.optimizer``.

    References
    ----------
    The paper's section 3.4; Hayou et al., "LoRA+", arXiv:2402.12354, for another rate of B.
    """
    import torch

    return torch.optim.AdamW(
        _groups(model, learning_rate, settings["loraplus_lr_ratio"]),
        lr=learning_rate,
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )


def _groups(model: PeftModel, learning_rate: float, ratio: float) -> list[Any]:
    """Return AdamW's parameters: all adapters in one group, or B in a group at ``ratio`` times the rate of A."""
    adapters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if ratio == 1:
        return list(adapters.values())
    faster = [parameter for name, parameter in adapters.items() if ".lora_B." in name]
    others = [parameter for name, parameter in adapters.items() if ".lora_B." not in name]
    return [{"params": others}, {"params": faster, "lr": learning_rate * ratio}]


def schedule(optimizer: Any, settings: Mapping[str, Any], steps: int) -> Any:
    """Return the learning-rate schedule of a run.

    Parameters
    ----------
    optimizer
        Whose rate is the peak.
    settings
        ``schedule``, ``warmup_steps`` and ``warmup_from`` of the campaign's ``training`` section.
    steps
        Optimiser steps of the run.

    Returns
    -------
    torch.optim.lr_scheduler.LambdaLR
        Of step i, counted from 0, a warm-up of w steps takes i / w of the peak from 0 on, as Trainer does, and
        (i + 1) / w from the first step on, which is Trainer's schedule of one step more, without its first.
    """
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import get_scheduler

    shift = int(settings["warmup_from"] == "first_step")
    trainers = get_scheduler(settings["schedule"], optimizer, min(settings["warmup_steps"], steps), steps + shift)
    if not shift:
        return trainers
    rate = trainers.lr_lambdas[0]  # each group's
    return LambdaLR(optimizer, lambda done: rate(done + shift))
