"""The cost of one optimiser step: a linear model of the adapters' positions, and the parts of a saving.

For a model of L layers, k of which carry adapters of rank r, ℓ the lowest of them, and N positions (padding included),

    t = N · [fixed + L·forward + (L − ℓ)·(backward + c·forward) + k·(adapter + r·adapter_rank)]

with c = 1 where the backward pass recomputes activations (gradient checkpointing) and 0 elsewhere. `fixed` is the part
that is equal in all arms: embeddings, head, loss. The cost of adapters is that of their forward and backward pass and
their update.

Against an arm with adapters in all L layers, of rank R, an arm saves in two ways:

    truncated backward  N · ℓ·(backward + c·forward)                                the pass stops at layer ℓ
    absent adapters     N · [L·(adapter + R·adapter_rank) − k·(adapter + r·adapter_rank)]

The model assumes layers of equal width, adapters whose position matters through ℓ alone, and costs proportional to N.
N has no padding where rows are joined (:mod:`aletheia.training.joined_rows`). Adapters of one layer that read one input
share their products, so that a layer of which some modules carry them is counted as a little too cheap.
Under checkpointing the adapters' forward pass is repeated too; the model counts that as the layer's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError

FORMULA = "N*[fixed + L*forward + (L-l)*(backward + c*forward) + k*(adapter + r*adapter_rank)]"
PARTS = ("fixed", "forward", "backward", "adapter", "adapter_rank")


@dataclass(frozen=True)
class Shape:
    """The properties of an arm that decide its cost.

    Attributes
    ----------
    layers_total
        L.
    adapted
        k, the number of layers with adapters; a layer of which some modules carry them counts as its share.
    lowest
        ℓ, the lowest of them, from 0.
    rank
        r; the mean over an adapted layer's modules where they differ.
    recomputed
        Whether the backward pass recomputes activations.
    """

    layers_total: int
    adapted: float
    lowest: int
    rank: float
    recomputed: bool

    @property
    def differentiated(self) -> int:
        """Number of layers that the backward pass runs through, L − ℓ."""
        return self.layers_total - self.lowest

    def columns(self) -> list[float]:
        """Return the factors of :data:`PARTS` in the step time of one position."""
        passes = self.layers_total + self.recomputed * self.differentiated
        return [1.0, passes, self.differentiated, self.adapted, self.adapted * self.rank]


@dataclass(frozen=True)
class CostModel:
    """The parts of a step, in seconds a position; numbers, or arrays of one shape (one entry a resample).

    Attributes
    ----------
    fixed, forward, backward, adapter, adapter_rank
        See the module's formula. ``forward`` is None where all calibrating arms agree on checkpointing: it is then
        contained in ``fixed`` and, with checkpointing, in ``backward``, and every prediction stays the same.
    """

    fixed: Any
    forward: Any
    backward: Any
    adapter: Any
    adapter_rank: Any

    def seconds(self, shape: Shape, positions: Any) -> Any:
        """Return the predicted seconds of a step of so many positions.

        Parameters
        ----------
        shape
            The arm. Without a known ``forward`` it must agree with the calibrating arms on checkpointing.
        positions
            N, of all micro-batches of a step together.
        """
        columns = dict(zip(PARTS, shape.columns(), strict=True))
        return positions * sum(columns[name] * value for name, value in vars(self).items() if value is not None)

    def saving(self, baseline: Shape, shape: Shape, positions: Any) -> dict[str, Any]:
        """Return the predicted seconds that an arm saves against a baseline, by cause.

        Returns
        -------
        dict
            ``truncated_backward`` and ``absent_adapters``; together the difference of the two predictions where the
            arms agree on checkpointing.
        """
        skipped = baseline.differentiated - shape.differentiated
        recomputation = self.forward if shape.recomputed and self.forward is not None else 0.0
        adapters = self.adapter * (baseline.adapted - shape.adapted)
        adapters = adapters + self.adapter_rank * (baseline.adapted * baseline.rank - shape.adapted * shape.rank)
        return {
            "truncated_backward": positions * skipped * (self.backward + recomputation),
            "absent_adapters": positions * adapters,
        }


def seconds_of_step(parts: Mapping[str, float | None], shape: Shape) -> float:
    """Return the predicted seconds of a step, the adapters of a layer at least 0.

    Parameters
    ----------
    parts
        Seconds of a whole step by :data:`PARTS`: of one position, whatever it holds.
    shape
        The arm.
    """
    adapters = max(0.0, parts["adapter"] + shape.rank * parts["adapter_rank"])
    return CostModel(**{**parts, "adapter": adapters, "adapter_rank": 0.0}).seconds(shape, 1)


def calibrate(shapes: Sequence[Shape], seconds: Any) -> CostModel:
    """Fit the cost model to measured arms by least squares; exactly where there are as many arms as parts.

    Parameters
    ----------
    shapes
        The calibrating arms.
    seconds
        Seconds a position, array [arms] or [arms, …]; each further index is fitted on its own.

    Returns
    -------
    CostModel
        A part smaller than the noise may come out negative; it is not clipped.

    Raises
    ------
    UserError
        When the arms cannot tell the parts apart.
    """
    import numpy as np

    parts = list(PARTS)
    if len({shape.recomputed for shape in shapes}) < 2:
        parts.remove("forward")
    matrix = np.array([shape.columns() for shape in shapes], dtype=float)[:, [PARTS.index(name) for name in parts]]
    if np.linalg.matrix_rank(matrix) < len(parts):
        raise UserError(
            f"cost model: expected arms that tell {', '.join(parts)} apart, found {len(shapes)} that do not; take arms "
            "that differ in the number of adapted layers, the lowest of them, and the rank"
        )
    values = np.asarray(seconds, dtype=float)
    # pinv is the least-squares solution for a matrix of full column rank, and takes any shape on the right.
    solution = np.tensordot(np.linalg.pinv(matrix), values, axes=1)
    return CostModel(**{**dict.fromkeys(PARTS), **dict(zip(parts, solution, strict=True))})
