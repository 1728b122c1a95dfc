"""Weights that are not what their config.json says: the stage step refuses them before a lock vouches for them."""

from __future__ import annotations

import json
import re
import shutil
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aletheia.errors import UserError
from aletheia.method import loading
from aletheia.provenance import artifacts
from aletheia.staging import convert, repository_files, weights_check
from conftest import FAMILIES
from damaged import LLAMA, OURS, configure, said
from hub_server import Hub
from stage_step import refused, stage, staged

# With an embedding for each token of the byte tokenizer.
FAMILIES = {name: {k: v for k, v in config.items() if k != "vocab_size"} for name, config in FAMILIES.items()}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def weights(folder, change):
    """Write a model's weights anew: ``change`` gets them by name and returns them."""
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})


def no(pattern):
    """A change that takes out the tensors of a name."""
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not re.search(pattern, name)}


MISFITS = {
    "fewer layers than config.json says": (
        lambda f: configure(f, num_hidden_layers=9),
        r"mine: the weights are not those of the LlamaForCausalLM that config\.json describes: it has parameters that "
        r"the files lack \(model\.layers\.4\.input_layernorm\.weight, \S+ and 43 more\); take config\.json, tokenizer "
        r"and weights whole and from one place",
    ),
    "more layers than config.json says": (
        lambda f: configure(f, num_hidden_layers=2),
        r"have tensors that have no place in it \(model\.layers\.2\.input_layernorm\.weight, \S+ and 16 more\)",
    ),
    "another architecture's": (
        lambda f: (f / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 259})),
        r"mine: the tensors in its weight files \(model\.embed_tokens\.weight, \S+ and 36 more\) are not those of the "
        r"GPT2LMHeadModel that config\.json describes: they are another architecture's; take config\.json",
    ),
    "other shapes": (
        lambda f: configure(f, hidden_size=48),
        r"it has parameters of other shapes than the files \(lm_head\.weight: 259 × 48, found 259 × 32 and 38 more\)",
    ),
    "no head": (lambda f: weights(f, no("lm_head")), r"it has parameters that the files lack \(lm_head\.weight\)"),
    "biases that config.json does not mention": (
        lambda f: weights(f, lambda t: {**t, "model.layers.1.self_attn.q_proj.bias": torch.zeros(32)}),
        r"the files have tensors that have no place in it \(model\.layers\.1\.self_attn\.q_proj\.bias\)",
    ),
    "more tokens than embeddings": (
        lambda f: (configure(f, vocab_size=258, pad_token_id=None), weights(f, lambda t: {**t, **cut(t, 258)})),
        r"mine: the tokenizer has tokens for which the model has no embedding \('<pad>' is number 258, and the "
        r"embedding has 258 rows: vocab_size in config\.json\)",
    ),
}


def cut(tensors, rows):
    return {name: tensors[name][:rows].clone() for name in ("model.embed_tokens.weight", "lm_head.weight")}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_that_do_not_fill_their_config_are_refused(mine, case):
    damage, sentence = MISFITS[case]
    damage(mine)
    assert re.search(sentence, said(mine))


def sharded(folder, shards=2):
    """Bring a folder's weights into several files; return their names."""
    tensors = load_file(folder / WEIGHTS)
    names = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    places = {tensor: names[i % shards] for i, tensor in enumerate(tensors)}
    for name in names:
        save_file({t: tensors[t] for t in places if places[t] == name}, folder / name, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / WEIGHTS).unlink()
    return names


