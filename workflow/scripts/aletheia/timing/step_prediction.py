"""What a step costs by an attribution's calibrated model, for choosing layers. (It imports no numpy.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.method.cost_aware import StepCosts
from aletheia.timing.step_cost import Shape, seconds_of_step


def step_costs(attribution: Mapping[str, Any]) -> StepCosts:
    """Return the costs of a step by the payload of an attribution.

    The adapters of a layer, ``adapter + r·adapter_rank``, cost at least 0 here: a smaller value is noise, by which more
    adapters would make a step faster.

    Parameters
    ----------
    attribution
        Payload of an artifact of kind ``attribution``. One that failed, or has no cost model, gives costs without
        ``seconds``, with its status (``crashed`` where it has none of its own) and reason.
    """
    status, model, layers_total = attribution["status"], attribution["cost_model"], attribution["layers_total"]
    if status != "ok" or model is None:
        reason = attribution["reason"] or "its calibrating arms failed"
        return StepCosts("crashed" if status == "ok" else status, f"attribution: {reason}", layers_total, None)
    parts = {name: estimate and estimate["value"] for name, estimate in model["seconds_per_step"].items()}
    recomputed = attribution["gradient_checkpointing"]

    def seconds(lowest: int, adapted: float, rank: float) -> float:
        return seconds_of_step(parts, Shape(layers_total, adapted, lowest, rank, recomputed))

    return StepCosts("ok", None, layers_total, seconds)
