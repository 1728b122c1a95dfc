"""What a probe measured, the scores of layers that follow, and the payload of its artifact."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layer_scores import SUMMED, batch_score
from aletheia.method.layers import adaptable_layers, layer_index

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of a payload: what gradients give, what activations give, and what weights give.
GRADIENT_SCORES = (*SUMMED, "normalized")
ACTIVATION_SCORES = ("block_influence", "activation_norm")
SCORES = (*GRADIENT_SCORES, *ACTIVATION_SCORES, "weight_snr")


@dataclass(frozen=True)
class Probe:
    """What was measured of every layer, batch by batch.

    Attributes
    ----------
    norms
        ``norms[b][name]``: L2 norm of the gradient of parameter ``name`` on batch ``b``; empty where gradients were
        not measured, as are ``weight_norms`` and ``losses``.
    weight_norms
        ``weight_norms[name]``: L2 norm of the parameter itself.
    losses
        Loss of each batch.
    layers
        Number of layers L.
    method
        How the norms of linear weights were taken: ``exact`` or ``sketch``.
    block_influence, activation_norm
        ``[b][l]``: means over the tokens of batch b (:mod:`aletheia.method.activations`); None where not measured.
    module_snr, weight_snr
        Signal-to-noise ratios by module, which may be infinite, and one number a layer
        (:mod:`aletheia.method.weight_snr`); None where not measured.
    part_seconds
        By what was measured: ``gradients`` (forward and backward passes, and norms of weights), ``activations`` (the
        forward part of the passes alone), ``weights``. A pass that measures both is in two of them.
    """

    norms: list[dict[str, float]]
    weight_norms: dict[str, float]
    losses: list[float]
    layers: int
    method: str = "exact"
    block_influence: list[list[float]] | None = None
    activation_norm: list[list[float]] | None = None
    module_snr: dict[str, float] | None = None
    weight_snr: list[float] | None = None
    part_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def failure(self) -> str | None:
        """The place of the first value that is not finite, or None."""
        for b, (loss, norms) in enumerate(zip(self.losses, self.norms, strict=True)):
            bad = next((name for name, value in norms.items() if not math.isfinite(value)), None)
            if bad is not None or not math.isfinite(loss):
                return f"batch {b}: {'gradient of ' + bad if bad else 'loss'} is not finite"
        for b, norms in enumerate(self.activation_norm or []):
            for layer, values in enumerate(zip(norms, self.block_influence[b], strict=True)):
                if not all(map(math.isfinite, values)):
                    return f"batch {b}: output of layer {layer} is not finite"
        bad = next((name for name, value in (self.module_snr or {}).items() if math.isnan(value)), None)
        return f"weight of {bad} is not finite" if bad else None

    def per_batch(self, score: str = "l2") -> list[list[float]]:
        """Return the scores of :meth:`scores` before the sum or mean over batches: one list a batch."""
        if score in ACTIVATION_SCORES:
            return getattr(self, score) or []
        rows = []
        for norms in self.norms:
            by_layer: list[list[str]] = [[] for _ in range(self.layers)]
            for name in norms:
                by_layer[layer_index(name)].append(name)
            rows.append([batch_score(norms, self.weight_norms, names, score) for names in by_layer])
        return rows

    def measured(self, score: str) -> bool:
        """Tell whether a score can be had."""
        return self.weight_snr is not None if score == "weight_snr" else bool(self.per_batch(score))

    def scores(self, score: str = "l2") -> list[float]:
        r"""Return one float a layer.

        Parameters
        ----------
        score
            A formula of :mod:`aletheia.method.layer_scores` over all of a layer's parameters, such as ``l2``,
            g_ℓ = Σ_b ‖∇_{θ_ℓ} L(x_b)‖₂, the paper's Eq. 1; ``normalized``: l2 over its sum; ``block_influence`` or
            ``activation_norm``: the mean over batches; ``weight_snr``.

        Raises
        ------
        UserError
            For a score of another name, or one that was not measured.
        """
        if score not in SCORES:
            raise UserError(f"score {score!r}: expected one of {', '.join(SCORES)}")
        source = "l2" if score == "normalized" else score
        if not self.measured(source):
            raise UserError(f"score {score!r}: expected a probe that measured it, found one that did not")
        if score == "weight_snr":
            return list(self.weight_snr)
        rows = self.per_batch(source)
        summed = [math.fsum(column) for column in zip(*rows, strict=True)]
        if score in ACTIVATION_SCORES:
            return [value / len(rows) for value in summed]
        if score != "normalized":
            return summed
        total = math.fsum(summed)
        return [value / total if total else 0.0 for value in summed]


def probe_payload(
    measured: Probe, model: PreTrainedModel, *, dtype: str, quantization: str | None = None
) -> dict[str, Any]:
    """Return the payload of a probe artifact: scores, norms by batch and parameter, and the adaptable modules.

    A score that was not measured is None; all are where a value that was asked for is not finite.
    """
    failure = measured.failure
    wanted = [] if failure else [name for name in SCORES if measured.measured("l2" if name == "normalized" else name)]
    ratios = measured.module_snr
    return {
        "status": "diverged" if failure else "ok",
        "reason": failure,
        "method": measured.method,
        "dtype": dtype,
        "quantization": quantization,
        "layers_total": measured.layers,
        "scores": {name: measured.scores(name) if name in wanted else None for name in SCORES},
        "losses": [_finite(loss) for loss in measured.losses],
        "per_module": [{name: _finite(v) for name, v in row.items()} for row in measured.norms],
        "weight_norms": measured.weight_norms,
        "module_snr": None if ratios is None else {name: _finite(value) for name, value in ratios.items()},
        "adaptable": [layer.names() for layer in adaptable_layers(model)],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
