"""The gradient probe: how strongly the fine-tuning data pulls at each layer (the paper's section 3.2, Eq. 1)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.layers import adaptable_layers, layer_index

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SCORES = ("l2", "sum_of_norms", "relative", "normalized")


@dataclass(frozen=True)
class Probe:
    """Gradient norms of every layer's parameters, batch by batch.

    Attributes
    ----------
    norms
        ``norms[b][name]``: L2 norm of the gradient of parameter ``name`` on batch ``b``.
    weight_norms
        ``weight_norms[name]``: L2 norm of the parameter itself.
    losses
        Loss of each batch.
    layers
        Number of layers L.
    """

    norms: list[dict[str, float]]
    weight_norms: dict[str, float]
    losses: list[float]
    layers: int

    @property
    def failure(self) -> str | None:
        """Where the first loss or gradient that is not finite occurred, or None."""
        for b, (loss, norms) in enumerate(zip(self.losses, self.norms, strict=True)):
            bad = next((name for name, value in norms.items() if not math.isfinite(value)), None)
            if bad is not None or not math.isfinite(loss):
                return f"batch {b}: {'gradient of ' + bad if bad else 'loss'} is not finite"
        return None

    def per_batch(self, score: str = "l2") -> list[list[float]]:
        """Return one row a batch, one number a layer (see :meth:`scores`), before the sum over batches."""
        rows = []
        for norms in self.norms:
            by_layer: list[list[str]] = [[] for _ in range(self.layers)]
            for name in norms:
                by_layer[layer_index(name)].append(name)
            rows.append([self._layer_score(norms, names, score) for names in by_layer])
        return rows

    def _layer_score(self, norms: Mapping[str, float], names: list[str], score: str) -> float:
        if score == "sum_of_norms":
            return math.fsum(norms[n] for n in names)
        gradient = math.sqrt(math.fsum(norms[n] ** 2 for n in names))
        if score == "relative":
            weight = math.sqrt(math.fsum(self.weight_norms[n] ** 2 for n in names))
            return gradient / weight if weight else 0.0
        return gradient

    def scores(self, score: str = "l2") -> list[float]:
        r"""Return one float a layer.

        Parameters
        ----------
        score
            ``l2``: g_ℓ = Σ_b ‖∇_{θ_ℓ} L(x_b)‖₂, the paper's Eq. 1 · ``sum_of_norms``: Σ_b Σ_p ‖∇_p L(x_b)‖₂ over
            the layer's parameters p · ``relative``: Σ_b ‖∇_{θ_ℓ} L(x_b)‖₂ / ‖θ_ℓ‖₂ · ``normalized``: l2 over its sum.

        Raises
        ------
        UserError
            For a score of another name.
        """
        if score not in SCORES:
            raise UserError(f"score {score!r}: expected one of {', '.join(SCORES)}")
        rows = self.per_batch("l2" if score == "normalized" else score)
        summed = [math.fsum(column) for column in zip(*rows, strict=True)]
        if score != "normalized":
            return summed
        total = math.fsum(summed)
        return [value / total if total else 0.0 for value in summed]


@contextlib.contextmanager
def _as_found(model: PreTrainedModel) -> Iterator[None]:
    """Leave mode, ``requires_grad`` flags and gradients of the model as they are now."""
    modes = {module: module.training for module in model.modules()}
    flags = {p: (p.requires_grad, p.grad) for p in model.parameters()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for p, (requires_grad, grad) in flags.items():
            p.requires_grad_(requires_grad)
            p.grad = grad


def probe_layers(model: PreTrainedModel, batches: Sequence[Mapping[str, torch.Tensor]]) -> Probe:
    """Measure the gradient norm of every layer parameter on each batch.

    One forward and one backward pass a batch: a hook takes each gradient's norm as soon as it is complete and frees
    it, so that at no time more than one parameter's gradient is held. The model is left as it was found.

    Parameters
    ----------
    model
        A causal language model with floating-point weights.
    batches
        Dicts of ``input_ids``, ``attention_mask`` and ``labels``, each [sequences, tokens].

    Returns
    -------
    Probe
        Norms for each batch and parameter, summed to layer scores by :meth:`Probe.scores`.

    Raises
    ------
    UserError
        When there is no batch, or the weights are quantised.

    References
    ----------
    The paper's section 3.2 and Eq. 1 (B = 5 batches).
    """
    if not batches:
        raise UserError("the probe needs at least one batch; the training data gave none")
    depth = len(adaptable_layers(model))
    probed = {name: p for name, p in model.named_parameters() if layer_index(name) is not None}
    quantised = next((name for name, p in probed.items() if not p.is_floating_point()), None)
    if quantised is not None:
        raise UserError(
            f"the probe needs floating-point weights, {quantised} is quantised; "
            "probe the model with quantization: null and train it quantised"
        )
    norms: list[dict[str, float]] = []
    losses: list[float] = []
    with _as_found(model):
        model.eval()
        handles = _install_hooks(model, probed, norms)
        try:
            for batch in batches:
                norms.append({})
                inputs: dict[str, Any] = {key: value.to(model.device) for key, value in batch.items()}
                loss = model(**inputs, use_cache=False).loss
                loss.backward()
                losses.append(float(loss.detach()))
        finally:
            for handle in handles:
                handle.remove()
    # Norms stay on the device until here: one synchronisation for the whole probe.
    rows = [{name: float(row[name]) for name in probed if name in row} for row in norms]
    weights = {name: float(p.detach().float().norm()) for name, p in probed.items()}
    return Probe(rows, weights, losses, depth)


def _install_hooks(model: PreTrainedModel, probed: Mapping[str, torch.Tensor], norms: list) -> list:
    """Make just ``probed`` require gradients, each with a hook that keeps the norm and frees the gradient."""
    for p in model.parameters():
        p.requires_grad_(False)
        p.grad = None
    handles = []
    for name, p in probed.items():
        p.requires_grad_(True)

        def take(parameter: torch.Tensor, name: str = name) -> None:
            norms[-1][name] = parameter.grad.detach().float().norm()
            parameter.grad = None

        handles.append(p.register_post_accumulate_grad_hook(take))
    return handles


def probe_payload(measured: Probe, model: PreTrainedModel, *, dtype: str) -> dict[str, Any]:
    """Return the payload of a probe artifact: scores, norms by batch and parameter, and the adaptable modules."""
    failure = measured.failure
    return {
        "status": "diverged" if failure else "ok",
        "reason": failure,
        "dtype": dtype,
        "layers_total": measured.layers,
        "scores": {name: None if failure else measured.scores(name) for name in SCORES},
        "losses": [_finite(loss) for loss in measured.losses],
        "per_module": [{name: _finite(v) for name, v in row.items()} for row in measured.norms],
        "weight_norms": measured.weight_norms,
        "adaptable": [
            {"attention": layer.attention, "mlp": layer.mlp, "experts": layer.experts}
            for layer in adaptable_layers(model)
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
