"""The frozen prefix of a run: chosen by its settings, and kept where they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.provenance import artifacts, machine
from aletheia.provenance.lineage import LIBRARY, file_digest
from aletheia.training.frozen_prefix import FrozenPrefix
from aletheia.training.prefix_blocks import DiskBlocks, MemoryBlocks
from aletheia.training.prefix_choice import AUTO, DISK, OFF, SHARED, PrefixChoice, PrefixPlace, choose_prefix

if TYPE_CHECKING:
    from peft import PeftModel

    from aletheia.method.token_batch import TokenBatch

# What of ours decides the bits of the states.
CODE = (
    *("method/loading.py", "method/attention.py", "method/four_bit.py"),
    *("training/loop.py", "training/frozen_prefix.py", "training/computation.py", "training/joined_rows.py"),
)
PACKAGES = ("torch", "transformers", "bitsandbytes")


def frozen_prefix(
    model: PeftModel,
    lowest: int,
    *,
    train: Sequence[TokenBatch],
    heldout: Sequence[TokenBatch],
    config: Mapping[str, Any],
    place: PrefixPlace,
    model_lock: artifacts.Source,
    dtype: str,
) -> tuple[FrozenPrefix | None, PrefixChoice]:
    """Return the frozen prefix of a run, None where none is kept, and what was chosen why.

    Parameters
    ----------
    model
        With adapters.
    lowest
        The lowest adapted layer.
    train, heldout
        The run's micro-batches, and those of its held-out loss.
    config
        Sections ``model`` and ``training``.
    place
        Where states may be kept.
    model_lock
        Lock of the staged model.
    dtype
        That the run computes in.
    """
    setting = config["training"].get("prefix_cache", AUTO)
    choice = choose_prefix(setting, model, lowest, train=train, heldout=heldout, place=place)
    if choice.store == OFF:
        return None, choice
    if choice.store in (DISK, SHARED):
        options = {key: config["model"].get(key) for key in ("quantization", "attention")}
        made_by = {**_made_by(model_lock, lowest), "dtype": dtype, **options}
        blocks = DiskBlocks(place.folder, made_by, shared=choice.store == SHARED)
    else:
        blocks = MemoryBlocks()
    return FrozenPrefix(model, lowest, blocks), choice


def _made_by(model_lock: artifacts.Source, lowest: int) -> dict[str, Any]:
    """Return what decides the states of a prefix beside the rows: model, code, versions, machine and threads."""
    import torch

    files = artifacts.payload(model_lock, "model_lock")["files"]
    return {
        "model": {name: entry["sha256"] for name, entry in files.items()},
        "lowest_layer": lowest,
        "code": {name: file_digest(LIBRARY / "aletheia" / name) for name in CODE},
        "packages": {name: _version(name) for name in PACKAGES},
        "device": machine.device(),
        "instructions": _vector_instructions(),
        "threads": torch.get_num_threads(),
    }


def _vector_instructions() -> list[str]:
    """Return the processor's vector and matrix instructions, where the system says them: processors share names."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted(flag for flag in flags if flag.startswith(("avx", "amx", "sve", "asimd", "bf16", "fma")))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
