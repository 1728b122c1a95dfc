"""How far each module's adapter moves in a few steps of training: scores of layers by training, not by gradients.

All layers have adapters, as in the standard arm, and train on the first rows of its plan of batches with its own
optimiser, at its peak rate from the first step on. The product B·A starts at 0, so its norm is what training has added.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aletheia.method.adapters import adapted_modules
from aletheia.method.layers import adaptable_layers, layer_index
from aletheia.method.loading import check_context, load, load_options, resolve_dtype
from aletheia.provenance.machine_load import LoadMeter
from aletheia.provenance.start import work_begins
from aletheia.study.selectors import UPDATES
from aletheia.training.batch_plan import planned_batches
from aletheia.training.loop import Loop
from aletheia.training.placement import place_adapters

if TYPE_CHECKING:
    from peft import PeftModel

    from aletheia.training.run_inputs import RunInputs

# Scores of the probe that this step does not measure.
NOT_MEASURED = (
    *("l2", "sum_of_norms", "relative", "gradient_times_weight", "fisher", "normalized"),
    *("block_influence", "activation_norm", "weight_snr"),
)
# In place of the run's: a few steps of a warm-up would move nothing, and all layers are compared.
FROM_THE_FIRST_STEP = {"schedule": "constant", "warmup_steps": 0, "warmup_from": 0, "layers_active": None}
OVERFLOWED = "no step moved the adapters: each one's gradient overflowed in fp16; take more probe.update_steps"


def module_updates(model: PeftModel) -> dict[str, float]:
    """Return ``{module: ‖s·B·A‖_F}`` of every adapter, by full name, s its scale; of fused experts over them all.

    B·A, as large as the weight itself, is not formed: ‖B·A‖² = tr((BᵀB)·(AAᵀ)), of two matrices of rank by rank.
    """
    return {name: _norm(module) for name, module in adapted_modules(model)}


def _norm(module: Any) -> float:
    a, b = (factors["default"].weight.detach().double() for factors in (module.lora_A, module.lora_B))
    experts = getattr(module, "num_experts", 1)
    # PEFT stacks the experts' A by expert, then rank, and their B by rank, then expert.
    a = a.reshape(experts, -1, a.shape[-1])
    b = b.reshape(b.shape[0], -1, experts).permute(2, 1, 0)
    squared = ((a @ a.mT) * (b @ b.mT)).sum()
    return float(squared.clamp(min=0).sqrt()) * abs(module.scaling["default"])


def layer_updates(updates: Mapping[str, float], depth: int) -> list[float]:
    """Return √(Σ_m u_m²) over the modules m of each of ``depth`` layers; 0 for a layer without any."""
    squares: list[list[float]] = [[] for _ in range(depth)]
    for name, value in updates.items():
        squares[layer_index(name)].append(value**2)
    return [math.sqrt(math.fsum(each)) for each in squares]


def train_steps(loop: Loop, steps: int) -> tuple[list[float], str | None]:
    """Return the losses of the steps of a loop, and why it ended as diverged, or None."""
    losses: list[float] = []
    moved = False
    for _ in range(steps):
        step = loop.step()
        if step.failure:
            return losses, step.failure
        losses.append(step.loss)
        moved = moved or math.isfinite(step.gradient_norm)
    return losses, None if moved else OVERFLOWED


def measure_updates(inputs: RunInputs, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train adapters in all layers for a few steps, and score each layer by what they became.

    Parameters
    ----------
    inputs
        Model, data and seed. The batches are the first ones of the plan that runs of this model and seed read.
    config
        Sections ``model``, ``encoding``, ``adapter``, ``training`` (the standard arm's; its schedule, warm-up and
        ``layers_active`` are not read) and ``probe``, with ``update_steps``.

    Returns
    -------
    tuple
        Payload of a ``probe`` artifact, and what was observed: the seconds of the steps, and the machine's load.
    """
    steps = config["probe"]["update_steps"]
    settings = {**config["training"], **FROM_THE_FIRST_STEP}
    rows = inputs.rows(config, lambda: tokenizer)
    dtype = resolve_dtype(config["model"], inputs.precision)
    model, tokenizer = load(inputs.model_lock, dtype=dtype, **load_options(config["model"]))
    check_context(model, config["encoding"]["max_tokens"])
    adaptable = [layer.names() for layer in adaptable_layers(model)]
    plan = planned_batches(rows, tokenizer.pad_token_id, settings, plan=None, steps=steps, seed=inputs.seed)
    placed = {"adapter": config["adapter"], "arm": {"layers": "all"}, "training": settings}
    wrapped, placement = place_adapters(model, None, placed, seed=inputs.seed)
    rate = settings["learning_rate"] * config["model"]["learning_rate_scale"]
    made = {"steps": steps, "learning_rate": rate, "dtype": dtype, "seed": inputs.seed}
    loop = Loop(wrapped, plan.batches, settings=settings, placement=placement, **made)
    work_begins()
    load_meter, began = LoadMeter(), time.perf_counter()
    losses, failure = train_steps(loop, steps)
    seconds = time.perf_counter() - began
    about = {"dtype": dtype, "quantization": config["model"]["quantization"], "adaptable": adaptable}
    updates = {} if failure else module_updates(wrapped)
    payload = updates_payload(updates, losses, failure, **about)
    return payload, {"probe_seconds": seconds, "part_seconds": {UPDATES: seconds}, "load": load_meter.shares()}


def updates_payload(
    updates: Mapping[str, float],
    losses: Sequence[float],
    failure: str | None,
    *,
    dtype: str,
    quantization: str | None,
    adaptable: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the payload of a ``probe`` artifact whose scores are the updates of adapters, and no others.

    Parameters
    ----------
    updates
        Of :func:`module_updates`; none where training failed.
    losses, failure
        Of :func:`train_steps`.
    dtype, quantization
        Of the weights.
    adaptable
        The modules of each layer, as :class:`aletheia.method.layers.Layer` names them.
    """
    scores = None if failure else layer_updates(updates, len(adaptable))
    return {
        "status": "diverged" if failure else "ok",
        "reason": failure,
        "method": UPDATES,
        "dtype": dtype,
        "quantization": quantization,
        "layers_total": len(adaptable),
        "scores": {**dict.fromkeys(NOT_MEASURED), "adapter_update": scores},
        "losses": list(losses),
        "per_module": [],
        "weight_norms": {},
        "module_snr": None,
        "module_update": dict(updates),
        "adaptable": list(adaptable),
        "steps": len(losses),
    }
