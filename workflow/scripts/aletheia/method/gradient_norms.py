r"""The norm of a weight's gradient, taken without the gradient.

For a linear map y = W x + b over tokens t, with G = ∂L/∂y [tokens, out] and the inputs X [tokens, in], the gradient is
∂L/∂W = Gᵀ X. Its Frobenius norm comes in two forms that are equal in exact arithmetic:

- direct, ‖Gᵀ X‖: one product of 2·T·in·out FLOPs, and in·out numbers written and read once more for the norm;
- Gram, √Σ (G Gᵀ ∘ X Xᵀ): two symmetric products, of which half is needed: (1 + 1/blocks)·T²·(in + out) FLOPs, and
  nothing of the weight's size. X Xᵀ is shared by maps of the same input (query, key, value; gate, up).

So Gram is cheaper below T ≈ in·out/(in + out) tokens, and more so for the later ones of maps that share their input.
Neither needs the weight, so a 4-bit weight's gradient is as exact as another's. ∂L/∂b = Σ_t G; for a norm module
y = w ∘ x̂ + b, ∂L/∂w = Σ_t G ∘ x̂. Batches may stand one after another in a pass, for all of this is done by batch.

The sketch multiplies the inputs by random signs A [rank, in] instead: E ‖Gᵀ X Aᵀ‖² = rank · ‖Gᵀ X‖², for
2·T·rank·(in + out) FLOPs. It is the gradient of a LoRA's B at B = 0, ‖∂L/∂B‖ = scale·‖Gᵀ X Aᵀ‖.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch

from aletheia.errors import UserError

NEAR_ZERO = 1e-3  # of a norm's weights: below it, 16-bit outputs have lost too many digits to divide by them
SKETCH_RANK = 16  # the paper's LoRA rank; Spearman with the exact scores of SmolLM2-135M stands in benchmarks/
# How much longer a FLOP of the Gram form takes than one of the direct form: its matrices are smaller, and the product
# of the two Gram matrices comes on top.
GRAM_PENALTY = 1.3  # measured on two AMD EPYC cores, 128 to 512 tokens
BLOCK_TOKENS = 64  # rows of a block of a symmetric product: the fewest that a core still multiplies at full speed
PART_NUMBERS = 1 << 22  # entries of the direct product at a time: 16 MiB in fp32, within a last-level cache


class OutputGradientHook(torch.autograd.Function):
    """Call a function with a module's saved input and the gradient of its output, once, in the backward pass.

    The input is a saved tensor of autograd, so gradient checkpointing drops and recomputes it like all others.
    """

    @staticmethod
    def forward(
        ctx: Any, output: torch.Tensor, anchor: torch.Tensor, saved: torch.Tensor, callback: Any
    ) -> torch.Tensor:
        """Return ``output`` unchanged, as a tensor that requires a gradient.

        Parameters
        ----------
        ctx
            Of autograd.
        output
            The module's output, of shape (sequences, tokens, size).
        anchor
            A scalar that requires a gradient; so the result does too, even where nothing below the module does.
        saved
            What the callback needs of the input: (sequences, tokens, in), or its sketch (sequences, tokens, rank).
        callback
            ``(saved, gradient) → None``, called without gradients in the backward pass.
        """
        ctx.save_for_backward(saved)
        ctx.callback = callback
        # Not a view, which layers that add to a module's output in place (Falcon's, Llama 4's) could not change.
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        """Call the callback, and return ``gradient``, of the output's shape, unchanged; the other inputs get None."""
        (saved,) = ctx.saved_tensors
        with torch.no_grad():
            ctx.callback(saved, gradient)
        return gradient, None, None, None


