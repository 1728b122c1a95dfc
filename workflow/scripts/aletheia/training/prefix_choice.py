"""Whether and where a run keeps the states of its frozen prefix: ``training.prefix_cache`` and its bounds."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.errors import UserError
from aletheia.method.layers import decoder_layers

if TYPE_CHECKING:
    from peft import PeftModel

    from aletheia.method.token_batch import TokenBatch

OFF, AUTO, MEMORY, DISK, SHARED = "off", "auto", "memory", "disk", "shared"
DEFAULT_GIB = 4.0  # as the schema has it
# Of the memory that is free when the run starts; `auto` keeps more than this share of it on the disk.
MEMORY_SHARE = 0.25
GIB = 2**30
# What rates of randomness in training are called, in modules and in configurations; heads for other tasks have some.
RANDOM_RATE = re.compile(r"drop|jitter", re.IGNORECASE)
OTHER_HEADS = ("classifier", "summary", "seq_classif")


@dataclass(frozen=True)
class PrefixPlace:
    """Where states may be kept: settings that decide no result.

    Attributes
    ----------
    folder
        For files; None where there is none.
    gib
        What the states of a run may take (``training.prefix_cache_gib``).
    """

    folder: Path | None = None
    gib: float = DEFAULT_GIB

    @classmethod
    def beside(cls, model_lock: Path, gib: float) -> PrefixPlace:
        """Return the folder ``prefix`` beside that of the staged models: ``resources/prefix``."""
        return cls(model_lock.parent.parent / "prefix", gib)


@dataclass(frozen=True)
class PrefixChoice:
    """What a run does.

    Attributes
    ----------
    store
        ``off``, ``memory``, ``disk`` or ``shared``.
    reason
        Why it is off, or why ``auto`` does not keep the states in memory; None where it is as was asked.
    bytes
        That all blocks of the run take.
    """

    store: str
    reason: str | None = None
    bytes: int = 0


def choose_prefix(
    setting: str | bool,
    model: PeftModel,
    lowest: int,
    *,
    train: Sequence[TokenBatch],
    heldout: Sequence[TokenBatch],
    place: PrefixPlace,
) -> PrefixChoice:
    """Decide whether and where a run keeps the states of its frozen prefix.

    Parameters
    ----------
    setting
        ``training.prefix_cache``; False, as YAML reads ``off``, is ``off``.
    model
        With adapters.
    lowest
        The lowest adapted layer.
    train, heldout
        All micro-batches of the run, in order, repeated visits included, and those of the held-out loss once.
    place
        Where states may be kept.

    Raises
    ------
    UserError
        Where ``memory``, ``disk`` or ``shared`` was asked for, and the prefix is random or its states exceed a bound.
    """
    unique = {(tuple(batch.input_ids.shape), batch.input_ids.numpy().tobytes()): batch for batch in train}
    if setting in (OFF, False):
        return PrefixChoice(OFF)
    if lowest == 0:
        return PrefixChoice(OFF, "layer 0 is adapted, so that nothing lies below")
    if setting == AUTO and len(unique) == len(train):
        return PrefixChoice(OFF, "no micro-batch is visited twice")
    size = states_bytes(model, [*unique.values(), *heldout])
    problem = _not_repeatable(model, lowest) or _too_large(setting, size, place)
    if problem and setting != AUTO:
        raise UserError(f"training.prefix_cache: {problem}")
    return PrefixChoice(OFF, problem, size) if problem else _store(setting, size)


def _not_repeatable(model: PeftModel, lowest: int) -> str | None:
    """Return why the states that enter layer ``lowest`` cannot stand for the layers below; None where they can."""
    random = random_parts(model, lowest)
    if random:
        return (
            f"expected layers below the lowest adapted one ({lowest}) whose output is the same at every visit, found "
            f"{', '.join(random)}; write prefix_cache: off, or set it to 0 in the model's configuration"
        )
    shared = getattr(model.config, "num_kv_shared_layers", 0)
    if shared:
        return (
            f"expected layers that take hidden states alone, found {shared} that take keys and values of layers below "
            "(num_kv_shared_layers); write prefix_cache: off"
        )
    return None


def _store(setting: str, size: int) -> PrefixChoice:
    if setting != AUTO or size <= MEMORY_SHARE * _free_memory():
        return PrefixChoice(MEMORY if setting == AUTO else setting, None, size)
    return PrefixChoice(DISK, f"{_gib(size)} are more than a quarter of the free memory", size)


def _too_large(setting: str, size: int, place: PrefixPlace) -> str | None:
    """Return why states of this size cannot be kept, in a sentence; None where they can."""
    takes = f"the states of all micro-batches (rows × tokens × width × bytes) take {_gib(size)}, more than"
    if size > place.gib * GIB:
        return (
            f"{takes} training.prefix_cache_gib={place.gib:g}; raise it, shorten the rows, or write prefix_cache: off"
        )
    in_memory = size <= (_free_memory() if setting == MEMORY else MEMORY_SHARE * _free_memory())
    if setting == MEMORY:
        return None if in_memory else f"{takes} the memory that is free; write prefix_cache: disk, or off"
    if setting == AUTO and in_memory:
        return None
    if place.folder is None:
        return "expected a folder for the states, found none; write prefix_cache: memory"
    if size > _free_disk(place.folder):
        return f"{takes} is free below {place.folder}; free some, or write prefix_cache: off"
    return None


def states_bytes(model: PeftModel, batches: Sequence[TokenBatch]) -> int:
    """Return the bytes of the hidden states of some micro-batches between two layers: rows × tokens × width × bytes."""
    embeddings = model.get_input_embeddings().weight
    width = model.config.hidden_size
    return sum(batch.input_ids.numel() for batch in batches) * width * embeddings.element_size()


def random_parts(model: PeftModel, lowest: int) -> list[str]:
    """Return what is random in training in the embeddings or below layer ``lowest``, or may be: ``name=rate`` each."""
    import torch

    base = model.get_base_model()
    above = {module for layer in list(decoder_layers(model))[lowest:] for module in layer.modules()}
    rates = {f"{name}.p": m.p for name, m in base.named_modules() if isinstance(m, torch.nn.Dropout) and m not in above}
    for name, module in base.named_modules():
        if module not in above:
            rates |= {f"{name}.{key}": value for key, value in vars(module).items() if RANDOM_RATE.search(key)}
    for key, value in base.config.to_dict().items():
        if RANDOM_RATE.search(key) and not key.startswith(OTHER_HEADS):
            rates[f"config.{key}"] = value
    return [f"{name}={rate:g}" for name, rate in rates.items() if _is_number(rate) and rate > 0]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _free_memory() -> int:
    """Return the bytes that this job can have without swapping: of the system, and of its control group."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    table = Path("/proc/meminfo")
    for line in table.read_text(encoding="utf-8").splitlines() if table.exists() else ():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            free = int(amount.split()[0]) * 1024
    return min([free, *_left_of_control_groups()])


def _left_of_control_groups() -> list[int]:
    """Return what is left of the memory of this process's control group, and of those above it, where it is limited."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition("::")[2].strip("/")
    except OSError:
        return []
    left, root = [], Path("/sys/fs/cgroup")
    for group in [root / own, *(root / own).parents]:
        try:
            limit = (group / "memory.max").read_text(encoding="utf-8").strip()
            used = int((group / "memory.current").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            left.append(max(0, int(limit) - used))
    return left


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
