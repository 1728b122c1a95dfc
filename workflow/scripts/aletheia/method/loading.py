"""Load a staged model and its tokenizer, checked against the lock, offline."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("bf16", "fp16", "fp32")
OUT_OF_MEMORY = re.compile("not enough memory|can't allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE)


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of ``bf16``, ``fp16`` or ``fp32``."""
    import torch

    try:
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]
    except KeyError:
        raise UserError(f"dtype {name!r}: expected one of {', '.join(DTYPES)}") from None


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a staged model's tokenizer; where it has no pad token, the end token pads."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load(
    lock: artifacts.Source, *, dtype: str, quantization: str | None = None, attention: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a staged model after checking its files against its lock.

    Parameters
    ----------
    lock
        ``resources/models/NAME.lock.json``, or that artifact as it was read.
    dtype
        ``bf16``, ``fp16`` or ``fp32``.
    quantization
        ``nf4`` for QLoRA's 4-bit weights (double quantisation, compute in ``dtype``), or None.
    attention
        ``fp32`` to compute attention in single precision (see :mod:`aletheia.method.attention`), or None.

    Returns
    -------
    tuple
        Model (in evaluation mode, weights frozen as loaded, on the GPU where there is one) and tokenizer.

    Raises
    ------
    UserError
        When a file differs from the lock, weights do not fill the model, or the quantisation is unknown.

    References
    ----------
    Dettmers et al., "QLoRA", arXiv:2305.14314.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from aletheia.provenance.staged_files import checked_folder

    logging.disable_progress_bar()  # in a log each redraw is a line
    folder = checked_folder(lock, "model_lock")
    options: dict[str, Any] = {}
    if quantization == "nf4":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch_dtype(dtype),
        )
    elif quantization is not None:
        raise UserError(f"quantization {quantization!r}: expected nf4 or nothing")
    if attention == "fp32":
        from aletheia.method.attention import FP32, register_fp32_attention

        register_fp32_attention()
        options["attn_implementation"] = FP32
    if torch.cuda.is_available():
        options["device_map"] = "auto"
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch_dtype(dtype),
        local_files_only=True,
        trust_remote_code=False,
        # They are named below, in one sentence; the error of transformers itself is a page long.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    _check_filled(info, folder)
    outside_gpu = {"cpu", "disk"} & {str(device) for device in getattr(model, "hf_device_map", {}).values()}
    if torch.cuda.is_available() and outside_gpu:
        raise UserError(
            f"{folder}: expected the model to fit into GPU memory, found parts on {', '.join(sorted(outside_gpu))}; "
            "give the job more GPUs, or the model quantization: nf4"
        )
    return model.eval(), load_tokenizer(folder)


def _check_filled(info: Mapping[str, Any], folder: Path) -> None:
    """Refuse parameters that transformers filled at random; staging does so too, but a lock may be older than that."""
    unfilled = sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})
    if unfilled:
        raise UserError(
            f"{folder}: expected weights for each parameter that config.json describes, found none of the right shape "
            f"for {len(unfilled)} ({unfilled[0]}, …), which would be random; stage the model again from whole files"
        )


def load_options(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :func:`load` that a ``model`` section holds, besides its dtype."""
    return {key: model[key] for key in ("quantization", "attention")}


def resolve_dtype(model: Mapping[str, Any], precision: artifacts.Source | None) -> str:
    """Return a model's dtype; ``auto`` is what the precision step measured.

    Raises
    ------
    UserError
        When the dtype is auto and no measurement is given.
    """
    if model["dtype"] != "auto":
        return model["dtype"]
    if precision is None:
        raise UserError("model.dtype is auto: expected --precision with the measured choice, found none")
    return artifacts.payload(precision, "precision")["dtype"]


def check_context(model: PreTrainedModel, tokens: int) -> None:
    """Refuse sequences that are longer than the model's context.

    Raises
    ------
    UserError
        With both lengths.
    """
    check_length(tokens, getattr(model.config, "max_position_embeddings", None))


def context_of(folder: Path) -> int | None:
    """Return the longest sequence that a staged model takes, in tokens; None where it names no limit."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return getattr(config, "max_position_embeddings", None)


def check_length(tokens: int, context: int | None) -> None:
    """Refuse sequences that are longer than a context, as :func:`check_context` does."""
    if context is not None and tokens > context:
        raise UserError(
            f"encoding.max_tokens is {tokens}, and the model's context has {context} tokens; lower encoding.max_tokens"
        )


def original_window(config: Mapping[str, Any]) -> int | None:
    """Return the length in tokens up to which longrope uses its short rotary factors; None for models without longrope.

    Under longrope (Phi-3.5) a sequence within this window uses the short factors at all positions, and a longer one the
    long factors at all positions, so cached keys are wrong once a sequence grows beyond it.

    Parameters
    ----------
    config
        A model's configuration, as in its ``config.json`` or from ``to_dict()``.
    """
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if scaling.get("rope_type", scaling.get("type")) != "longrope":
        return None
    return scaling.get("original_max_position_embeddings") or config["original_max_position_embeddings"]


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means exhausted memory; torch's CPU allocator raises a plain RuntimeError for it."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(OUT_OF_MEMORY.search(str(error)))


def leave_out_bitsandbytes(lock: artifacts.Source, quantization: str | None) -> None:
    """Prevent the import of bitsandbytes where the model is not quantised; call it before anything imports PEFT.

    PEFT 0.21 imports it wherever it is installed, and with it torch's compiler: a fifth of the import time of a
    training. A None in ``sys.modules`` makes its import fail, as if it were not installed, and PEFT and transformers do
    without it. Delete this once PEFT imports it only for quantised layers (peft/import_utils.py, ``is_bnb_available``).

    Parameters
    ----------
    lock, quantization
        As :func:`load` takes them. Weights that were quantised before they were staged say so in their ``config.json``.
    """
    from aletheia.provenance.staged_files import folder_of

    try:
        plain = "quantization_config" not in json.loads((folder_of(lock) / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return  # load() reports the error
    if plain and quantization is None:
        sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]


def use_threads(threads: int) -> int:
    """Let torch use ``threads`` threads, but never more than the cores this process may run on."""
    import torch

    from aletheia.provenance.machine import usable_cores

    torch.set_num_threads(max(1, min(threads, usable_cores())))
    return torch.get_num_threads()
