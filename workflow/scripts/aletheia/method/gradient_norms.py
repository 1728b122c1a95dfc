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
2·T·rank·(in + out) FLOPs. It is the gradient that LoRA's B = 0 would see, ‖∂L/∂B‖ = scale·‖Gᵀ X Aᵀ‖.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch

from aletheia.errors import UserError

NEAR_ZERO = 1e-3  # of a norm's weights: below it, 16-bit outputs have lost too many digits to divide by them
SKETCH_RANK = 16  # the paper's LoRA rank; Spearman with the exact scores of SmolLM2-135M stands in benchmarks/
# FLOPs of a Gram product cost so much more than those of the direct one: smaller matrices, then the product of both.
GRAM_PENALTY = 1.3  # measured on two AMD EPYC cores, 128 to 512 tokens
BLOCK_TOKENS = 64  # half of a symmetric product, in blocks that a core still multiplies at full speed
PART_NUMBERS = 1 << 22  # of the direct product at a time: 16 MiB in fp32, within a last-level cache


class Tap(torch.autograd.Function):
    """Hand what a module read and its output's gradient to a callback, once, in the backward pass.

    What it read is a saved tensor, so that gradient checkpointing drops it and computes it again as all others.
    """

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, anchor: torch.Tensor, note: torch.Tensor, take: Any) -> torch.Tensor:
        """Pass ``output`` on; ``anchor`` requires a gradient, so that the result does, whatever stands below."""
        ctx.save_for_backward(note)
        ctx.take = take
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        """Call back, and pass the gradient on."""
        (note,) = ctx.saved_tensors
        with torch.no_grad():
            ctx.take(note, gradient)
        return gradient, None, None, None


