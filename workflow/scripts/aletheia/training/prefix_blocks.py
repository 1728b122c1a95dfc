"""Where the states of a frozen prefix are kept: in memory, or as memory-mapped files that other runs may read.

A block is what the prefix gives for one micro-batch, of shape (sequences, longest, width), in the dtype that hidden
states have between two layers.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from aletheia.provenance.lineage import compact_json

if TYPE_CHECKING:
    import torch

    from aletheia.training.frozen_prefix import Visit

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Block:
    """States that were kept.

    Attributes
    ----------
    states
        On the host, of shape (sequences, longest, width).
    seconds
        That computing them took.
    """

    states: torch.Tensor
    seconds: float


class Blocks(Protocol):
    """A place for blocks."""

    def read(self, key: str) -> Block | None:
        """Return a block; None where there is none that can be trusted."""

    def gather(self, visit: Visit) -> Block | None:
        """Return a block put together from rows of other micro-batches; None where that may or can not be."""

    def keep(self, visit: Visit, states: torch.Tensor, seconds: float) -> None:
        """Keep a block."""

    def summary(self) -> dict[str, Any]:
        """Return the kind of store, and the bytes that this run keeps in it."""


class MemoryBlocks:
    """Blocks in the memory of the host, gone with the process."""

    def __init__(self) -> None:
        self._blocks: dict[str, Block] = {}

    def read(self, key: str) -> Block | None:
        """Return a block; None where there is none."""
        return self._blocks.get(key)

    def gather(self, visit: Visit) -> Block | None:
        """Return None: a run has no rows but its own."""

    def keep(self, visit: Visit, states: torch.Tensor, seconds: float) -> None:
        """Keep a block; on a GPU in pinned memory, from which it comes back without a wait."""
        if states.device.type == "cuda":
            states = states.cpu().pin_memory()
        self._blocks[visit.key] = Block(states, seconds)

    def summary(self) -> dict[str, Any]:
        """Return the kind of store, and the bytes that this run keeps in it."""
        return {"store": "memory", "bytes": sum(_bytes(block.states) for block in self._blocks.values())}


class DiskBlocks:
    """Blocks as safetensors files, which any run with the same prefix may read.

    A file is written under another name and renamed, so that runs may read and write side by side; two that compute the
    same block write the same bytes. Deleting the folder changes no result.

    Parameters
    ----------
    folder
        Of all prefixes (``resources/prefix``).
    made_by
        What decides the states: model, revision, layers, dtype, code, versions, machine. Each block carries it.
    shared
        Whether rows that stand in other micro-batches' files serve too (:meth:`gather`).
    """

    def __init__(self, folder: Path, made_by: Mapping[str, Any], *, shared: bool = False) -> None:
        self._made_by = compact_json(dict(made_by))
        self.folder = folder / hashlib.sha256(self._made_by.encode()).hexdigest()[:16]
        self._checked: dict[str, float] = {}
        self._bytes = 0
        self._rows = self._index() if shared else {}

    def read(self, key: str) -> Block | None:
        """Return a block, memory-mapped; None where there is none, or its bytes or origin are not those it names."""
        path = self.folder / (key + SUFFIX)
        if key not in self._checked:
            seconds = _checked_seconds(path, self._made_by)
            if seconds is None:
                return None
            self._checked[key] = seconds
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as opened:
                return Block(opened.get_tensor("states"), self._checked[key])
        except (OSError, SafetensorError):
            return None  # deleted meanwhile

    def _index(self) -> dict[str, tuple[str, int]]:
        """Return where each row stands of those in files when the run began: its block's key, and its place there."""
        found: dict[str, tuple[str, int]] = {}
        for path in sorted(self.folder.glob("*" + SUFFIX)):
            told = _told(path)
            if told and told.get("made_by") == self._made_by:
                for place, row in enumerate(json.loads(told["rows"])):
                    found.setdefault(row, (path.name.removesuffix(SUFFIX), place))
        return found

    def gather(self, visit: Visit) -> Block | None:
        """Return a block put together from rows of other micro-batches; None where one of them is nowhere.

        Its states differ from true ones by rounding, since they were computed beside other rows at another width; in
        padding they are 0.
        """
        import torch

        if not all(row in self._rows for row, _ in visit.rows):
            return None
        parts, seconds = [], 0.0
        for row, size in visit.rows:
            key, place = self._rows[row]
            block = self.read(key)
            if block is None:
                return None
            parts.append(block.states[place, :size])
            seconds += block.seconds / len(block.states)
        return Block(torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), seconds)

    def keep(self, visit: Visit, states: torch.Tensor, seconds: float) -> None:
        """Write a block."""
        from safetensors.torch import save

        key, states = visit.key, states.cpu().contiguous()
        told = {"sha256": _sha256_of_tensor(states), "made_by": self._made_by, "seconds": repr(seconds)}
        told["rows"] = json.dumps([row for row, _ in visit.rows])
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not save_file, whose files (0600) other users of a shared tree could not read.
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".")
        try:
            with open(descriptor, "wb") as file:
                file.write(save({"states": states}, metadata=told))
            os.chmod(name, 0o644)
            os.replace(name, self.folder / (key + SUFFIX))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._checked[key] = seconds
        self._bytes += _bytes(states)

    def summary(self) -> dict[str, Any]:
        """Return the kind of store, and the bytes that this run keeps in it."""
        return {"store": "disk", "bytes": self._bytes}


def _told(path: Path) -> dict[str, str] | None:
    """Return what a block's file says of itself; None where it says nothing."""
    try:
        with open(path, "rb") as file:
            return _header(file)["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def _header(file: BinaryIO) -> dict[str, Any]:
    """Read a safetensors file's header, after which its tensors' bytes follow."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > os.fstat(file.fileno()).st_size:
        raise ValueError(f"a header of {length} bytes is longer than the file")
    return json.loads(file.read(length))


def _checked_seconds(path: Path, made_by: str) -> float | None:
    """Return the seconds that a block's file names, if its bytes and its origin are what it says; else None."""
    try:
        with open(path, "rb") as file:
            told = _header(file)["__metadata__"]
            # One tensor: its bytes are all that follows.
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if told["made_by"] == made_by and told["sha256"] == found:
            return float(told["seconds"])
        why = "its bytes changed" if told["made_by"] == made_by else "it is of another prefix"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        why = "it cannot be read"
    print(f"note: {path}: {why}; computed anew", flush=True)
    return None


def _sha256_of_tensor(states: torch.Tensor) -> str:
    import torch

    return hashlib.sha256(states.view(torch.uint8).numpy()).hexdigest()


def _bytes(states: torch.Tensor) -> int:
    return states.numel() * states.element_size()
