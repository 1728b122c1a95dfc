"""Choices of runs without a run behind them: of any family's modules, with any settings."""

from pathlib import Path

from aletheia.exports.choice import Choice
from aletheia.method.adapters import placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.study.schema import section_defaults
from conftest import tiny_model


def choice_of(family="llama", layers=(1, 2), *, modules="all", rank=4, alpha=8, keep=None, **changes):
    """Return the choice of a run that adapts some layers of a family's tiny model.

    ``keep`` says of each full name whether its adapter stays; ``adapter`` and ``training`` go over the defaults.
    """
    model = tiny_model(family)
    plan = placement_plan(adaptable_layers(model), layers, rank=rank, alpha=alpha, modules=modules)
    names = [name for name in plan["rank_pattern"] if keep is None or keep(name)]
    sections = {name: {**section_defaults(name), **changes.pop(name, {})} for name in ("adapter", "training")}
    optimizer = {**section_defaults("training")["optimizer"], **sections["training"]["optimizer"]}
    sections["training"]["optimizer"] = optimizer
    facts = {
        **{"model": family, "arm": "ale", "seed": 7, "sources": {"results/run.json": "a" * 64}},
        **{"base": "them/tiny", "revision": "c0ffee", "method": "gradient", "layers_total": 3},
        **{"learning_rate": 2e-3, "steps": 90, "max_tokens": 256, "prompt": "alpaca", "loss_on": "response"},
        **{"dtype": "bf16", "quantization": None, "rows": Path("/data/rows/train.jsonl"), "chat": False},
        "modules": {n: {"rank": plan["rank_pattern"][n], "alpha": plan["alpha_pattern"][n]} for n in names},
        "parameters": frozenset(plan["target_parameters"]) & set(names),
    }
    return Choice(**{**facts, **sections, **changes})