class Scale:
    """How x̂ of a norm module y = w ∘ x̂ + b, or (1 + w) ∘ x̂, is found again.

    Where there is no b and no w near 0, from its output: Σ_t G ∘ x̂ = (Σ_t G ∘ y) / w. Else its inputs go through it
    with other weights.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        weight = module.weight.detach()
        self.plain = not self._output(torch.ones_like(weight)[None], torch.zeros_like).any()
        own = {name for name, _ in module.named_parameters(recurse=False)}
        self.divides = self.plain and own == {"weight"} and bool(weight.abs().min() > NEAR_ZERO)

    def unscaled(self, x: torch.Tensor) -> torch.Tensor:
        """Return x̂: the output at w = 1, b = 0, less that at w = 0 (which is 0 unless the factor is 1 + w)."""
        at_one = self._output(x, torch.ones_like)
        return at_one if self.plain else at_one - self._output(x, torch.zeros_like)

    def _output(self, x: torch.Tensor, fill: Any) -> torch.Tensor:
        values = {name: torch.zeros_like(p) for name, p in self.module.named_parameters(recurse=False)}
        values["weight"] = fill(self.module.weight)
        with torch.no_grad():
            return torch.func.functional_call(self.module, values, (x,))


class Norms:
    """Squared gradient norms of the taps of one pass, by parameter, [batches of the pass]."""

    def __init__(self, *, method: str) -> None:
        self.method = method
        self.batches = 1
        self.squares: dict[str, torch.Tensor] = {}
        self._signs: dict[str, torch.Tensor] = {}
        self._parts: dict[tuple, torch.Tensor] = {}
        self._gram: tuple[torch.Tensor, list[torch.Tensor]] | None = None

    def start(self, batches: int) -> None:
        """Begin a pass over so many batches of equal shape, one after another."""
        self.batches, self.squares = batches, {}

    def finish(self) -> dict[str, torch.Tensor]:
        """Return the pass's squared norms, and let go of what is kept between modules."""
        self._gram = None
        return self.squares

    def put(self, name: str, squares: torch.Tensor) -> None:
        """Keep one parameter's squared norms.

        Raises
        ------
        UserError
            When it has some already: the norm of a sum over two calls is not known from the two norms.
        """
        if name in self.squares:
            raise UserError(
                f"{name}: its module runs twice in a pass; the probe expects each layer's modules to run once"
            )
        self.squares[name] = squares

    def linear_note(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Return what a linear module's tap must remember of its inputs: all, or their sketch."""
        if self.method == "exact":
            return x
        return x.detach() @ self._signs_of(name, x).T

    def take_linear(self, names: Mapping[str, str], note: torch.Tensor, gradient: torch.Tensor) -> None:
        """Put the norms of a linear module's ``weight`` and ``bias`` (those that ``names`` has)."""
        g = self._by_batch(gradient)
        if "bias" in names:
            self.put(names["bias"], g.sum(1, dtype=torch.float32).square().sum(1))
        if "weight" not in names:
            return
        x = self._by_batch(note.to(device=g.device, dtype=g.dtype))
        if self.method == "sketch":
            self.put(names["weight"], squares(product(g.mT, x)) / SKETCH_RANK)
        elif self._prefers_gram(x, g):
            self.put(names["weight"], self._gram_squares(x, g))
        else:
            self.put(names["weight"], torch.stack([self._direct_square(*pair) for pair in zip(x, g, strict=True)]))

    def take_scale(self, scale: Scale, names: Mapping[str, str], note: torch.Tensor, gradient: torch.Tensor) -> None:
        """Put the norms of a norm module's ``weight`` and ``bias`` (those that ``names`` has)."""
        g = self._by_batch(gradient).float()
        if "bias" in names:
            self.put(names["bias"], g.sum(1).square().sum(1))
        if "weight" in names:
            y = self._by_batch(note if scale.divides else scale.unscaled(note)).to(g)
            sums = (g * y).sum(1)
            self.put(names["weight"], (sums / scale.module.weight if scale.divides else sums).square().sum(1))

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
        fresh = outputs if self._known_gram(x) else inputs + outputs
        halves = 1 + _block_tokens(x) / tokens
        return GRAM_PENALTY * min(halves, 2) * tokens * fresh < 2 * inputs * outputs

    def _known_gram(self, x: torch.Tensor) -> list[torch.Tensor] | None:
        if self._gram is None:
            return None
        kept, blocks = self._gram
        return blocks if kept.data_ptr() == x.data_ptr() and kept.shape == x.shape else None

    def _gram_squares(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        of_x = self._known_gram(x)
        if of_x is None:
            of_x = list(_half_gram(x))
            self._gram = (x, of_x)  # x is kept too, so that no other tensor comes to lie at its address
        total = torch.zeros(self.batches, device=g.device)
        for mine, other in zip(_half_gram(g), of_x, strict=True):
            both = mine.mul_(other)
            diagonal = both[:, :, : both.shape[1]].sum((1, 2))
            total += 2 * both.sum((1, 2)) - diagonal
        return total.clamp_(min=0)  # a sum of squares, but for rounding

    def _direct_square(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        columns = max(1, PART_NUMBERS // x.shape[1])
        total = torch.zeros((), device=g.device)
        for part in g.split(columns, dim=1):
            total += squares(product(part.T, x, out=self._part(part.shape[1], x)))
        return total

    def _part(self, rows: int, x: torch.Tensor) -> torch.Tensor | None:
        """Return memory for one part of a direct product; CUDA's allocator keeps its own."""
        if x.is_cuda:
            return None
        wanted = rows * x.shape[1]
        kept = self._parts.get((x.device, x.dtype))
        if kept is None or kept.numel() < wanted:
            kept = self._parts[x.device, x.dtype] = x.new_empty(wanted)
        return kept[:wanted].view(rows, x.shape[1])


def signs(name: str, inputs: int) -> torch.Tensor:
    """Return a module's sketch matrix A [rank, in] of random ±1, seeded by its name: the same in every run."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randint(0, 2, (SKETCH_RANK, inputs), generator=generator).float().mul_(2).sub_(1)


def accumulates_in_single(x: torch.Tensor) -> bool:
    """Tell whether :func:`product` of such tensors comes in fp32."""
    return x.is_cuda or x.dtype == torch.float32


def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return left @ right ([m, k] or [batches, m, k]); 16-bit factors keep their sums in fp32 where the device can."""
    multiply = torch.mm if left.dim() == 2 else torch.bmm
    if left.is_cuda and left.dtype != torch.float32:
        return multiply(left, right, out_dtype=torch.float32)
    return multiply(left, right, out=out)


def squares(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of squares over the last two axes, in fp32 (by rows: a million squares lose digits in one sum)."""
    return torch.linalg.vector_norm(values, dim=-1, dtype=torch.float32).square().sum(-1)


def _block_tokens(x: torch.Tensor) -> int:
    """Return the block of a symmetric product: all at once on a GPU, which small products leave idle."""
    return x.shape[1] if x.is_cuda else BLOCK_TOKENS


def _half_gram(x: torch.Tensor) -> Any:
    """Yield the upper half of x xᵀ in blocks of rows, each from its diagonal on: [batches, block, tokens − start]."""
    step = _block_tokens(x)
    for start in range(0, x.shape[1], step):
        yield product(x[:, start : start + step], x[:, start:].mT)