class NormLayerInput:
    """The normalised input x̂ of a norm layer y = w ∘ x̂ + b, or y = (1 + w) ∘ x̂.

    Without b and without a w near 0 the sum follows from the output: Σ_t G ∘ x̂ = (Σ_t G ∘ y) / w. Otherwise the layer
    computes x̂ again from its input, with other weights.

    Attributes
    ----------
    module
        The norm layer.
    factor_is_weight
        Whether the factor is w; else it is 1 + w.
    from_output
        Whether the sum is taken from the output.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        weight = module.weight.detach()
        # Not of equal numbers, which a layer norm centres to 0 whatever its factor.
        uneven = torch.arange(weight.shape[0], device=weight.device).to(weight.dtype)[None]
        self.factor_is_weight = not self._output(uneven, torch.zeros_like).any()
        parameters = {name for name, _ in module.named_parameters(recurse=False)}
        self.from_output = self.factor_is_weight and parameters == {"weight"} and bool(weight.abs().min() > NEAR_ZERO)

    def normalized(self, x: torch.Tensor) -> torch.Tensor:
        """Return x̂, of the shape of ``x``: the output at w = 1, b = 0 minus that at w = 0 (0 unless it is 1 + w)."""
        at_one = self._output(x, torch.ones_like)
        return at_one if self.factor_is_weight else at_one - self._output(x, torch.zeros_like)

    def _output(self, x: torch.Tensor, fill: Any) -> torch.Tensor:
        values = {name: torch.zeros_like(p) for name, p in self.module.named_parameters(recurse=False)}
        values["weight"] = fill(self.module.weight)
        with torch.no_grad():
            return torch.func.functional_call(self.module, values, (x,))


class GradientNorms:
    """Squared gradient norms of all hooked parameters in one pass.

    Attributes
    ----------
    method
        Of linear weights: ``exact`` or ``sketch``.
    batches
        Number of batches of the pass, of equal shape, one after another along the first axis.
    squares
        By parameter, fp32 of shape (batches,).
    """

    def __init__(self, *, method: str) -> None:
        self.method = method
        self.batches = 1
        self.squares: dict[str, torch.Tensor] = {}
        self._signs: dict[str, torch.Tensor] = {}
        self._parts: dict[tuple, torch.Tensor] = {}
        self._gram: tuple[torch.Tensor, list[torch.Tensor]] | None = None

    def begin_pass(self, batches: int) -> None:
        """Begin a pass over ``batches`` batches of equal shape, one after another along the first axis."""
        self.batches, self.squares = batches, {}

    def end_pass(self) -> dict[str, torch.Tensor]:
        """Return the pass's squared norms, and free the cached Gram matrix."""
        self._gram = None
        return self.squares

    def add(self, name: str, squares: torch.Tensor) -> None:
        """Keep one parameter's squared norms, of shape (batches,).

        Raises
        ------
        UserError
            When the parameter has some already: the norm of a sum over two calls does not follow from the two norms.
        """
        if name in self.squares:
            raise UserError(
                f"{name}: its module runs twice in a pass; the probe expects each layer's modules to run once"
            )
        self.squares[name] = squares

    def saved_input(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Return a linear module's input x (…, tokens, in) as the backward pass needs it: x, or its sketch x Aᵀ."""
        if self.method == "exact":
            return x
        return x.detach() @ self._signs_of(name, x).T

    def add_linear(self, names: Mapping[str, str], saved: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add the norms of a linear module's ``weight`` and ``bias``.

        Parameters
        ----------
        names
            Full parameter names by ``weight`` and ``bias``; only those given are added.
        saved
            Of :meth:`saved_input`: (sequences, tokens, in), or (sequences, tokens, rank) of a sketch.
        gradient
            ∂L/∂y, of shape (sequences, tokens, out).
        """
        g = self._by_batch(gradient)
        if "bias" in names:
            self.add(names["bias"], g.sum(1, dtype=torch.float32).square().sum(1))
        if "weight" not in names:
            return
        x = self._by_batch(saved.to(device=g.device, dtype=g.dtype))
        if self.method == "sketch":
            self.add(names["weight"], squares(product(g.mT, x)) / SKETCH_RANK)
        elif self._prefers_gram(x, g):
            self.add(names["weight"], self._gram_squares(x, g))
        else:
            self.add(names["weight"], torch.stack([self._direct_square(*pair) for pair in zip(x, g, strict=True)]))

    def add_norm_layer(
        self, layer: NormLayerInput, names: Mapping[str, str], saved: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Add the norms of a norm layer's ``weight`` and ``bias``.

        Parameters
        ----------
        layer
            How x̂ is found.
        names
            Full parameter names by ``weight`` and ``bias``; only those given are added.
        saved
            The layer's output where ``layer.from_output``, else its input; of shape (sequences, tokens, size).
        gradient
            ∂L/∂y, of shape (sequences, tokens, size).
        """
        g = self._by_batch(gradient).float()
        if "bias" in names:
            self.add(names["bias"], g.sum(1).square().sum(1))
        if "weight" in names:
            y = self._by_batch(saved if layer.from_output else layer.normalized(saved)).to(g)
            sums = (g * y).sum(1)
            self.add(names["weight"], (sums / layer.module.weight if layer.from_output else sums).square().sum(1))

    def _by_batch(self, values: torch.Tensor) -> torch.Tensor:
        """Return [..., size] as [batches, tokens, size]: sequences lead in every module of every family."""
        return values.reshape(self.batches, -1, values.shape[-1])

    def _signs_of(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if name not in self._signs:
            self._signs[name] = signs(name, x.shape[-1]).to(device=x.device, dtype=x.dtype)
        return self._signs[name]

    def _prefers_gram(self, x: torch.Tensor, g: torch.Tensor) -> bool:
        if not accumulates_in_single(g):
            return False  # its T² entries, rounded to 16 bits, would be summed with cancellation
        tokens, inputs, outputs = x.shape[1], x.shape[2], g.shape[2]
        fresh = outputs if self._cached_gram(x) else inputs + outputs
        halves = 1 + _block_tokens(x) / tokens
        return GRAM_PENALTY * min(halves, 2) * tokens * fresh < 2 * inputs * outputs

    def _cached_gram(self, x: torch.Tensor) -> list[torch.Tensor] | None:
        if self._gram is None:
            return None
        inputs, blocks = self._gram
        return blocks if inputs.data_ptr() == x.data_ptr() and inputs.shape == x.shape else None

    def _gram_squares(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Return Σ (G Gᵀ ∘ X Xᵀ) of each batch, from x (batches, tokens, in) and g (batches, tokens, out)."""
        of_x = self._cached_gram(x)
        if of_x is None:
            of_x = list(_half_gram(x))
            self._gram = (x, of_x)  # x is kept too, so that no other tensor can reuse its address
        total = torch.zeros(self.batches, device=g.device)
        for block_of_g, block_of_x in zip(_half_gram(g), of_x, strict=True):
            block = block_of_g.mul_(block_of_x)
            diagonal = block[:, :, : block.shape[1]].sum((1, 2))
            total += 2 * block.sum((1, 2)) - diagonal
        return total.clamp_(min=0)  # a sum of squares; rounding may leave it below 0

    def _direct_square(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """Return ‖Gᵀ X‖² of one batch, from x (tokens, in) and g (tokens, out)."""
        columns = max(1, PART_NUMBERS // x.shape[1])
        total = torch.zeros((), device=g.device)
        for part in g.split(columns, dim=1):
            total += squares(product(part.T, x, out=self._part_buffer(part.shape[1], x)))
        return total

    def _part_buffer(self, rows: int, x: torch.Tensor) -> torch.Tensor | None:
        """Return a buffer (rows, in) for one part of a direct product; None on CUDA, which caches freed memory."""
        if x.is_cuda:
            return None
        size = rows * x.shape[1]
        buffer = self._parts.get((x.device, x.dtype))
        if buffer is None or buffer.numel() < size:
            buffer = self._parts[x.device, x.dtype] = x.new_empty(size)
        return buffer[:size].view(rows, x.shape[1])


def signs(name: str, inputs: int) -> torch.Tensor:
    """Return a module's sketch matrix A [rank, in] of random ±1, seeded by its name: the same in every run."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randint(0, 2, (SKETCH_RANK, inputs), generator=generator).float().mul_(2).sub_(1)


def accumulates_in_single(x: torch.Tensor) -> bool:
    """Tell whether :func:`product` of such tensors accumulates in fp32."""
    return x.is_cuda or x.dtype == torch.float32


def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return left @ right ([m, k] or [batches, m, k]); 16-bit factors keep their sums in fp32 where the device can."""
    multiply = torch.mm if left.dim() == 2 else torch.bmm
    if left.is_cuda and left.dtype != torch.float32:
        return multiply(left, right, out_dtype=torch.float32)
    return multiply(left, right, out=out)


def squares(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of squares over the last two axes, in fp32; first by row, as one sum of millions loses digits."""
    return torch.linalg.vector_norm(values, dim=-1, dtype=torch.float32).square().sum(-1)


def _block_tokens(x: torch.Tensor) -> int:
    """Return the tokens a block of a symmetric product has: all of them on a GPU, which small products leave idle."""
    return x.shape[1] if x.is_cuda else BLOCK_TOKENS


def _half_gram(x: torch.Tensor) -> Any:
    """Yield the upper half of x xᵀ in blocks of rows, each from its diagonal on: [batches, block, tokens − start]."""
    step = _block_tokens(x)
    for start in range(0, x.shape[1], step):
        yield product(x[:, start : start + step], x[:, start:].mT)
