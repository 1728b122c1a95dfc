"""An adapter that is to be used: its files, the base model that it belongs to, and how the study asked that model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.exports.adapter_files import CONFIG, adapter_config
from aletheia.exports.choice import read_choice
from aletheia.exports.found_runs import WEIGHTS, adapter_folder, find_run
from aletheia.exports.run_inputs import lock_of
from aletheia.provenance.artifacts import Artifact
from aletheia.provenance.staged_files import folder_of

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
CHAT = "chat"


@dataclass(frozen=True)
class UsedAdapter:
    """An adapter and its base model.

    Attributes
    ----------
    adapter
        Its folder, in PEFT's format.
    base
        The folder of the base model.
    lock
        That of the staged base model, by which its files are checked; None for an adapter without its study.
    title
        What it is, for sentences.
    dtype
        That the run trained in; of an adapter without its study that of the base model's files.
    quantization, attention
        As the run loaded the model.
    prompt
        The study's wording of a question; ``chat`` for the model's template; None where nothing says.
    sources
        The artifacts that it was found by, with the sha256 of their bytes.
    """

    adapter: Path
    base: Path
    lock: Artifact | None
    title: str
    dtype: str
    quantization: str | None = None
    attention: str | None = None
    prompt: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def stored_dtype(self) -> str:
        """Return the precision of the base model's files."""
        return stored_dtype(self.base)


def used_adapter(
    place: Path,
    *,
    model: str | None = None,
    arm: str | None = None,
    seed: int | None = None,
    base_model: Path | None = None,
) -> UsedAdapter:
    """Return the adapter that is meant.

    Parameters
    ----------
    place
        As :func:`aletheia.exports.found_runs.find_run` takes it; or the folder of any adapter in PEFT's format.
    model, arm, seed
        Which run of a study.
    base_model
        The folder of another base model than the study's, or of that of an adapter which stands without its study and
        whose base model is in no cache.

    Raises
    ------
    UserError
        When there is no such run, or an adapter's base model is not found on this machine.
    """
    place = Path(place)
    is_adapter = (place / WEIGHTS).is_file()
    if is_adapter and (base_model is not None or not _has_study(place)):
        return _alone(place, base_model)
    run = find_run(place, model=model, arm=arm, seed=seed)
    if base_model is not None:
        return _alone(adapter_folder(run.path), base_model)
    choice, lock = read_choice(run), lock_of(run, "model_lock")
    return UsedAdapter(
        adapter=adapter_folder(run.path),
        base=folder_of(lock),
        lock=lock,
        title=f"{choice.model}, arm {choice.arm}, seed {choice.seed}",
        dtype=choice.dtype,
        quantization=choice.quantization,
        attention=run.envelope["lineage"]["config"]["model"].get("attention"),
        prompt=CHAT if choice.templated else choice.prompt,
        sources=choice.sources,
    )


def load_base(used: UsedAdapter, *, dtype: str, quantization: str | None = None) -> tuple[Any, Any]:
    """Load an adapter's base model and its tokenizer, offline; of a staged one each file is checked first."""
    from aletheia.method.loading import load, load_tokenizer, torch_dtype

    if used.lock is not None:
        return load(used.lock, dtype=dtype, quantization=quantization, attention=used.attention)
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    on_gpu = {"device_map": "auto"} if torch.cuda.is_available() else {}
    model = AutoModelForCausalLM.from_pretrained(
        used.base, dtype=torch_dtype(dtype), local_files_only=True, trust_remote_code=False, **on_gpu
    )
    return model.eval(), load_tokenizer(used.base)


def with_adapter(model: Any, used: UsedAdapter) -> Any:
    """Return a base model with the adapter, in evaluation mode."""
    from peft import PeftModel

    # PEFT asks transformers for what goes by another name now, and nobody here can mend that.
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return PeftModel.from_pretrained(model, used.adapter, local_files_only=True).eval()


def stored_dtype(folder: Path) -> str:
    """Return the precision that a model's ``config.json`` names: ``bf16``, ``fp16`` or ``fp32``.

    Raises
    ------
    UserError
        When the files are quantised, or of another precision.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{path}: expected a model's configuration, found none; name the folder of a model") from None
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "quantised")
        raise UserError(
            f"{folder}: expected weights of 16 or 32 bits, found {method} ones, into which an adapter cannot be merged "
            "without loss; name the unquantised model with --base-model"
        )
    named = config.get("dtype") or config.get("torch_dtype") or "float32"
    if named not in DTYPES:
        raise UserError(f"{path}: expected dtype {', '.join(DTYPES)}, found {named}")
    return DTYPES[named]


def _has_study(adapter: Path) -> bool:
    """Tell whether a run's artifact stands beside an adapter, or the study that it was copied from around it."""
    return adapter.with_name("run.json").is_file() or (adapter.resolve().parent / "results" / "train").is_dir()


def _alone(adapter: Path, base_model: Path | None) -> UsedAdapter:
    config = adapter_config(adapter)
    base = Path(base_model) if base_model is not None else _cached(config, adapter)
    if not (base / "config.json").is_file():
        raise UserError(f"--base-model {base}: expected the folder of a model (config.json), found none")
    return UsedAdapter(adapter, base, None, str(adapter), stored_dtype(base))


def _cached(config: Mapping[str, Any], adapter: Path) -> Path:
    """Return the folder of the base model that an adapter names: a path, or a hub id in this machine's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name = config.get("base_model_name_or_path") or ""
    if Path(name, "config.json").is_file():
        return Path(name)
    try:
        return Path(snapshot_download(name, revision=config.get("revision"), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise UserError(
            f"{adapter / CONFIG}: expected the base model {name or '(none named)'} on this machine, found it neither "
            "as a folder nor in the hub's cache; name its folder with --base-model"
        ) from None