DAMAGED = {
    "cut in the header": (
        WEIGHTS,
        lambda raw: raw[:500],
        r"model\.safetensors \(500 bytes\) is cut off, or no safetensors",
    ),
    "cut in the body": (
        WEIGHTS,
        lambda raw: raw[:-10],
        r"model\.safetensors \(\d+ bytes\) is cut off, .* not fully cov",
    ),
    "empty": (WEIGHTS, lambda raw: b"", r"model\.safetensors \(0 bytes\) is cut off"),
    "a pointer": (
        WEIGHTS,
        lambda raw: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        r"is cut off, or no",
    ),
    "a damaged index": (INDEX, lambda raw: raw[:100], r"index\.json is damaged \(it has no JSON weight_map\)"),
    "an index of something else": (INDEX, lambda raw: b'{"weight_map": []}', r"is damaged \(it has no JSON weight_map"),
    "an index of no file": (INDEX, lambda raw: b'{"weight_map": {}}', r"index\.json names no file"),
    "no index": (
        INDEX,
        lambda raw: None,
        rf"expected {re.escape(INDEX)} beside the parts of the weights and found none",
    ),
    "a shard is missing": (
        "model-00002-of-00002.safetensors",
        lambda raw: None,
        r"names model-00002-of-00002\.safetensors",
    ),
    "a shard is cut off": (
        "model-00002-of-00002.safetensors",
        lambda raw: raw[:-1],
        r"model-00002-of-\S+ .* is cut off",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_weight_files_are_refused(mine, case):
    name, damage, sentence = DAMAGED[case]
    if name != WEIGHTS:
        sharded(mine)
    content = damage((mine / name).read_bytes())
    (mine / name).unlink()
    if content is not None:
        (mine / name).write_bytes(content)
    line = said(mine)
    assert re.match(rf"mine: .*{sentence}", line)
    assert line.endswith("; take config.json, tokenizer and weights whole and from one place")


def test_what_fits_is_staged_however_it_was_saved(mine):
    """In shards; tied, without the second name; without the prefix; with what the language model does without."""
    configure(mine, tie_word_embeddings=True)
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
        "v_head.summary.weight": torch.zeros(1, 32),
        "vision_tower.patch.weight": torch.zeros(3),
    }
    weights(mine, lambda t: {name.removeprefix("model."): x for name, x in no("lm_head")(t).items()} | extra)
    sharded(mine)
    done, out = stage("model", "m", {"source": {"type": "local", "path": "mine"}}, mine.parent, forked=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert artifacts.payload(out, "model_lock")["layers"] == 4
    told = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    # Of rotary frequencies Transformers itself says nothing.
    unused = "v_head.summary.weight, vision_tower.patch.weight"
    assert told == [f"note: mine: {unused} have no place in LlamaForCausalLM and are not used"]
    model, _ = loading.load(out, dtype="fp32")
    assert torch.equal(model.lm_head.weight, load_file(next(mine.glob("*1-of-00002*")))["embed_tokens.weight"])


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_passes_with_its_own_names_and_fails_without_a_layer(tmp_path, family):
    """Also where a checkpoint's names are older than the model's, as those of Mixtral's experts."""
    convert.random_model({"config": {"model_type": family, **FAMILIES[family]}}, tmp_path / "m")
    weights_check.check_model(tmp_path / "m", **OURS)
    weights(tmp_path / "m", no(r"\.2\..*(q_proj|qkv|query_key_value)"))
    with pytest.raises(UserError, match=r"mine: .* that the files lack \(\S+\.2\.\S+"):
        weights_check.check_model(tmp_path / "m", **OURS)


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        (r"layers\.1.*experts\.3\.", r"other shapes than the files \(\S+experts\.down_proj: 4 × 32 × 48, found 3 × 32"),
        (
            r"layers\.1.*experts\.3\.w1",
            r"become model\.layers\.1\.mlp\.experts\.gate_up_proj of .* do not fit together",
        ),
        (r"layers\.1.*experts", r"lack \(model\.layers\.1\.mlp\.experts\.down_proj, \S+gate_up_proj\)"),
    ],
)
def test_a_lost_expert_is_noticed(tmp_path, lost, sentence):
    convert.random_model({"config": {"model_type": "mixtral", **FAMILIES["mixtral"]}}, tmp_path / "m")
    weights(tmp_path / "m", no(lost))
    with pytest.raises(UserError, match=sentence) as raised:
        weights_check.check_model(tmp_path / "m", **OURS)
    assert "\n" not in str(raised.value)


def test_old_checkpoints_masks_are_no_other_weights(tmp_path):
    """GPT-J's causal masks were saved once; its class no longer knows them."""
    convert.random_model({"config": {"model_type": "gptj", **FAMILIES["gptj"]}}, tmp_path / "m")
    masks = {f"transformer.h.0.attn.{name}": torch.zeros(1, 1, 4, 4) for name in ("bias", "masked_bias")}
    weights(tmp_path / "m", lambda tensors: {**tensors, **masks})
    weights_check.check_model(tmp_path / "m", **OURS)


