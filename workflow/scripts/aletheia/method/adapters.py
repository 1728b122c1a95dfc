"""Place LoRA adapters by full module name, start them equally in every arm, and audit the placement."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layers import Layer, adaptable_layers, keeps_transposed, layer_index
from aletheia.provenance.atomic_write import apply_umask

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

RANK, ALPHA = 16, 32  # the paper's section 3.4
ALL, GROUPS = "all", ("attention", "mlp")
STANDARD, RSLORA = "standard", "rslora"


def placement_plan(
    layers: Sequence[Layer],
    selected: Sequence[int],
    *,
    rank: Mapping[str, int] | int = RANK,
    alpha: Mapping[str, int] | int = ALPHA,
    modules: Sequence[str] | str = ALL,
) -> dict[str, Any]:
    """Return the rank and alpha of each adapted module of the selected layers.

    Parameters
    ----------
    layers
        All layers of the model (:func:`aletheia.method.layers.adaptable_layers`).
    selected
        Indices of the layers to adapt.
    rank, alpha
        One number for all modules; or ``{"attention": …, "mlp": …}`` and numbers for kinds of modules, such as
        ``"v_proj"``, which take precedence over their group's.
    modules
        Which of a layer's modules: ``"all"``, ``"attention"``, ``"mlp"``, or a list of groups and kinds.

    Returns
    -------
    dict
        ``layers``, ``target_modules`` and ``target_parameters`` (fused experts) as full names, ``rank_pattern`` and
        ``alpha_pattern`` by full name.

    Raises
    ------
    UserError
        When a layer is not in the model, or none is selected; when the model has no module of a named kind, or none is
        left to adapt; when a module has no rank or alpha.
    """
    adapted_layers = sorted(set(selected))
    depth = len(layers)
    outside = [i for i in adapted_layers if not 0 <= i < depth]
    if outside or not adapted_layers:
        raise UserError(f"layers {outside or adapted_layers}: expected at least one layer from 0 to {depth - 1}")
    adapted = [modules] if isinstance(modules, str) else list(modules)
    kinds = {module_kind(name) for layer in layers for name in (*layer.attention, *layer.mlp, *layer.experts)}
    for argument, value in (("modules", adapted), ("rank", rank), ("alpha", alpha)):
        _check_kinds(argument, value if isinstance(value, Mapping | list) else (), kinds)
    plan: dict[str, Any] = {"layers": adapted_layers, "target_modules": [], "target_parameters": []}
    ranks: dict[str, int] = {}
    alphas: dict[str, int] = {}
    for layer in (layers[i] for i in adapted_layers):
        for group, key, names in (
            ("attention", "target_modules", layer.attention),
            ("mlp", "target_modules", layer.mlp),
            ("mlp", "target_parameters", layer.experts),
        ):
            chosen = [name for name in names if {ALL, group, module_kind(name)} & set(adapted)]
            plan[key] += chosen
            ranks |= {name: _number("rank", rank, group, name) for name in chosen}
            alphas |= {name: _number("alpha", alpha, group, name) for name in chosen}
    if not ranks:
        raise UserError(
            f"modules {', '.join(adapted)}: expected some in layers {adapted_layers}, found none; name others"
        )
    return {**plan, "rank_pattern": ranks, "alpha_pattern": alphas}


def module_kind(name: str) -> str:
    """Return the last part of a module's full name."""
    return name.rpartition(".")[2]


def _check_kinds(argument: str, named_kinds: Iterable[str], kinds: set[str]) -> None:
    """Refuse a kind of modules that no layer of the model has: its rank or alpha would apply to nothing."""
    for kind in named_kinds:
        if kind not in {ALL, *GROUPS, *kinds}:
            known = ", ".join([*GROUPS, *sorted(kinds)])
            raise UserError(f"{argument}: expected a kind of the model's modules ({known}), found {kind}")


def _number(argument: str, value: Mapping[str, int] | int, group: str, name: str) -> int:
    """Return the rank or alpha of a module: that of its kind, else that of its group."""
    if not isinstance(value, Mapping):
        return int(value)
    number = value.get(module_kind(name), value.get(group))
    if number is None:
        raise UserError(
            f"{argument}: expected a number for {module_kind(name)}, or for {group}, found neither ({name}); add one"
        )
    return int(number)


def lora_config(
    model: PreTrainedModel,
    selected: Sequence[int],
    *,
    rank: Mapping[str, int] | int = RANK,
    alpha: Mapping[str, int] | int = ALPHA,
    modules: Sequence[str] | str = ALL,
    scaling: str = STANDARD,
    dropout: float = 0.0,
) -> LoraConfig:
    """Return a ``peft.LoraConfig`` that adapts exactly the named modules of the selected layers.

    Parameters
    ----------
    model
        A causal language model of transformers.
    selected
        Layer indices, as from :func:`aletheia.method.selection.select_layers`.
    rank, alpha
        One number, or ``{"attention": …, "mlp": …}`` for the asymmetric allocation, or by kind of module.
    modules
        ``"all"``, ``"attention"``, ``"mlp"``, or a list of groups and kinds such as ``["v_proj", "down_proj"]``.
    scaling
        ``"standard"`` (alpha / rank) or ``"rslora"`` (alpha / √rank).
    dropout
        LoRA dropout; fused experts allow only 0.

    References
    ----------
    The paper's section 3.4; Hu et al., "LoRA", arXiv:2106.09685; Kalajdzievski, "A rank stabilization scaling factor",
    arXiv:2312.03732.
    """
    plan = placement_plan(adaptable_layers(model), selected, rank=rank, alpha=alpha, modules=modules)
    return config_from_plan(plan, model, dropout=dropout, scaling=scaling)


