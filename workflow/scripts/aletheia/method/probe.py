"""The gradient probe: how strongly the fine-tuning data pulls at each layer (the paper's section 3.2, Eq. 1)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layers import Layer, adaptable_layers, layer_index
from aletheia.method.probe_record import Probe
from aletheia.study.selectors import ACTIVATIONS, GRADIENTS, PROBED, WEIGHTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from aletheia.method.activations import ActivationMeter
    from aletheia.method.token_batch import TokenBatch

METHODS = ("exact", "sketch")
# Joined batches multiply weights by more tokens at a time, and hold as many more activations. On two CPU cores, 256 are
# 8 to 18 % faster for SmolLM2-135M than 128 and take 1.4 times the memory of the authors' probe, 128 take 0.9 times.
TOKENS_PER_PASS = {"cpu": 128, "cuda": 2048}  # cuda: chosen by hand


def probe_layers(
    model: PreTrainedModel,
    batches: Sequence[TokenBatch | Mapping[str, torch.Tensor]],
    *,
    method: str = "exact",
    tokens_per_pass: int | None = None,
    measure: Sequence[str] = (GRADIENTS,),
) -> Probe:
    """Measure every layer: the gradient norm of each parameter on each batch, and what else is asked.

    One forward and one backward pass for a batch, or for several short ones together. Each linear and norm module
    hands its input and its output's gradient over, from which the norm of its weight's gradient follows
    (:mod:`aletheia.method.gradient_norms`); other parameters (fused experts, routers) get their gradient, which is
    freed as soon as its norm is taken. Activations are measured in the same pass; without gradients there is a forward
    pass alone, and for weights none. The model is left as it was found.

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
    measure
        Some of ``gradients``; ``activations``: block influence and norm of each layer's output
        (:mod:`aletheia.method.activations`); ``weights``: the signal-to-noise ratio of each adaptable weight
        (:mod:`aletheia.method.weight_snr`).

    Returns
    -------
    Probe
        Norms for each batch and parameter, summed to layer scores by :meth:`Probe.scores`.

    Raises
    ------
    UserError
        When there is no batch, or one without what it needs or without a target; when the method or what to measure is
        unknown; when the model has adapters, or weights are quantised otherwise or not in memory.

    References
    ----------
    The paper's section 3.2 and Eq. 1 (B = 5 batches).
    """
    if not batches:
        raise UserError("the probe needs at least one batch; the training data gave none")
    for name, value, known in (("method", [method], METHODS), ("measure", measure, PROBED)):
        if not value or not set(value) <= set(known):
            raise UserError(
                f"probe.{name} {', '.join(map(repr, value)) or 'empty'}: expected one of {', '.join(known)}"
            )
    layers, found = adaptable_layers(model), {}
    if WEIGHTS in measure:
        found |= _weight_part(model, layers)
    if {GRADIENTS, ACTIVATIONS} & set(measure):
        read = [_token_batch(batch, number) for number, batch in enumerate(batches)]
        if GRADIENTS in measure:
            _expect_targets(read)
        found |= _passes(model, read, method, tokens_per_pass, measure)
    seconds = {part: found.pop(part) for part in PROBED if part in found}
    nothing: dict[str, Any] = {"norms": [], "weight_norms": {}, "losses": []}
    return Probe(**{**nothing, **found}, layers=len(layers), method=method, part_seconds=seconds)


def _weight_part(model: PreTrainedModel, layers: Sequence[Layer]) -> dict[str, Any]:
    """Return what a probe says of the weights, and the seconds that it took."""
    from aletheia.method.weight_snr import layer_snr, module_snr

    began = time.perf_counter()
    ratios = module_snr(model, layers)
    return {"module_snr": ratios, "weight_snr": layer_snr(ratios, layers), WEIGHTS: time.perf_counter() - began}


def _passes(
    model: PreTrainedModel,
    batches: Sequence[TokenBatch],
    method: str,
    tokens_per_pass: int | None,
    measure: Sequence[str],
) -> dict[str, Any]:
    """Return what a probe says of gradients and activations, and the seconds of each."""
    from aletheia.method.activations import ActivationMeter

    meter = ActivationMeter(model) if ACTIVATIONS in measure else None
    with meter.attached() if meter else contextlib.nullcontext():
        if GRADIENTS in measure:
            found = _gradient_part(model, batches, method, tokens_per_pass, meter)
        else:
            found = _forward_part(model, batches, tokens_per_pass, meter)
    if meter:
        found |= {"block_influence": meter.block_influence, "activation_norm": meter.activation_norm}
        found[ACTIVATIONS] = meter.seconds
    return found


def _gradient_part(
    model: PreTrainedModel,
    batches: Sequence[TokenBatch],
    method: str,
    tokens_per_pass: int | None,
    meter: ActivationMeter | None,
) -> dict[str, Any]:
    """Send the batches forward and backward."""
    from aletheia.method import probe_pass
    from aletheia.method.four_bit import weight_norm
    from aletheia.method.gradient_norms import GradientNorms
    from aletheia.method.hooks import gradient_hooks

    began = time.perf_counter()
    probed = {name: p for name, p in model.named_parameters() if layer_index(name) is not None}
    # First: it refuses weights that the probe cannot read.
    weights = {name: weight_norm(name, p) for name, p in probed.items()}
    norms = GradientNorms(method=method)
    squares: list[dict[str, torch.Tensor]] = []
    losses: list[torch.Tensor] = []
    with gradient_hooks(model, probed, norms) as all_hooked:
        limit = _tokens_per_pass(model, tokens_per_pass) if all_hooked else 0
        for group in probe_pass.group_batches(batches, tokens=limit):
            joined = probe_pass.join_batches(group)
            norms.begin_pass(len(group))
            if meter:
                meter.begin_pass(joined, len(group))
            after_forward = meter.end_forward if meter else None
            losses.append(probe_pass.run(model, joined, len(group), after_forward=after_forward))
            squares.append(norms.end_pass())
    rows = [row for of_pass in squares for row in _rows(of_pass, probed)]
    flat = [loss for part in losses for loss in part.tolist()]
    return {"norms": rows, "weight_norms": weights, "losses": flat, GRADIENTS: time.perf_counter() - began}


def _forward_part(
    model: PreTrainedModel, batches: Sequence[TokenBatch], tokens_per_pass: int | None, meter: ActivationMeter
) -> dict[str, Any]:
    """Send the batches forward alone, through the decoder layers."""
    from aletheia.method import probe_pass
    from aletheia.method.hooks import forward_alone

    with forward_alone(model):
        for group in probe_pass.group_batches(batches, tokens=_tokens_per_pass(model, tokens_per_pass)):
            joined = probe_pass.join_batches(group)
            meter.begin_pass(joined, len(group))
            probe_pass.run_forward(model, joined)
            meter.end_forward()
    return {}


def _tokens_per_pass(model: PreTrainedModel, asked: int | None) -> int:
    """Return the most tokens of batches that go through together; 0 where each batch has a pass of its own."""
    from aletheia.method import probe_pass

    if not probe_pass.has_plain_head(model):
        return 0
    return asked or TOKENS_PER_PASS.get(model.device.type, TOKENS_PER_PASS["cuda"])


def _token_batch(batch: TokenBatch | Mapping[str, torch.Tensor], number: int) -> TokenBatch:
    """Return one of the caller's batches, or refuse what is none."""
    import torch

    from aletheia.method.token_batch import TokenBatch

    if isinstance(batch, TokenBatch):
        return batch
    if not isinstance(batch, Mapping):
        raise UserError(
            f"batches: expected a list of dicts of input_ids, attention_mask and labels, found {type(batch).__name__} "
            "in it"
        )
    for name in ("input_ids", "labels"):
        if name not in batch:
            raise UserError(
                f"batch {number}: expected input_ids, attention_mask and labels, found no {name}; labels are the "
                "input_ids, with -100 where nothing is learnt"
            )
        if not isinstance(value := batch[name], torch.Tensor) or value.dim() != 2:
            kind = f"one of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise UserError(f"batch {number}: expected {name} as a tensor of shape (sequences, tokens), found {kind}")
    return TokenBatch.from_labels(**batch)


def _expect_targets(batches: Sequence[TokenBatch]) -> None:
    for number, batch in enumerate(batches):
        if not len(batch.targets):
            raise UserError(
                f"batch {number}: expected labels that are predicted, found -100 alone after the first token; cut its "
                "rows later, or leave it out"
            )


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

    Raises
    ------
    UserError
        When gradients were not measured.
    """
    import numpy as np

    if not measured.norms:
        raise UserError(
            "probe: expected measured gradients to compare methods by, found none; add gradients to measure"
        )
    (method,) = set(METHODS) - {measured.method}
    other = probe_layers(model, batches, method=method)
    if measured.failure or other.failure:
        return {"method": method, "spearman": None}
    ranks = [np.argsort(np.argsort(probe.scores())) for probe in (measured, other)]
    return {"method": method, "spearman": float(np.corrcoef(*ranks)[0, 1])}
