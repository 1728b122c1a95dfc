"""Convert model weights of any accepted form to safetensors, with a tokenizer that loads offline."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance.atomic_write import apply_umask
from aletheia.staging.repository_files import model_files


def gguf_to_safetensors(gguf: Path, folder: Path) -> None:
    """Write a GGUF model as fp32 safetensors with its tokenizer and chat template.

    fp32 holds scale times integer plus offset without the further rounding that bf16 would bring.

    Parameters
    ----------
    gguf
        The model file.
    folder
        Where the converted model goes.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        # Without this the model stays "quantized" in name, and Trainer, saving and merging refuse it.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    save_model(model, tokenizer, folder)


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer to ``folder``, readable as the user's other files are."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    apply_umask(folder)


def byte_tokenizer(max_len: int | None = None) -> Any:
    """Return a tokenizer of one token a byte and ``<bos>``, ``<eos>``, ``<pad>``, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    limit = {} if max_len is None else {"model_max_length": max_len}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        # No byte is unknown; but where no such token is named, Qwen2's class adds one, which has no embedding.
        unk_token="<pad>",
        clean_up_tokenization_spaces=False,
        **limit,
    )
    fast.chat_template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    return fast


def random_model(source: dict[str, Any], folder: Path) -> None:
    """Write a model of random weights: any family that transformers knows, any shape.

    Parameters
    ----------
    source
        ``config`` (``model_type`` and any of that family's keys), ``seed``, and ``tokenizer``: ``bytes`` or
        the path of a folder whose tokenizer is copied.
    folder
        Where it goes.

    Raises
    ------
    UserError
        For an unknown family or configuration key, or a shape that the family refuses.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer_of(source.get("tokenizer", "bytes"))
    config = _random_config(dict(source["config"]), tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.get("seed", 0))
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except (ValueError, RuntimeError, TypeError, AssertionError, ZeroDivisionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"source.config: {config.model_type} refuses this shape ({reason})") from None
    save_model(model, tokenizer, folder)


def _tokenizer_of(choice: str) -> Any:
    if choice == "bytes":
        return byte_tokenizer()
    from transformers import AutoTokenizer

    if not Path(choice).is_dir():
        raise UserError(f"source.tokenizer: expected `bytes` or the folder of a staged model, found {choice!r}")
    return AutoTokenizer.from_pretrained(choice, local_files_only=True)


def _random_config(settings: dict[str, Any], tokenizer: Any) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    family = settings.pop("model_type", None)
    if family not in CONFIG_MAPPING:
        near = difflib.get_close_matches(str(family), list(CONFIG_MAPPING), n=1)
        raise UserError(
            f"source.config.model_type: expected a family that transformers knows (llama, qwen2, …), found "
            f"{family!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    default = AutoConfig.for_model(family)
    for key in settings:
        if not hasattr(default, key):
            near = difflib.get_close_matches(key, list(default.to_dict()), n=1)
            raise UserError(
                f"source.config.{key}: {family} has no such key" + (f"; did you mean {near[0]!r}?" if near else "")
            )
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    try:
        return AutoConfig.for_model(family, **{"vocab_size": len(tokenizer), **special, **settings})
    except Exception as error:  # transformers checks types and shapes with classes of its own
        raise UserError(f"source.config: {family} refuses this shape ({' '.join(str(error).split())[:200]})") from None


def local_model(source: dict[str, Any], folder: Path) -> None:
    """Copy a folder's safetensors, tokenizer and configuration; weights are hard-linked where possible.

    Raises
    ------
    UserError
        When the folder is missing or has no safetensors weights or no ``config.json``.
    """
    origin = Path(source["path"])
    if not origin.is_dir():
        raise UserError(f"{origin}: expected a model folder here and found none; check source.path in the registry")
    names = model_files([p.name for p in origin.iterdir() if p.is_file()], f"the folder {origin}")
    if "config.json" not in names:
        raise UserError(f"{origin}: expected config.json beside the weights and found none")
    folder.mkdir(parents=True)
    for name in names:
        try:
            if not name.endswith(".safetensors"):  # small ones are copied, so an edit in place cannot reach them
                raise OSError
            os.link((origin / name).resolve(), folder / name)
        except OSError:
            shutil.copyfile(origin / name, folder / name)


def count_parameters(folder: Path) -> int:
    """Return the number of parameters in a folder's safetensors files, from their headers alone."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header = json.loads(handle.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for dimension in tensor["shape"]:
                    size *= dimension
                total += size
    return total