def test_quantised_weights_are_held_to_their_modules(tmp_path):
    """As bitsandbytes saves them: other shapes, with companions; whole layers must be there all the same."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = {**LLAMA, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    convert.random_model({"config": config}, tmp_path / "m")
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", quantization_config=quantised, dtype=torch.float32)
    model.save_pretrained(tmp_path / "m")
    weights_check.check_model(tmp_path / "m", **OURS)
    configure(tmp_path / "m", num_hidden_layers=1)
    with pytest.raises(UserError, match=r"no place in it \(model\.layers\.1\.input_layernorm"):
        weights_check.check_model(tmp_path / "m", **OURS)
    configure(tmp_path / "m", num_hidden_layers=3)
    with pytest.raises(UserError, match=r"lack \(model\.layers\.2\.input_layernorm"):
        weights_check.check_model(tmp_path / "m", **OURS)
    configure(tmp_path / "m", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UserError, match=r"quantization_config: expected plain .* found 'gptq'; take the unquantised"):
        weights_check.check_model(tmp_path / "m", **OURS)


def test_140_gigabytes_take_seconds_and_little_memory(tmp_path):
    """Headers alone are read: the files are holes, of 70 billion parameters."""
    from transformers import AutoConfig, AutoModelForCausalLM

    large = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8}
    config = AutoConfig.for_model("llama", **large, intermediate_size=28672, vocab_size=128256)
    config.save_pretrained(tmp_path)
    convert.byte_tokenizer().save_pretrained(tmp_path)
    with torch.device("meta"):
        shapes = {name: list(t.shape) for name, t in AutoModelForCausalLM.from_config(config).state_dict().items()}
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    described = json.dumps(header).encode()
    with (tmp_path / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(described)) + described)
        file.truncate(8 + len(described) + offset)
    assert (tmp_path / WEIGHTS).stat().st_size > 140e9
    peak = re.compile(r"VmHWM:\s+(\d+) kB")
    before, started = int(peak.search(Path("/proc/self/status").read_text())[1]), time.process_time()
    weights_check.check_model(tmp_path, **OURS)
    assert time.process_time() - started < 30
    assert int(peak.search(Path("/proc/self/status").read_text())[1]) - before < 500_000


# From the hub, and from an older version


def online(server):
    return {"forked": True, "HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}


@pytest.mark.slow
def test_a_wrong_repository_is_refused_before_the_first_byte_of_its_weights(mine, tmp_path):
    entry = {"source": {"type": "hub", "id": "them/tiny"}}
    advice = "; the repository's files are wrong, so choose another revision or repository in the registry"
    configure(mine, num_hidden_layers=9)
    with Hub({"them/tiny": {path.name: path.read_bytes() for path in mine.iterdir()}}) as server:
        line = refused("model", "tiny", entry, tmp_path, **online(server))
        assert line.startswith("model them/tiny: the weights are not those of the LlamaForCausalLM that")
        assert line.endswith(advice)
        assert server.requests(WEIGHTS) == []
        # Where the hub does not serve pieces of a file, all must come first; it stays for a better config.
        server.whole_only = True
        assert refused("model", "tiny", entry, tmp_path, **online(server)) == line
        assert len(server.requests(WEIGHTS)) == 1
        configure(mine, num_hidden_layers=4)
        server.repositories["them/tiny"]["config.json"] = (mine / "config.json").read_bytes()
        assert staged("model", "tiny", entry, tmp_path, **online(server))["layers"] == 4
        assert len(server.requests(WEIGHTS)) == 1
    names = sharded(mine)
    files = {path.name: path.read_bytes() for path in mine.iterdir()}
    with Hub({"them/tiny": {name: raw for name, raw in files.items() if name != names[1]}}) as server:
        line = refused("model", "other", entry, tmp_path, **online(server))
        assert line == f"model them/tiny: {INDEX} names {names[1]}, not among the files{advice}"
        assert server.requests(names[0]) == []


def test_what_an_older_version_staged_is_checked_too(mine, tmp_path, monkeypatch):
    """Its folder is kept only if it is right, and its lock is not believed by what loads the model."""
    configure(mine, num_hidden_layers=5)
    entry = {"source": {"type": "local", "path": "mine"}}
    with monkeypatch.context() as older:
        older.setattr(weights_check, "check_model", lambda *_args, **_words: None)
        staged("model", "m", entry, tmp_path, forked=True)
    lock = tmp_path / "resources" / "models" / "m.lock.json"
    for options in ({}, {"quantization": "nf4"}):
        with pytest.raises(
            UserError, match=r"m: expected weights for each parameter .* for 9 \(model\.layers\.4\.\S+, …"
        ):
            loading.load(lock, dtype="fp32", **options)
    configure(mine, num_hidden_layers=4, hidden_size=48)
    shutil.copy(mine / "config.json", lock.parent / "m" / "config.json")
    monkeypatch.setattr("aletheia.provenance.staged_files.checked_folder", lambda *_given: lock.parent / "m")
    with pytest.raises(
        UserError, match=r"none of the right shape for 39 \(lm_head\.weight, …\), which would be random"
    ):
        loading.load(lock, dtype="fp32")
    shutil.rmtree(lock.parent)
    configure(mine, num_hidden_layers=5, hidden_size=32)
    with monkeypatch.context() as older:
        older.setattr(weights_check, "check_model", lambda *_args, **_words: None)
        staged("model", "m", entry, tmp_path, forked=True)
    lock.unlink()
    done, _ = stage("model", "m", entry, tmp_path, forked=True)
    assert (done.returncode, lock.exists()) == (2, False)
    assert "it has parameters that the files lack (model.layers.4." in done.stderr


def test_an_adapter_beside_a_model_is_not_taken():
    """Transformers would lay it over the model."""
    names = ["config.json", WEIGHTS, "adapter_config.json", "adapter_model.safetensors"]
    assert repository_files.model_files(names, "it") == ["config.json", WEIGHTS]
