"""Check a model's small files: whether its configuration and tokenizer describe a model that can be trained."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layers import adaptable_layers
from aletheia.method.loading import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Forms of quantised weights that Transformers reads with the packages of the steps that load models.
READABLE = ("bitsandbytes", "fp8", "mxfp4")
SAMPLE = "Which 3 layers should carry the adapters?"
TOKENIZER_FILES = "tokenizer.json and tokenizer_config.json, or the family's own, beside config.json"
TOKENIZER_FILE = re.compile(r"tokenizer.*(?<!_config)\.(json|model)|spiece\.model|vocab\.(json|txt)|tekken\.json")


def described_model(folder: Path, *, named: str, remedy: str) -> PreTrainedModel:
    """Return the model that a folder's ``config.json`` describes, on the meta device: shapes without numbers.

    Its tokenizer is checked against it. No weight is read.

    Parameters
    ----------
    folder
        ``config.json`` and the tokenizer's files.
    named, remedy
        What sentences call the model, and what they advise.

    Raises
    ------
    UserError
        When the configuration is damaged, of an unknown family, of one that is no causal language model or needs code
        of its own, or of a shape that the family refuses; when the tokenizer cannot be loaded or does not fit.
    """
    with quiet():
        config = _config(folder, named=named, remedy=remedy)
        model = _model_of_config(config, named=named, remedy=remedy)
        _check_tokenizer(folder, model, named=named, remedy=remedy)
    return model


def adaptable_names(folder: Path, *, named: str, remedy: str) -> list[dict[str, list[str]]]:
    """Return, for each layer, the full names of what can carry adapters.

    Parameters
    ----------
    folder, named, remedy
        As in :func:`described_model`.

    Raises
    ------
    UserError
        When its family has no layers that are known (see :func:`aletheia.method.layers.adaptable_layers`).
    """
    with quiet():
        model = _model_of_config(_config(folder, named=named, remedy=remedy), named=named, remedy=remedy)
    return [layer.names() for layer in adaptable_layers(model)]


def reason(error: object) -> str:
    """Return an error's message on one line, cut to 160 characters."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text[:160]}…" if len(text) > 160 else text or type(error).__name__


def read_settings(path: Path, *, named: str, remedy: str) -> dict[str, Any]:
    """Return the JSON object that a model's file holds.

    Raises
    ------
    UserError
        When it is no JSON, or no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        where = f"{path.name}, line {error.lineno}, column {error.colno}"
        raise UserError(f"{named}: {where}: expected JSON, found something else ({error.msg}); {remedy}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{named}: {path.name}: expected JSON in UTF-8 ({reason(error)}); {remedy}") from None
    if not isinstance(found, dict):
        raise UserError(f"{named}: {path.name}: expected an object, found {type(found).__name__}; {remedy}")
    return found


def _config(folder: Path, *, named: str, remedy: str) -> Any:
    """Return the configuration of a family that Transformers knows by itself."""
    import transformers
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    settings = read_settings(folder / "config.json", named=named, remedy=remedy)
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            read_settings(folder / name, named=named, remedy=remedy)
    where, family = f"{named}: config.json, model_type", settings.get("model_type")
    if family is None:
        raise UserError(f"{where}: expected the family's name (llama, qwen2, …) and found none; {remedy}")
    if family not in CONFIG_MAPPING:
        if settings.get("auto_map"):
            raise UserError(
                f"{where}: {family!r} brings code of its own (auto_map), which is never run; expected a family that "
                f"transformers {transformers.__version__} has itself"
            )
        near = difflib.get_close_matches(str(family), list(CONFIG_MAPPING), n=1)
        hint = f"did you mean {near[0]!r}?" if near else remedy
        raise UserError(
            f"{where}: expected a family that transformers {transformers.__version__} knows (llama, qwen2, …), "
            f"found {family!r}; {hint}"
        )
    method = (settings.get("quantization_config") or {}).get("quant_method")
    if method is not None and method not in READABLE:
        raise UserError(
            f"{named}: config.json, quantization_config: expected plain weights or {', '.join(READABLE)}, found "
            f"{method!r}; take the unquantised model (the registry's quantization: nf4 quantises it while it is loaded)"
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers checks types and shapes with classes of its own
        raise UserError(f"{named}: config.json: {family} refuses it ({reason(error)}); {remedy}") from None


def _model_of_config(config: Any, *, named: str, remedy: str) -> PreTrainedModel:
    """Return the causal language model of a configuration, on the meta device."""
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoModelForCausalLM

    # The mapping also has BERT and its relatives, which attend to later tokens unless they are configured as decoders.
    sees_all = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    encodes = getattr(config, "is_encoder_decoder", False)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or sees_all or encodes:
        raise UserError(
            f"{named}: config.json, model_type: {config.model_type!r} is no causal language model; expected one that "
            "predicts the next token (llama, qwen2, mistral, …)"
        )
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    except Exception as error:  # of any kind, since each family computes its shapes in its own way
        raise UserError(
            f"{named}: config.json: {config.model_type} refuses this shape ({reason(error)}); {remedy}"
        ) from None


def _check_tokenizer(folder: Path, model: PreTrainedModel, *, named: str, remedy: str) -> None:
    """Refuse a tokenizer that is missing, cannot be loaded, cannot pad, or has tokens without an embedding."""
    # For some families Transformers silently makes an empty tokenizer where there is none.
    if not any(TOKENIZER_FILE.fullmatch(path.name) for path in folder.iterdir()):
        raise UserError(f"{named}: expected a tokenizer ({TOKENIZER_FILES}) and found none; {remedy}")
    try:
        tokenizer = load_tokenizer(folder)
        ids = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    except Exception as error:  # of any kind: it may come from tokenizers, sentencepiece or the repository's files
        raise UserError(
            f"{named}: its tokenizer cannot be loaded ({reason(error)}); expected {TOKENIZER_FILES}"
        ) from None
    if not set(ids) - {tokenizer.unk_token_id}:
        raise UserError(
            f"{named}: its tokenizer finds no token in a sentence (it has {len(tokenizer)}); expected {TOKENIZER_FILES}"
        )
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{named}: its tokenizer has neither an end nor a padding token; name eos_token in tokenizer_config.json"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    used = [token for token, number in beyond.items() if not _unused(tokenizer, token, number)]
    if used:
        raise UserError(
            f"{named}: the tokenizer has tokens for which the model has no embedding ({used[0]!r} is number "
            f"{beyond[used[0]]}, and the embedding has {rows} rows: vocab_size in config.json); {remedy}"
        )
    if beyond:
        print(f"note: {named}: {', '.join(beyond)} must not stand in texts: the embedding has {rows} rows", flush=True)


def _unused(tokenizer: PreTrainedTokenizerBase, token: str, number: int) -> bool:
    """Tell whether a token is special and in no text of this study, such as Gemma 3 1B's placeholder of an image."""
    added = tokenizer.added_tokens_decoder.get(number)
    ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return bool(added and added.special) and number not in ends and token not in str(tokenizer.chat_template)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Transformers' advice out of the log; what matters becomes a sentence."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
