"""Configurations and tokenizers that no model can be trained with: the stage step refuses them in one sentence."""

from __future__ import annotations

import json
import re

import pytest

from aletheia.errors import UserError
from aletheia.staging import weights_check
from damaged import OURS, configure, said

CONFIGS = {
    "no JSON": (
        '{"model_type": "llama",\n oops}',
        r"config\.json, line 2, column 2: expected JSON, found something else",
    ),
    "no UTF-8": (b'{"model_type": "\xff"}', r"config\.json: expected JSON in UTF-8"),
    "a list": ("[]", r"config\.json: expected an object, found list"),
    "no family": ("{}", r"config\.json, model_type: expected the family's name \(llama, qwen2, …\) and found none"),
    "an unknown family": (
        '{"model_type": "wizard9000"}',
        r"expected a family that transformers \S+ knows .* 'wizard9000'",
    ),
    "a misspelt family": ('{"model_type": "lama"}', r"found 'lama'; did you mean 'llama'\?"),
    "code of its own": (
        '{"model_type": "wizard", "auto_map": {"AutoConfig": "configuration_wizard.WizardConfig"}}',
        r"model_type: 'wizard' brings code of its own \(auto_map\), which is never run; expected a family that",
    ),
    "BERT": (
        '{"model_type": "bert"}',
        r"model_type: 'bert' is no causal language model; expected one that predicts the",
    ),
    "T5": ('{"model_type": "t5"}', r"'t5' is no causal language model"),
    "BART": ('{"model_type": "bart"}', r"'bart' is no causal language model"),
    "a number in words": ({"num_hidden_layers": "two"}, r"config\.json: llama refuses it \(.*num_hidden_layers"),
    "heads that do not divide": ({"hidden_size": 33}, r"config\.json: llama refuses it \(.*hidden size \(33\)"),
    "heads that are none": ({"num_attention_heads": 0}, r"config\.json: llama refuses (it|this shape) \("),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_config_is_refused(mine, case):
    content, sentence = CONFIGS[case]
    path = mine / "config.json"
    if isinstance(content, dict):
        configure(mine, **content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert re.match(rf"mine: .*{sentence}", said(mine))


def test_other_settings_are_read_too(mine):
    (mine / "generation_config.json").write_text("{oops")
    assert said(mine).startswith("mine: generation_config.json, line 1, column 2: expected JSON, found something else")


def test_a_missing_or_damaged_tokenizer_is_refused(mine):
    """Of Qwen2 Transformers makes an empty one where the files are missing, and says nothing."""
    (mine / "tokenizer.json").write_text("{}")
    assert re.match(r"mine: its tokenizer cannot be loaded \(.*\); expected tokenizer\.json and", said(mine))
    (mine / "tokenizer.json").unlink()
    configure(mine, model_type="qwen2")
    assert said(mine).startswith(
        "mine: expected a tokenizer (tokenizer.json and tokenizer_config.json, or the family's"
    )
    (mine / "vocab.json").write_text("{}")
    (mine / "merges.txt").write_text("")
    (mine / "tokenizer_config.json").unlink()
    assert re.match(
        r"mine: its tokenizer (finds no token in a sentence|cannot be loaded) \(.*\); expected t", said(mine)
    )


def test_a_tokenizer_without_an_end_is_refused(mine):
    path = mine / "tokenizer_config.json"
    named = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in named.items() if not key.endswith("_token")}))
    assert said(mine).startswith("mine: its tokenizer has neither an end nor a padding token; name eos_token in tok")


def test_a_special_token_that_no_text_has_needs_no_embedding(mine, capsys):
    """As the place of a picture in Gemma 3 1B's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(mine)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<picture>"]})
    tokenizer.save_pretrained(mine)
    weights_check.check_model(mine, **OURS)
    assert "note: mine: <picture> must not stand in texts: the embedding has 259 rows" in capsys.readouterr().out
    tokenizer.chat_template = "{{ messages }}<picture>"
    tokenizer.save_pretrained(mine)
    with pytest.raises(UserError, match="no embedding \\('<picture>' is number 259"):
        weights_check.check_model(mine, **OURS)
