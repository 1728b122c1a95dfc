"""What bounds a ratio: the FLOPs that a side's matrix products take, and where its processor time goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Parts of a pass by the operators that do the work; what is in none of them is `other`.
PARTS = {
    "products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"),
    "attention": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
        "aten::_softmax",
        "aten::_softmax_backward_data",
    ),
    "loss": (
        "aten::_log_softmax",
        "aten::_log_softmax_backward_data",
        "aten::nll_loss_forward",
        "aten::nll_loss_backward",
    ),
    "elementwise": (
        "aten::mul",
        "aten::mul_",
        "aten::add",
        "aten::add_",
        "aten::silu",
        "aten::silu_backward",
        "aten::neg",
    ),
    "copies": ("aten::copy_", "aten::cat", "aten::fill_", "aten::clone"),
    "reductions": ("aten::sum", "aten::mean", "aten::pow", "aten::linalg_vector_norm"),
}


def flops(call: Callable[[], Any]) -> int:
    """Return the FLOPs of a call's matrix products, by torch's own formulas; other operators are not counted."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func.overloadpacket in flop_registry:
                self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
            return out

    # Not FlopCounterMode: its hooks on modules do not live with torch.autograd.grad.
    with Counter() as counter:
        call()
    return counter.total


def shares(call: Callable[[], Any]) -> dict[str, float]:
    """Return each part's share of a call's processor time, as torch's profiler sees it."""
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    own = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(own.values())
    parts = {part: sum(own.get(name, 0) for name in names) / total for part, names in PARTS.items()}
    return {**parts, "other": 1 - sum(parts.values())}


def step_parts(call: Callable[[], Any], *, rank: int, vocabulary: int) -> dict[str, float]:
    """Return each part's share of the processor time of a step's second call, products told apart by their shapes.

    Parameters
    ----------
    call
        Does a step.
    rank
        Of the adapters: a product with a side of at most three ranks is `narrow` (query, key and value together).
    vocabulary
        Size of the head: a product with such a side is `head`; all others are `wide`.
    """
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        call()
    seconds: dict[str, float] = {}
    for event in profiled.key_averages(group_by_input_shape=True):
        part = _part(event.key, event.input_shapes, rank=rank, vocabulary=vocabulary)
        seconds[part] = seconds.get(part, 0.0) + event.self_cpu_time_total
    total = sum(seconds.values())
    return {part: spent / total for part, spent in sorted(seconds.items(), key=lambda item: -item[1])}


def _part(operator: str, shapes: Any, *, rank: int, vocabulary: int) -> str:
    if operator in ("aten::mm", "aten::addmm", "aten::addmm_"):
        sides = {side for shape in shapes for side in shape or () if len(shape) == 2}
        if vocabulary in sides:
            return "head"
        return "narrow" if min(sides) <= 3 * rank else "wide"
    if operator in ("aten::bmm", "aten::baddbmm"):
        return "attention"
    if "adamw" in operator or "norm" in operator:
        return "optimiser"
    return next((part for part, names in PARTS.items() if operator in names), "other")