def config_from_plan(
    plan: Mapping[str, Any], model: PreTrainedModel, *, dropout: float = 0.0, scaling: str = STANDARD
) -> LoraConfig:
    """Return the ``peft.LoraConfig`` of a placement plan (a selection artifact's payload has the same keys)."""
    from peft import LoraConfig

    ranks, alphas = plan["rank_pattern"], plan["alpha_pattern"]
    # r and lora_alpha hold the commonest value, the patterns only what differs. PEFT reads a pattern's keys as regular
    # expressions anchored at the end, so the dots of a full name are escaped.
    rank, alpha = _commonest(ranks), _commonest(alphas)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        use_rslora=scaling == RSLORA,
        lora_dropout=dropout,
        # Whether weights are kept as Wᵀ, as GPT-2's are; in 4 bits they are not.
        fan_in_fan_out=any(keeps_transposed(model.get_submodule(name)) for name in plan["target_modules"]),
        target_modules=list(plan["target_modules"]),
        target_parameters=list(plan.get("target_parameters") or []) or None,
        rank_pattern={_name_pattern(n): r for n, r in ranks.items() if r != rank},
        alpha_pattern={_name_pattern(n): a for n, a in alphas.items() if a != alpha},
    )


def _commonest(values: Mapping[str, int]) -> int:
    counts = list(values.values())
    return max(sorted(set(counts)), key=counts.count)


def _name_pattern(name: str) -> str:
    return "^" + name.replace(".", r"\.")


def attach(
    model: PreTrainedModel, plan: Mapping[str, Any], *, dropout: float, seed: int, scaling: str = STANDARD
) -> PeftModel:
    """Wrap ``model`` with the plan's adapters, start them from (seed, module name), and audit the placement.

    Raises
    ------
    UserError
        When the plan is another model's, or the adapted modules are not the planned ones.
    """
    from peft import get_peft_model

    names = {name for named in (model.named_modules(), model.named_parameters()) for name, _ in named}
    missing = sorted(plan["rank_pattern"].keys() - names)
    if missing:
        raise UserError(
            f"expected a selection of this model's modules, found {missing[0]} and {len(missing) - 1} more that it "
            f"does not have ({model.config.model_type}); select its layers from its own probe"
        )
    peft_model = get_peft_model(model, config_from_plan(plan, model, dropout=dropout, scaling=scaling))
    seed_adapters(peft_model, seed)
    audit(peft_model, plan, scaling=scaling)
    return peft_model


def seed_adapters(peft_model: PeftModel, seed: int) -> None:
    """Draw each ``lora_A`` again from a generator of its own, so that arms start shared modules from equal values.

    PEFT draws all of them from the global generator, from which an arm with fewer layers gets other values. The
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


def adapted_modules(peft_model: PeftModel) -> Iterator[tuple[str, Any]]:
    """Yield each adapter in the model: the full name of its module, or parameter, and PEFT's module."""
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper

    prefix = "base_model.model."
    for name, module in peft_model.named_modules():
        if not isinstance(module, LoraLayer) or "default" not in module.r:
            continue
        full = name.removeprefix(prefix).replace(".base_layer", "")
        if isinstance(module, ParamWrapper):
            full = f"{full}.{module.parameter_name}"
        yield full, module


def placed_modules(peft_model: PeftModel) -> dict[str, dict[str, int]]:
    """Return ``{full module or parameter name: {"rank", "alpha"}}`` of every adapter in the model."""
    return {
        name: {"rank": int(module.r["default"]), "alpha": int(module.lora_alpha["default"])}
        for name, module in adapted_modules(peft_model)
    }


def audit(peft_model: PeftModel, plan: Mapping[str, Any], *, scaling: str = STANDARD) -> dict[str, Any]:
    """Compare the adapted modules with the plan, and return what the artifacts say of them.

    Returns
    -------
    dict
        ``layers``, ``layers_total``, ``lowest_layer``, ``modules``, ``dtype``, ``trainable_parameters``.

    Raises
    ------
    UserError
        When a planned module has no adapter, or one of another rank or alpha; when a module that is not planned has an
        adapter; when an adapter's output has another scale.
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
    _audit_scaling(peft_model, scaling)
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


def _audit_scaling(peft_model: PeftModel, scaling: str) -> None:
    from peft.tuners.lora.layer import LoraLayer

    for name, module in peft_model.named_modules():
        if isinstance(module, LoraLayer) and "default" in module.r:
            rank, alpha, scale = module.r["default"], module.lora_alpha["default"], module.scaling["default"]
            expected = alpha / (math.sqrt(rank) if scaling == RSLORA else rank)
            if not math.isclose(scale, expected):
                raise UserError(
                    f"{name}: expected adapters scaled by {expected:g} ({scaling}, rank {rank}, alpha {alpha}), found "
                    f"{scale:g}; report this family ({peft_model.config.model_type})"
                )


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
        The base model's public name (:func:`aletheia.training.model_card.base_model`). PEFT would write the path that
        it was loaded from, which exists on this machine only.
    """
    for adapter in model.peft_config.values():
        # PEFT has a set here, whose order, and so the bytes of adapter_config.json, would differ between processes.
        adapter.target_modules = sorted(adapter.target_modules)
        adapter.base_model_name_or_path, adapter.revision = base, revision
    # Embeddings are never adapted; to check that, PEFT would look the base model up by its name.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").write_text(card, encoding="utf-8")
    apply_umask(folder)
