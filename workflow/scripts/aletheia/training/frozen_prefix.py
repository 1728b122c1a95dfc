"""The frozen layers below the lowest adapter, computed once for each micro-batch and read back afterwards.

Nothing below the lowest adapted layer changes in a training, so what these layers give for a micro-batch is the same at
every visit. The first visit keeps it (:mod:`aletheia.training.prefix_blocks`); at a later one these layers pass on what
they are given, and the last of them returns the states that were kept. All else (embeddings, positions, masks, kernels)
runs as always. So losses and gradients have the bits of a run that computes these layers again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aletheia.method.layers import decoder_layers

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from aletheia.method.token_batch import TokenBatch
    from aletheia.training.prefix_blocks import Blocks


TRAIN, HELDOUT = "train", "heldout"  # what a pass is for: both differ in precision and kernels


class Visit(NamedTuple):
    """A visit to a micro-batch, by its content.

    Attributes
    ----------
    key
        Of its block: equal for equal rows in equal order at an equal padded width.
    purpose
        :data:`TRAIN` or :data:`HELDOUT`.
    rows
        Key and number of tokens of each row, padding left out: equal for equal rows in any micro-batch.
    joined
        Whether the pass has its rows one after another (:mod:`aletheia.training.joined_rows`). They are kept padded.
    """

    key: str
    purpose: str
    rows: tuple[tuple[str, int], ...]
    joined: bool = False


def visit_of(batch: TokenBatch, purpose: str, *, joined: bool = False) -> Visit:
    """Return the visit that a pass over a micro-batch is.

    Parameters
    ----------
    batch
        On the host, padded on the right.
    purpose
        :data:`TRAIN` or :data:`HELDOUT`.
    joined
        Whether the pass joins these rows.
    """
    further = [(name, tensor.contiguous().numpy().tobytes()) for name, tensor in sorted(batch.further.items())]
    longest = batch.input_ids.shape[1]
    lengths = [longest] * len(batch.input_ids) if batch.attention_mask is None else batch.attention_mask.sum(1).tolist()
    # With the lengths, since the token that pads may end a row, too.
    whole = _key(purpose, (longest, *lengths), batch.input_ids, further)
    rows = [(_key(purpose, (), ids[:size], []), size) for ids, size in zip(batch.input_ids, lengths, strict=True)]
    return Visit(whole, purpose, tuple(rows), joined)


def _key(purpose: str, shape: tuple[int, ...], ids: torch.Tensor, further: list[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256(f"{purpose}:{shape}".encode())
    digest.update(ids.contiguous().numpy().tobytes())
    for name, raw in further:
        digest.update(name.encode() + raw)
    return digest.hexdigest()[:40]


def prefix_block(prefix: FrozenPrefix | None, visit: Visit | None) -> contextlib.AbstractContextManager[Any]:
    """Return :meth:`FrozenPrefix.block` of a visit; a context that does nothing where no prefix is kept."""
    return contextlib.nullcontext() if prefix is None or visit is None else prefix.block(visit)


def around_heldout(prefix: FrozenPrefix | None) -> Callable[[TokenBatch], contextlib.AbstractContextManager[Any]]:
    """Return ``around`` of :func:`aletheia.training.heldout_loss.row_losses`, by which its passes read the prefix."""
    return lambda batch: prefix_block(prefix, None if prefix is None else visit_of(batch, HELDOUT))


@dataclass
class PrefixUse:
    """What a run read and kept.

    Attributes
    ----------
    filled
        Seconds of each block that the run computed, storing included, by key.
    charged
        Seconds that other runs needed for the training blocks that this one read without having computed them, by key.
    gathered
        Blocks that were put together from rows of other micro-batches.
    difference
        Of the first block that could be gathered from its true states, over all tokens: ``max_absolute``, and
        ``relative``, the root mean square over that of the states.
    """

    filled: dict[str, float] = field(default_factory=dict)
    charged: dict[str, float] = field(default_factory=dict)
    gathered: list[str] = field(default_factory=list)
    difference: dict[str, float] | None = None


class FrozenPrefix:
    """The layers below the lowest adapted one of a model in training.

    Parameters
    ----------
    model
        With adapters, none of them below ``lowest``.
    lowest
        The lowest adapted layer, counted from 0; at least 1.
    blocks
        Where states are kept: :class:`aletheia.training.prefix_blocks.MemoryBlocks` or ``DiskBlocks``.

    Attributes
    ----------
    use
        What the run has read and kept so far.

    References
    ----------
    Liu et al., "AutoFreeze: Automatically Freezing Model Blocks to Accelerate Fine-tuning", arXiv:2102.01386, which
    keeps the states of BERT's frozen layers.
    """

    def __init__(self, model: PeftModel, lowest: int, blocks: Blocks) -> None:
        if lowest < 1:
            raise ValueError(f"lowest: expected a layer above 0, found {lowest}")
        self._model, self._blocks = model, blocks
        self._layers = list(decoder_layers(model))[:lowest]
        self._in_tuple: bool | None = None
        self._full = False
        self.use = PrefixUse()

    @contextlib.contextmanager
    def block(self, visit: Visit) -> Iterator[bool]:
        """Keep the states of the pass within the context, or give those that were kept; tell whether they were given.

        Parameters
        ----------
        visit
            That the pass is (:func:`visit_of`). One forward pass a context; the backward pass may come within it or
            after it.
        """
        key = visit.key
        found, gathered = self._blocks.read(key), None
        if found is None:
            gathered = self._blocks.gather(visit)
            # The first one is computed all the same, so that one knows how far it is off.
            found = gathered if self.use.difference else None
        if found is None:
            with self._keeping(visit):
                yield False
            computed = None if gathered is None else self._blocks.read(key)
            if computed is not None:
                self.use.difference = _difference(gathered.states, computed.states, visit)
            return
        if gathered is not None and key not in self.use.gathered:
            self.use.gathered.append(key)
        # A held-out loss is taken while the clock stands.
        if key not in self.use.filled and visit.purpose == TRAIN:
            self.use.charged.setdefault(key, found.seconds)
        with self._giving(found.states, visit):
            yield True

    @contextlib.contextmanager
    def _keeping(self, visit: Visit) -> Iterator[None]:
        start, kept = time.perf_counter(), {}

        def keep(_: Any, __: Any, output: Any) -> None:
            self._in_tuple = isinstance(output, tuple)
            states = _padded((output[0] if self._in_tuple else output).detach(), visit)
            if states.device.type == "cuda":
                import torch

                torch.cuda.synchronize(states.device)
            kept.update(states=states, seconds=time.perf_counter() - start)

        hook = self._layers[-1].register_forward_hook(keep)
        try:
            yield
        finally:
            hook.remove()
        if self._full:
            return
        before = time.perf_counter()
        try:
            self._blocks.keep(visit, kept["states"], kept["seconds"])
        except OSError as error:
            # A quota, or a folder of another user's: the run needs no states to be right.
            self._full = True
            print(f"note: states of the frozen layers are not kept from here on: {error}", flush=True)
            return
        self.use.filled[visit.key] = kept["seconds"] + time.perf_counter() - before

    @contextlib.contextmanager
    def _giving(self, states: torch.Tensor, visit: Visit) -> Iterator[None]:
        if self._in_tuple is None:
            self._in_tuple = self._returns_tuple()
        wrap: Callable[[Any], Any] = (lambda hidden: (hidden,)) if self._in_tuple else (lambda hidden: hidden)

        def passing(hidden_states: Any, *_: Any, **__: Any) -> Any:
            return wrap(hidden_states)

        def giving(hidden_states: Any, *_: Any, **__: Any) -> Any:
            return wrap(_as_passed(states.to(hidden_states.device, non_blocking=True), visit))

        # Not the module list is cut, since models count along it (masks by layer, say).
        with contextlib.ExitStack() as stack:
            for layer in self._layers:
                stack.enter_context(_forward_replaced(layer, giving if layer is self._layers[-1] else passing))
            yield

    def _returns_tuple(self) -> bool:
        """Tell whether a layer returns a tuple, as gptj's do, by a pass of one token that ends at the first layer."""
        import torch

        class Seen(Exception):
            pass

        def seen(_: Any, __: Any, output: Any) -> None:
            raise Seen(isinstance(output, tuple))

        hook = self._layers[0].register_forward_hook(seen)
        token = torch.zeros(1, 1, dtype=torch.int64, device=self._model.get_input_embeddings().weight.device)
        try:
            with torch.no_grad():
                self._model(input_ids=token, use_cache=False)
        except Seen as found:
            return found.args[0]
        finally:
            hook.remove()
        raise RuntimeError("the first layer was not reached by a pass of one token")

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs, so that a resumed run is not charged for blocks of its own."""
        return asdict(self.use)

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from a state; None of a run that kept no prefix until then."""
        self.use = PrefixUse(**state) if state else PrefixUse()

    def summary(self) -> dict[str, Any]:
        """Return for run.json: blocks computed, read from others, gathered; their seconds; whether all is exact."""
        use = self.use
        return {
            "layers": len(self._layers),
            "exact": not use.gathered,
            "gathered": len(use.gathered),
            "difference": use.difference,
            "filled": len(use.filled),
            "read_from_others": len(use.charged),
            "fill_seconds": sum(use.filled.values()),
            "charged_seconds": sum(use.charged.values()),
            **self._blocks.summary(),
        }


