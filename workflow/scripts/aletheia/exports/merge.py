"""An adapter put into its model's weights, checked on logits, written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aletheia.errors import UserError
from aletheia.exports.adapter_files import adapter_config
from aletheia.exports.found_runs import WEIGHTS
from aletheia.exports.used_adapter import UsedAdapter, load_base, stored_dtype, with_adapter
from aletheia.provenance.artifacts import sha256_file
from aletheia.provenance.atomic_write import apply_umask, atomic_path
from aletheia.training.prompts import ALPACA_BARE

if TYPE_CHECKING:
    import torch

GIB = 2**30
# Of a model's folder: what the merged model writes anew.
WRITTEN_ANEW = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json")
NOT_KEPT = ("config.json", "README.md")
CHECKED_TEXT = ALPACA_BARE.format(instruction="Name the three primary colours, and say why they are called so.")
# How far logits may be apart, as a share of their own root mean square: a few roundings of each layer's numbers.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}


@dataclass(frozen=True)
class Merged:
    """How a merged model agrees with the model and its adapter.

    Attributes
    ----------
    difference
        Root mean square of the logits' differences, over that of the logits.
    largest
        The largest difference of a logit.
    effect
        As ``difference``, between the base model with and without the adapter: what the adapter does.
    tokens
        Positions that were compared.
    dtype
        Of the weights.
    """

    difference: float
    largest: float
    effect: float
    tokens: int
    dtype: str


def merge(used: UsedAdapter, out: Path) -> Merged:
    """Write a model with an adapter in its weights: safetensors, tokenizer and chat template, a card.

    Parameters
    ----------
    used
        The adapter.
    out
        The folder to write; it must not be there yet.

    Returns
    -------
    Merged
        The comparison of the written model, loaded anew, with the model and its adapter.

    Raises
    ------
    UserError
        When ``out`` is there, the disk has no room, the base weights are quantised, or the logits do not agree;
        nothing is written then.
    """
    if out.exists():
        raise UserError(f"--out {out}: expected a folder that is not there yet, found one; name another or remove it")
    dtype = stored_dtype(used.base)
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_room(used.base, out.parent)
    with atomic_path(out) as temporary:
        temporary.mkdir()
        expected, plain = _write(used, temporary, dtype)
        merged = _compare(_logits_of(temporary, dtype), expected, plain, dtype)
        if not merged.difference <= TOLERANCE[dtype]:
            raise UserError(
                f"--out {out}: expected logits as of the model with its adapter, found them {merged.difference:.2g} of "
                f"their size apart ({dtype} allows {TOLERANCE[dtype]:g}), so nothing was written; report this model"
            )
        (temporary / "README.md").write_text(_card(used, merged), encoding="utf-8")
        apply_umask(temporary)
    return merged


def _check_room(base: Path, folder: Path) -> None:
    """Refuse to begin where the merged model, as large as its base, would not fit."""
    wanted = sum(path.stat().st_size for path in base.iterdir() if path.is_file())
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise UserError(
            f"the merged model needs {wanted / GIB:.1f} GiB and {folder} has {free / GIB:.1f} GiB free; free some "
            "space or name another --out"
        )


def _write(used: UsedAdapter, folder: Path, dtype: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Write the merged model; return the logits with the adapter before, and without it."""
    # Both with the model's own attention, or the comparison would be of two kernels.
    base, tokenizer = load_base(replace(used, attention=None), dtype=dtype)
    plain = _logits(base, tokenizer)
    model = with_adapter(base, used)
    expected = _logits(model, tokenizer)
    merged = model.merge_and_unload()
    merged.save_pretrained(folder)
    for path in used.base.iterdir():
        kept = path.is_file() and not path.name.startswith(".") and path.name not in NOT_KEPT
        if kept and not path.name.endswith(WRITTEN_ANEW) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    return expected, plain


def _logits_of(folder: Path, dtype: str) -> torch.Tensor:
    """Return the logits of a model that was written, loaded anew."""
    from transformers import AutoModelForCausalLM

    from aletheia.method.loading import load_tokenizer, torch_dtype

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch_dtype(dtype), local_files_only=True)
    return _logits(model.eval(), load_tokenizer(folder))


def _logits(model: Any, tokenizer: Any) -> torch.Tensor:
    import torch

    ids = tokenizer(CHECKED_TEXT, return_tensors="pt")["input_ids"].to(model.get_input_embeddings().weight.device)
    with torch.no_grad():
        return model(input_ids=ids).logits[0].float().cpu()


def _compare(found: torch.Tensor, expected: torch.Tensor, plain: torch.Tensor, dtype: str) -> Merged:
    def size(value: torch.Tensor) -> float:
        return float(value.square().mean().sqrt())

    return Merged(
        difference=size(found - expected) / size(expected),
        largest=float((found - expected).abs().max()),
        effect=size(expected - plain) / size(expected),
        tokens=expected.shape[0],
        dtype=dtype,
    )


def _card(used: UsedAdapter, merged: Merged) -> str:
    """Return the README.md of a merged model."""
    named = adapter_config(used.adapter).get("base_model_name_or_path")
    on_hub = used.lock.payload["source"].get("id") if used.lock else named and not Path(named).exists()
    front: Mapping[str, Any] = {
        **({"base_model": named, "base_model_relation": "finetune"} if on_hub else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "merged", "aletheia"],
    }
    sources = "".join(f"- `{name}`: `{sha256}`\n" for name, sha256 in used.sources.items())
    return (
        f"---\n{yaml.safe_dump(dict(front), sort_keys=False)}---\n\n# {used.title}\n\n"
        f"The model {named} with its LoRA adapter in the weights, {merged.dtype}. Over {merged.tokens} tokens its "
        f"logits differ from those of the model with its adapter by {merged.difference:.2g} of their size (root mean "
        f"square); the adapter moves them by {merged.effect:.2g}.\n\nMade from, by sha256:\n\n"
        f"- adapter, `{WEIGHTS}`: `{sha256_file(used.adapter / WEIGHTS)}`\n{sources}"
    )
