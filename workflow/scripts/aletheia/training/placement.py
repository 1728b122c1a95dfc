"""A loaded model with the adapters of one arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.method.adapters import attach, audit, placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.training.activation_checkpointing import checkpoint_activations


def place_adapters(model: Any, selection: Any, config: Mapping[str, Any], *, seed: int) -> tuple[Any, dict[str, Any]]:
    """Attach the adapters of an arm to a loaded model; return it with their audit.

    Parameters
    ----------
    model
        A base model.
    selection
        Payload of a selection; None for all layers.
    config
        Sections ``adapter``, ``arm`` and ``training``.
    seed
        Of the adapters' starting values.
    """
    adapter = config["adapter"]
    # The arm's settings, which it has by hand, take precedence over the run's.
    settings = {key: config["arm"].get(key, adapter[key]) for key in ("modules", "rank", "alpha")}
    plan = selection or placement_plan(adaptable_layers(model), range(model.config.num_hidden_layers), **settings)
    model = attach(model, plan, dropout=adapter["dropout"], seed=seed, scaling=adapter["scaling"])
    if config["training"]["gradient_checkpointing"]:
        checkpoint_activations(model)
    return model, audit(model, plan, scaling=adapter["scaling"])