def _padded(states: torch.Tensor, visit: Visit) -> torch.Tensor:
    """Return the states of a pass as they are kept, of shape (sequences, longest, width)."""
    if not visit.joined:
        return states
    import torch

    rows = states[0].split([size for _, size in visit.rows])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _as_passed(states: torch.Tensor, visit: Visit) -> torch.Tensor:
    """Return kept states as a pass has them, rows joined where it joins them."""
    if not visit.joined:
        return states
    import torch

    return torch.cat([row[:size] for row, (_, size) in zip(states, visit.rows, strict=True)]).unsqueeze(0)


def _difference(gathered: torch.Tensor, true: torch.Tensor, visit: Visit) -> dict[str, float]:
    """Return how far gathered states are from true ones, over all tokens that are no padding."""
    import torch

    pairs = [
        (one[:size].float(), other[:size].float())
        for one, other, (_, size) in zip(gathered, true, visit.rows, strict=True)
    ]
    one, other = (torch.cat(side) for side in zip(*pairs, strict=True))
    apart, size = (one - other), other.square().mean().sqrt()
    return {"max_absolute": float(apart.abs().max()), "relative": float(apart.square().mean().sqrt() / size)}


@contextlib.contextmanager
def _forward_replaced(layer: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute ``forward`` instead of its own, hooks of other libraries on it included."""
    own = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own
