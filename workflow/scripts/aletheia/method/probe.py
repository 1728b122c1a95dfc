"""The gradient probe: how strongly the fine-tuning data pulls at each layer (the paper's section 3.2, Eq. 1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layer_scores import SUMMED, batch_score
from aletheia.method.layers import adaptable_layers, layer_index

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from aletheia.method.token_batch import TokenBatch

SCORES = (*SUMMED, "normalized")
METHODS = ("exact", "sketch")
# Joined batches multiply weights by more tokens at a time, and hold as many more activations. On two CPU cores, 256 are
# 8 to 18 % faster for SmolLM2-135M than 128 and take 1.4 times the memory of the authors' probe, 128 take 0.9 times.
TOKENS_PER_PASS = {"cpu": 128, "cuda": 2048}  # cuda: chosen by hand


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
    method
        How the norms of linear weights were taken: ``exact`` or ``sketch``.
    """

    norms: list[dict[str, float]]
    weight_norms: dict[str, float]
    losses: list[float]
    layers: int
    method: str = "exact"

    @property
    def failure(self) -> str | None:
        """The place of the first loss or gradient that is not finite, or None."""
        for b, (loss, norms) in enumerate(zip(self.losses, self.norms, strict=True)):
            bad = next((name for name, value in norms.items() if not math.isfinite(value)), None)
            if bad is not None or not math.isfinite(loss):
                return f"batch {b}: {'gradient of ' + bad if bad else 'loss'} is not finite"
        return None

    def per_batch(self, score: str = "l2") -> list[list[float]]:
        """Return the scores of :meth:`scores` before the sum over batches: one list a batch, one number a layer."""
        rows = []
        for norms in self.norms:
            by_layer: list[list[str]] = [[] for _ in range(self.layers)]
            for name in norms:
                by_layer[layer_index(name)].append(name)
            rows.append([batch_score(norms, self.weight_norms, names, score) for names in by_layer])
        return rows

    def scores(self, score: str = "l2") -> list[float]:
        r"""Return one float a layer.

        Parameters
        ----------
        score
            A formula of :mod:`aletheia.method.layer_scores` over all of a layer's parameters, such as ``l2``,
            g_ℓ = Σ_b ‖∇_{θ_ℓ} L(x_b)‖₂, the paper's Eq. 1; or ``normalized``: l2 over its sum.

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


def probe_layers(
    model: PreTrainedModel,
    batches: Sequence[TokenBatch | Mapping[str, torch.Tensor]],
    *,
    method: str = "exact",
    tokens_per_pass: int | None = None,
) -> Probe:
    """Measure the gradient norm of every layer parameter on each batch.

    One forward and one backward pass for a batch, or for several short ones together. Each linear and norm module
    hands its input and its output's gradient over, from which the norm of its weight's gradient follows
    (:mod:`aletheia.method.gradient_norms`); other parameters (fused experts, routers) get their gradient, which is
    freed as soon as its norm is taken. The model is left as it was found.

    Parameters
    ----------
    model
        A causal language model, its weights in fp32, bf16, fp16 or 4 bits, on one device or spread by ``device_map``.
    batches
        Dicts of ``input_ids``, ``attention_mask`` and ``labels``, each [sequences, tokens]; or token batches.
    method
        ``exact``, or ``sketch``: linear weights' norms estimated from random projections of their inputs, as the
        gradient of an adapter would be; all other parameters exact.
    tokens_per_pass
        The most tokens, padding counted, of batches that go through together; None: what is fast on the device. More
        takes more memory. A model with parameters of other modules sends each batch alone.

    Returns
    -------
    Probe
        Norms for each batch and parameter, summed to layer scores by :meth:`Probe.scores`.

    Raises
    ------
    UserError
        When there is no batch, the method is unknown, or weights are quantised otherwise or not in memory.

    References
    ----------
    The paper's section 3.2 and Eq. 1 (B = 5 batches).
    """
    from aletheia.method import probe_pass
    from aletheia.method.four_bit import weight_norm
    from aletheia.method.gradient_norms import GradientNorms
    from aletheia.method.hooks import gradient_hooks

    if not batches:
        raise UserError("the probe needs at least one batch; the training data gave none")
    if method not in METHODS:
        raise UserError(f"probe.method {method!r}: expected one of {', '.join(METHODS)}")
    depth = len(adaptable_layers(model))
    probed = {name: p for name, p in model.named_parameters() if layer_index(name) is not None}
    # First: it refuses weights that the probe cannot read.
    weights = {name: weight_norm(name, p) for name, p in probed.items()}
    norms = GradientNorms(method=method)
    squares: list[dict[str, torch.Tensor]] = []
    losses: list[torch.Tensor] = []
    with gradient_hooks(model, probed, norms) as all_hooked:
        one_batch_per_pass = not all_hooked or not probe_pass.has_plain_head(model)
        fast = TOKENS_PER_PASS.get(model.device.type, TOKENS_PER_PASS["cuda"])
        limit = 0 if one_batch_per_pass else tokens_per_pass or fast
        for group in probe_pass.group_batches(list(map(_token_batch, batches)), tokens=limit):
            norms.begin_pass(len(group))
            losses.append(probe_pass.run(model, group))
            squares.append(norms.end_pass())
    rows = [row for of_pass in squares for row in _rows(of_pass, probed)]
    return Probe(rows, weights, [loss for part in losses for loss in part.tolist()], depth, method)


def _token_batch(batch: TokenBatch | Mapping[str, torch.Tensor]) -> TokenBatch:
    from aletheia.method.token_batch import TokenBatch

    return batch if isinstance(batch, TokenBatch) else TokenBatch.from_labels(**batch)


def _rows(squares: Mapping[str, torch.Tensor], order: Iterable[str]) -> list[dict[str, float]]:
    """Return the norms of a pass by batch, ``{parameter: ‖∇‖₂}`` each, with one transfer from each device.

    Parameters
    ----------
    squares
        By parameter, squared norms of shape (batches of the pass,).
    order
        Parameter names in the order of the result.
    """
    import torch

    by_device: dict[torch.device, list[str]] = {}
    for name in order:
        if name in squares:
            by_device.setdefault(squares[name].device, []).append(name)
    values = {}
    for names in by_device.values():
        stacked = torch.stack([squares[name] for name in names]).double().sqrt()
        values.update(zip(names, stacked.tolist(), strict=True))
    batches = len(next(iter(values.values())))
    return [{name: values[name][b] for name in order if name in values} for b in range(batches)]


def compare_methods(
    measured: Probe, model: PreTrainedModel, batches: Sequence[TokenBatch | Mapping[str, torch.Tensor]]
) -> dict[str, Any]:
    """Probe with the other method too: its name, and Spearman's rank correlation of the two methods' l2 scores.

    Parameters
    ----------
    measured
        The probe of one method.
    model, batches
        What it was measured on, as of :func:`probe_layers`.

    Returns
    -------
    dict
        ``method``, the other one, and ``spearman``, None where a probe diverged.
    """
    import numpy as np

    (method,) = set(METHODS) - {measured.method}
    other = probe_layers(model, batches, method=method)
    if measured.failure or other.failure:
        return {"method": method, "spearman": None}
    ranks = [np.argsort(np.argsort(probe.scores())) for probe in (measured, other)]
    return {"method": method, "spearman": float(np.corrcoef(*ranks)[0, 1])}


def probe_payload(
    measured: Probe, model: PreTrainedModel, *, dtype: str, quantization: str | None = None
) -> dict[str, Any]:
    """Return the payload of a probe artifact: scores, norms by batch and parameter, and the adaptable modules."""
    failure = measured.failure
    return {
        "status": "diverged" if failure else "ok",
        "reason": failure,
        "method": measured.method,
        "dtype": dtype,
        "quantization": quantization,
        "layers_total": measured.layers,
        "scores": {name: None if failure else measured.scores(name) for name in SCORES},
        "losses": [_finite(loss) for loss in measured.losses],
        "per_module": [{name: _finite(v) for name, v in row.items()} for row in measured.norms],
        "weight_norms": measured.weight_norms,
        "adaptable": [layer.names() for layer in adaptable_layers(model)],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
