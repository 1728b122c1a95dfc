"""The adapted modules of a run as other tools name them: kinds and layers where that says it all, else full names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.exports.choice import Choice
from aletheia.method.adapters import RSLORA, module_kind
from aletheia.method.layers import layer_index


@dataclass(frozen=True)
class Placement:
    """Where a run's adapters are.

    Attributes
    ----------
    layers
        Adapted layers, ascending.
    kinds
        Where each adapted layer has the same modules: their names within a layer (``self_attn.q_proj``), in order; else
        None.
    prefix
        What stands before a layer's number (``model.layers``).
    modules, parameters
        Full names of linears and of fused experts.
    rank, alpha
        The commonest.
    ranks, alphas
        Of those that differ, by full name.
    """

    layers: list[int]
    kinds: list[str] | None
    prefix: str
    modules: list[str]
    parameters: list[str]
    rank: int
    alpha: int
    ranks: dict[str, int]
    alphas: dict[str, int]

    @property
    def uniform(self) -> bool:
        """Tell whether all adapters have one rank and one alpha."""
        return not self.ranks and not self.alphas

    def short_kinds(self) -> list[str] | None:
        """Return the last parts of the kinds (``q_proj``), where each names one of them; else None."""
        if self.kinds is None or self.parameters:
            return None
        short = [module_kind(kind) for kind in self.kinds]
        return short if len(set(short)) == len(short) else None


def placement(choice: Choice) -> Placement:
    """Return where a run's adapters are."""
    names = list(choice.modules)
    modules = [name for name in names if name not in choice.parameters]
    by_layer: dict[int, list[str]] = {}
    for name in modules:
        by_layer.setdefault(int(layer_index(name) or 0), []).append(_within(name))
    ranks, alphas = ({name: choice.modules[name][key] for name in names} for key in ("rank", "alpha"))
    rank, alpha = (_commonest(values.values()) for values in (ranks, alphas))
    kinds = list(by_layer.values())
    same = bool(kinds) and all(sorted(each) == sorted(kinds[0]) for each in kinds)
    return Placement(
        layers=sorted({int(layer_index(name) or 0) for name in names}),
        kinds=kinds[0] if same else None,
        prefix=names[0][: _layer_part(names[0]).start()],
        modules=modules,
        parameters=[name for name in names if name in choice.parameters],
        rank=rank,
        alpha=alpha,
        ranks={name: value for name, value in ranks.items() if value != rank},
        alphas={name: value for name, value in alphas.items() if value != alpha},
    )


def patterns(values: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """Return a ``rank_pattern`` or ``alpha_pattern`` as PEFT reads it: regular expressions for the ends of names.

    Parameters
    ----------
    values
        By full name, of those that differ from the commonest.
    names
        All adapted names. A kind whose every module has one value stands as itself, any other name whole.
    """
    kinds: dict[str, set[int | None]] = {}
    for name in names:
        kinds.setdefault(module_kind(name), set()).add(values.get(name))
    whole = {kind: found for kind, found in kinds.items() if len(found) == 1}
    return {
        (module_kind(name) if module_kind(name) in whole else "^" + re.escape(name)): value
        for name, value in values.items()
    }


def rslora(choice: Choice) -> bool:
    """Tell whether an adapter's output is scaled by alpha / √rank (arXiv:2312.03732)."""
    return choice.adapter["scaling"] == RSLORA


def described(choice: Choice, place: Placement) -> str:
    """Return one line on the adapters of a run."""
    how = {"all": "all", "listed": "listed by hand"}.get(choice.method, f"chosen by {choice.method}")
    ranks = sorted({entry["rank"] for entry in choice.modules.values()})
    alphas = sorted({entry["alpha"] for entry in choice.modules.values()})
    return (
        f"Layers {_ranges(place.layers)} of {choice.layers_total} ({how}), {len(choice.modules)} modules, rank "
        f"{', '.join(map(str, ranks))}, alpha {', '.join(map(str, alphas))}."
    )


def _ranges(layers: list[int]) -> str:
    """Return ascending numbers with runs of them drawn together: ``2, 5-9``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _layer_part(name: str) -> Any:
    """Return the match of a name's layer: a number between dots."""
    return re.search(rf"\.{layer_index(name)}\.", name)


def _within(name: str) -> str:
    return name[_layer_part(name).end() :]


def _commonest(values: Iterable[int]) -> int:
    counts = Counter(values)
    return max(sorted(counts), key=counts.__getitem__)
