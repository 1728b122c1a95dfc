"""Place LoRA adapters by full module name, start them equally in every arm, and audit what was placed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layers import Layer, adaptable_layers, layer_index
from aletheia.provenance.atomic_write import as_users_files

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

RANK, ALPHA = 16, 32  # the paper's section 3.4


def placement_plan(
    layers: Sequence[Layer],
    selected: Sequence[int],
    *,
    rank: Mapping[str, int] | int = RANK,
    alpha: Mapping[str, int] | int = ALPHA,
) -> dict[str, Any]:
    """Return which modules of the selected layers get which rank and alpha.

    Parameters
    ----------
    layers
        All layers of the model (:func:`aletheia.method.layers.adaptable_layers`).
    selected
        Indices of the layers to adapt.
    rank, alpha
        One number for all modules, or ``{"attention": …, "mlp": …}``.

    Returns
    -------
    dict
        ``layers``, ``target_modules`` and ``target_parameters`` (fused experts) as full names, ``rank_pattern`` and
        ``alpha_pattern`` by full name.

    Raises
    ------
    UserError
        When a layer is not in the model, or none is selected.
    """
    wanted = sorted(set(selected))
    depth = len(layers)
    outside = [i for i in wanted if not 0 <= i < depth]
    if outside or not wanted:
        raise UserError(f"layers {outside or wanted}: expected at least one layer from 0 to {depth - 1}")

    def of(value: Mapping[str, int] | int, group: str) -> int:
        return int(value[group]) if isinstance(value, Mapping) else int(value)

    plan: dict[str, Any] = {"layers": wanted, "target_modules": [], "target_parameters": []}
    ranks: dict[str, int] = {}
    alphas: dict[str, int] = {}
    for layer in (layers[i] for i in wanted):
        plan["target_modules"] += [*layer.attention, *layer.mlp]
        plan["target_parameters"] += layer.experts
        for group, names in (("attention", layer.attention), ("mlp", [*layer.mlp, *layer.experts])):
            ranks.update(dict.fromkeys(names, of(rank, group)))
            alphas.update(dict.fromkeys(names, of(alpha, group)))
    return {**plan, "rank_pattern": ranks, "alpha_pattern": alphas}


def lora_config(
    model: PreTrainedModel,
    selected: Sequence[int],
    *,
    rank: Mapping[str, int] | int = RANK,
    alpha: Mapping[str, int] | int = ALPHA,
    dropout: float = 0.0,
) -> LoraConfig:
    """Return a ``peft.LoraConfig`` that adapts exactly the attention and MLP modules of the selected layers.

    Parameters
    ----------
    model
        A causal language model of transformers.
    selected
        Layer indices, as from :func:`aletheia.method.selection.select_layers`.
    rank, alpha
        One number, or ``{"attention": …, "mlp": …}`` for the asymmetric allocation.
    dropout
        LoRA dropout; fused experts allow only 0.

    References
    ----------
    The paper's section 3.4; Hu et al., "LoRA", arXiv:2106.09685.
    """
    plan = placement_plan(adaptable_layers(model), selected, rank=rank, alpha=alpha)
    return config_from_plan(plan, dropout=dropout)


def config_from_plan(plan: Mapping[str, Any], *, dropout: float = 0.0) -> LoraConfig:
    """Return the ``peft.LoraConfig`` of a placement plan (a selection artifact's payload has the same keys)."""
    from peft import LoraConfig

    ranks, alphas = plan["rank_pattern"], plan["alpha_pattern"]
    # PEFT's defaults carry the commonest value; the patterns name just what differs. PEFT reads a pattern's keys as
    # regular expressions anchored at the end, so the dots of a full name are escaped.
    rank, alpha = _commonest(ranks), _commonest(alphas)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(plan["target_modules"]),
        target_parameters=list(plan.get("target_parameters") or []) or None,
        rank_pattern={_anchored(n): r for n, r in ranks.items() if r != rank},
        alpha_pattern={_anchored(n): a for n, a in alphas.items() if a != alpha},
    )


def _commonest(values: Mapping[str, int]) -> int:
    counts = list(values.values())
    return max(sorted(set(counts)), key=counts.count)


def _anchored(name: str) -> str:
    return "^" + name.replace(".", r"\.")


def attach(model: PreTrainedModel, plan: Mapping[str, Any], *, dropout: float, seed: int) -> PeftModel:
    """Wrap ``model`` with the plan's adapters, start them from (seed, module name), and audit the placement.

    Raises
    ------
    UserError
        When the plan is another model's, or what carries adapters is not what was planned.
    """
    from peft import get_peft_model

    there = {name for named in (model.named_modules(), model.named_parameters()) for name, _ in named}
    lost = sorted(plan["rank_pattern"].keys() - there)
    if lost:
        raise UserError(
            f"expected a selection of this model's modules, found {lost[0]} and {len(lost) - 1} more that it does not "
            f"have ({model.config.model_type}); select its layers from its own probe"
        )
    peft_model = get_peft_model(model, config_from_plan(plan, dropout=dropout))
    seed_adapters(peft_model, seed)
    audit(peft_model, plan)
    return peft_model


def seed_adapters(peft_model: PeftModel, seed: int) -> None:
    """Draw each ``lora_A`` anew from a generator of its own, so that arms share the values of shared modules.

    PEFT draws all of them from the global generator, in which an arm with fewer layers falls out of step. The
    distribution is PEFT's: uniform in ±1/√fan_in (Kaiming with a = √5); ``lora_B`` stays zero.

    Parameters
    ----------
    peft_model
        A freshly wrapped model.
    seed
        The run's seed.
    """
    import torch

    for name, parameter in peft_model.named_parameters():
        if ".lora_A." not in name:
            continue
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        bound = 1 / math.sqrt(parameter.shape[-1])
        values = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            parameter.copy_(values)


def placed_modules(peft_model: PeftModel) -> dict[str, dict[str, int]]:
    """Return ``{full module or parameter name: {"rank", "alpha"}}`` of every adapter that the model carries."""
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper

    prefix = "base_model.model."
    placed = {}
    for name, module in peft_model.named_modules():
        if not isinstance(module, LoraLayer) or "default" not in module.r:
            continue
        full = name.removeprefix(prefix).replace(".base_layer", "")
        if isinstance(module, ParamWrapper):
            full = f"{full}.{module.parameter_name}"
        placed[full] = {"rank": int(module.r["default"]), "alpha": int(module.lora_alpha["default"])}
    return placed


def audit(peft_model: PeftModel, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Compare what carries adapters with the plan.

    Returns
    -------
    dict
        ``layers``, ``layers_total``, ``lowest_layer``, ``modules``, ``dtype``, ``trainable_parameters``.

    Raises
    ------
    UserError
        When a planned module has no adapter or another rank, or an unplanned one carries an adapter.
    """
    placed = placed_modules(peft_model)
    planned = {
        name: {"rank": plan["rank_pattern"][name], "alpha": plan["alpha_pattern"][name]}
        for name in plan["rank_pattern"]
    }
    if placed != planned:
        missing, extra = sorted(set(planned) - set(placed)), sorted(set(placed) - set(planned))
        other = sorted(n for n in set(placed) & set(planned) if placed[n] != planned[n])
        raise UserError(
            f"the adapters placed are not those planned: missing {missing[:3]}, unplanned {extra[:3]}, "
            f"other rank or alpha {other[:3]}; report this family ({peft_model.config.model_type})"
        )
    trainable = [p for p in peft_model.parameters() if p.requires_grad]
    layers = sorted({layer_index(name) for name in placed})
    return {
        "layers": layers,
        "layers_total": int(peft_model.config.num_hidden_layers),
        "lowest_layer": layers[0],
        "modules": placed,
        "dtype": str(trainable[0].dtype).removeprefix("torch."),
        "trainable_parameters": sum(p.numel() for p in trainable),
    }


def save_adapter(model: PeftModel, folder: Path, card: str, *, base: str, revision: str | None) -> None:
    """Write a model's adapter in PEFT's format, with the same bytes for the same adapter wherever it was trained.

    Parameters
    ----------
    model
        The model with its adapter.
    folder
        Where it goes.
    card
        Its README.md, in place of PEFT's.
    base, revision
        The base model as others find it (:func:`aletheia.training.model_card.base_model`). PEFT would write the path
        that it was loaded from, which is none elsewhere.
    """
    for adapter in model.peft_config.values():
        # A set, whose order differs from process to process, and with it the bytes of adapter_config.json.
        adapter.target_modules = sorted(adapter.target_modules)
        adapter.base_model_name_or_path, adapter.revision = base, revision
    # Embeddings are never adapted; to find out, PEFT would look for the base model by its name.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").write_text(card, encoding="utf-8")
    as_users_files(folder)
