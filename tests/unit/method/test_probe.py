"""The one-pass probe against the plain formula: however batches go through, 4-bit weights, the sketch.

test_families.py has every family.
"""

import argparse
import copy
import difflib
import math
import re
import textwrap
from pathlib import Path

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method import gradient_norms
from aletheia.method.layers import layer_index
from aletheia.method.probe import probe_layers
from aletheia.method.probe_record import Probe, probe_payload
from aletheia.provenance.artifacts import payload
from conftest import FAMILIES, random_batch, run_script, tiny_model
from evaluations import lock_of
from four_bit import dequantised, in_4_bits

TOGETHER = 10**6


def chunked_probe(model, batches, *, layers=3, chunk=2):
    """Return (l2, sum_of_norms) a layer by the paper's plain algorithm: chunks of layers, one pass for each."""
    l2, sums = [0.0] * layers, [0.0] * layers
    for start in range(0, layers, chunk):
        inside = range(start, min(start + chunk, layers))
        for name, p in model.named_parameters():
            p.requires_grad_(layer_index(name) in inside)
        for batch in batches:
            model(**batch).loss.backward()
            for layer in inside:
                norms = [p.grad.norm().item() for n, p in model.named_parameters() if layer_index(n) == layer]
                l2[layer] += math.sqrt(sum(n * n for n in norms))
                sums[layer] += sum(norms)
            model.zero_grad()
    return l2, sums


def answers(sequences, tokens, seed, prompt):
    """A batch whose first ``prompt`` tokens are no targets."""
    batch = random_batch(sequences, tokens, seed)
    batch["labels"][:, :prompt] = -100
    return batch


BATCHES = {
    "singles": [random_batch(1, 12, seed) for seed in range(3)],
    "uneven": [answers(1, 9, 0, 4), answers(1, 14, 1, 0), random_batch(1, 16, 2, padding=5)],
    "pairs": [random_batch(2, 12, 0, padding=2), answers(2, 15, 1, 6)],
}


def scores_equal(probe, reference, rel=1e-5):
    l2, sums = reference
    assert probe.scores("l2") == pytest.approx(l2, rel=rel)
    assert probe.scores("sum_of_norms") == pytest.approx(sums, rel=rel)


@pytest.mark.parametrize("tokens", [1, TOGETHER], ids=["alone", "together"])
@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("family", ["llama", "gptj", "mixtral"])
def test_scores_equal_the_plain_algorithm(family, kind, tokens):
    batches = BATCHES[kind]
    probe = probe_layers(tiny_model(family), batches, tokens_per_pass=tokens)
    scores_equal(probe, chunked_probe(tiny_model(family), batches))
    losses = [tiny_model(family)(**batch).loss.item() for batch in batches]
    assert probe.losses == pytest.approx(losses, rel=1e-5)
    assert len(probe.norms) == len(batches)
    assert sum(probe.scores("normalized")) == pytest.approx(1)


@pytest.mark.parametrize("penalty", [0, math.inf], ids=["gram", "direct"])
@pytest.mark.parametrize("tokens", [1, TOGETHER], ids=["alone", "together"])
def test_both_forms_of_the_norm_equal_the_plain_algorithm(penalty, tokens, monkeypatch):
    monkeypatch.setattr(gradient_norms, "GRAM_PENALTY", penalty)
    monkeypatch.setattr(gradient_norms, "BLOCK_TOKENS", 5)
    monkeypatch.setattr(gradient_norms, "PART_NUMBERS", 100)
    probe = probe_layers(tiny_model("qwen2"), BATCHES["uneven"], tokens_per_pass=tokens)
    scores_equal(probe, chunked_probe(tiny_model("qwen2"), BATCHES["uneven"]))


def test_the_cheaper_form_is_taken():
    def form(tokens, inputs, outputs, dtype=torch.float32):
        norms = gradient_norms.GradientNorms(method="exact")
        x, g = torch.zeros(1, tokens, inputs, dtype=dtype), torch.zeros(1, tokens, outputs, dtype=dtype)
        return norms._prefers_gram(x, g)

    assert form(128, 576, 576)
    assert form(128, 576, 1536)
    assert not form(512, 576, 576)
    assert not form(512, 64, 64)
    assert form(512, 4096, 14336)
    # 16-bit sums on a CPU are rounded to 16 bits.
    assert not form(128, 576, 576, torch.bfloat16)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", [*FAMILIES, "gpt2", "falcon", "qwen3_5_text"])
def test_gradient_checkpointing_changes_nothing(family, reentrant):
    model = tiny_model(family)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    passed = []
    model.get_submodule(layer_path(model, 1)).register_forward_hook(lambda *_: passed.append(1))
    probe = probe_layers(model, BATCHES["singles"])
    assert passed
    scores_equal(probe, chunked_probe(tiny_model(family), BATCHES["singles"]))


def layer_path(model, index):
    return next(n for n, _ in model.named_modules() if re.fullmatch(rf"\w+\.(?:layers|h)\.{index}", n))


def saved_numbers(call):
    """How many numbers a call saves for its backward passes."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        call()
    return sum(kept)


def test_checkpointing_recomputes_what_a_tap_reads():
    held = {}
    for checkpointing in (False, True):
        model = tiny_model()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        held[checkpointing] = saved_numbers(lambda model=model: probe_layers(model, BATCHES["singles"]))
    assert held[True] < held[False] / 4


def test_a_loss_with_the_routers_own_term_is_kept():
    model = tiny_model("mixtral")
    model.config.output_router_logits = True
    probe = probe_layers(model, BATCHES["singles"])
    scores_equal(probe, chunked_probe(copy.deepcopy(model), BATCHES["singles"]))


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_norm_weights_of_zero(family):
    model = tiny_model(family)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layernorm.weight" in name:
                p[::2] = 0
    probe = probe_layers(model, BATCHES["uneven"], tokens_per_pass=TOGETHER)
    scores_equal(probe, chunked_probe(copy.deepcopy(model), BATCHES["uneven"]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [1, TOGETHER], ids=["alone", "together"])
def test_16_bit_weights(dtype, tokens):
    rounded = tiny_model().to(dtype)
    probe = probe_layers(rounded, BATCHES["uneven"], tokens_per_pass=tokens)
    scores_equal(probe, chunked_probe(copy.deepcopy(rounded).float(), BATCHES["uneven"]), rel=2e-2)


def test_a_model_spread_by_device_map():
    from accelerate import dispatch_model

    model = tiny_model()
    places = dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"), "cpu")
    places |= {f"model.layers.{i}": "cpu" for i in range(3)}
    spread = dispatch_model(model, places, main_device="cpu", force_hooks=True)
    assert spread.model.layers[0]._hf_hook
    probe = probe_layers(spread, BATCHES["uneven"])
    assert probe.scores() == probe_layers(tiny_model(), BATCHES["uneven"]).scores()


def test_relative_divides_by_the_weights():
    model = tiny_model()
    probe = probe_layers(model, [random_batch(1, 12, 0)])
    for layer, score in enumerate(probe.scores("relative")):
        weights = [p for n, p in model.named_parameters() if layer_index(n) == layer]
        norm = math.sqrt(sum(p.norm().item() ** 2 for p in weights))
        assert score == pytest.approx(probe.scores("l2")[layer] / norm, rel=1e-5)


def test_padding_does_not_count():
    model = tiny_model()
    plain, padded = random_batch(1, 12, 0), random_batch(1, 16, 0, padding=4)
    padded["input_ids"][:, :12], padded["labels"][:, :12] = plain["input_ids"], plain["labels"]
    assert probe_layers(model, [padded]).scores() == pytest.approx(probe_layers(model, [plain]).scores(), rel=1e-5)


@pytest.mark.parametrize("method", ["exact", "sketch"])
def test_same_batches_same_scores_bit_for_bit(method):
    batches = [random_batch(2, 12, 5)]
    again = [probe_layers(tiny_model(), batches, method=method).scores() for _ in range(2)]
    assert again[0] == again[1]


def count_hooks(model):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]


@pytest.mark.parametrize("family", ["llama", "mixtral"])
@pytest.mark.parametrize("method", ["exact", "sketch"])
def test_the_model_is_left_as_it_was_found(family, method):
    model = tiny_model(family).train()
    model.activation_checkpointing_enable()
    model.model.layers[0].eval()
    names = dict(model.named_parameters())
    names["model.layers.1.self_attn.q_proj.weight"].requires_grad_(False)
    kept = names["model.layers.0.self_attn.q_proj.weight"]
    kept.grad = torch.ones_like(kept)
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in names.items()}
    modes, hooks = [m.training for m in model.modules()], count_hooks(model)
    config, generator = model.config.to_dict(), torch.get_rng_state()
    probe_layers(model, BATCHES["singles"], method=method)
    assert [m.training for m in model.modules()] == modes
    assert model.config.to_dict() == config
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(kept.grad, torch.ones_like(kept))
    assert count_hooks(model) == hooks
    for name, p in model.named_parameters():
        weights, flag = before[name]
        assert torch.equal(p, weights)
        assert p.requires_grad is flag
        assert p is kept or p.grad is None
        assert not p._post_accumulate_grad_hooks


def test_a_gradient_that_is_not_finite_is_a_status():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("inf")
    batches = [random_batch(1, 12, 0)]
    taken = probe_payload(probe_layers(model, batches), model, dtype="fp32")
    assert taken["status"] == "diverged"
    assert taken["reason"].startswith("batch 0: gradient of model.layers.")
    assert taken["scores"]["l2"] is None


def test_one_batch_that_is_not_finite_leaves_the_others_theirs():
    model = tiny_model()
    with torch.no_grad():
        model.model.embed_tokens.weight[95] = float("nan")
    batches = [random_batch(1, 12, seed) for seed in range(3)]
    for batch in batches:
        batch["input_ids"][batch["input_ids"] == 95] = 1
    batches[1]["input_ids"][0, 3] = 95
    probe = probe_layers(model, batches, tokens_per_pass=TOGETHER)
    assert probe.failure.startswith("batch 1: gradient of model.layers.0.")
    assert all(map(math.isfinite, probe.norms[0].values()))
    assert all(map(math.isfinite, probe.norms[2].values()))


def test_bad_requests_are_one_sentence():
    model, batch = tiny_model(), random_batch(1, 12, 0)
    with pytest.raises(UserError, match="at least one batch"):
        probe_layers(model, [])
    with pytest.raises(UserError, match="expected one of exact, sketch"):
        probe_layers(model, [batch], method="guess")
    with pytest.raises(UserError, match="expected one of l2"):
        Probe([], {}, [], 0).scores("l3")
    ids = batch["input_ids"]
    for bad, says in (
        (batch, "expected a list of dicts .*, found str in it"),
        ([batch, ids], "expected a list of dicts .*, found Tensor in it"),
        ([batch, {"input_ids": ids}], "batch 1: expected .*, found no labels; labels are the input_ids, with -100"),
        ([{**batch, "labels": ids.tolist()}], "batch 0: expected labels as a tensor of shape .*, found list"),
        ([{**batch, "input_ids": ids[0]}], r"batch 0: expected input_ids as .*, found one of shape \(12,\)"),
        ([{**batch, "labels": torch.full_like(ids, -100)}], "batch 0: expected labels that are predicted, found -100"),
    ):
        with pytest.raises(UserError, match=says):
            probe_layers(model, bad)
    twice = tiny_model()
    twice.model.layers[1].mlp.up_proj = twice.model.layers[0].mlp.up_proj
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.up_proj\.weight: its module runs twice"):
        probe_layers(twice, [batch])
    assert not twice.model.layers[0].mlp.up_proj._forward_hooks
    model.model.layers[2].mlp.up_proj.weight = torch.nn.Parameter(torch.ones(64, 32, dtype=torch.int8), False)
    with pytest.raises(UserError, match=r"layers\.2\.mlp\.up_proj\.weight is torch\.int8; the probe expects"):
        probe_layers(model, [batch])
    with pytest.raises(UserError, match="is offloaded"):
        probe_layers(tiny_model().to("meta"), [batch])


PACKED = ["llama", "gpt_neox", "mixtral", "gpt2", "nemotron", "qwen3"]
OWN_WIDTHS = {"gpt2": {"n_embd": 128}, "qwen3": {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}}


# The gate of Qwen2-MoE's shared expert has one output, which bitsandbytes does not pack on a CPU.
@pytest.fixture(scope="module", params=[*PACKED, "qwen2_moe"])
def saved(request, tmp_path_factory):
    """A tiny model in a folder, wide enough for blocks of 64 and rows of 32."""
    wide = OWN_WIDTHS.get(request.param, {"hidden_size": 128, "intermediate_size": 192})
    folder = tmp_path_factory.mktemp(request.param)
    tiny_model(request.param, **wide).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_4_bit_weights_have_the_scores_of_their_values(saved, kind):
    model = in_4_bits(saved, kind)
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    assert sum(p.dtype == torch.uint8 for p in kept.values()) >= 12
    plain = dequantised(saved, model)
    probe = probe_layers(model, BATCHES["uneven"])
    scores_equal(probe, chunked_probe(plain, BATCHES["uneven"]), rel=1e-3)
    assert probe.scores("relative") == pytest.approx(
        probe_layers(plain, BATCHES["uneven"]).scores("relative"), rel=1e-3
    )
    assert all(torch.equal(p, kept[n]) for n, p in model.named_parameters())


@pytest.mark.parametrize("saved", PACKED, indirect=True)
def test_4_bit_weights_that_an_evaluation_has_laid_out_anew(saved):
    """Bitsandbytes does so on CPUs with AVX-512 bf16, and rounds their scales to bf16."""
    model = in_4_bits(saved)
    plain = dequantised(saved, model)
    with torch.no_grad():
        before = model(**BATCHES["uneven"][0]).logits
    probe = probe_layers(model, BATCHES["uneven"])
    scores_equal(probe, chunked_probe(plain, BATCHES["uneven"]), rel=2e-2)
    with torch.no_grad():
        assert torch.equal(model(**BATCHES["uneven"][0]).logits, before)


@pytest.mark.slow
def test_the_script_probes_4_bit_weights_by_either_method(finished, tmp_path):
    places = ["--model-lock", finished / "resources/models/tiny-llama.lock.json"]
    places += ["--data-lock", finished / "resources/data/rows.lock.json", "--seed", 1]
    settings = ["--set", "model.dtype=fp32", "model.quantization=nf4", "encoding.max_tokens=320", "probe.batches=3"]
    out = tmp_path / "probe.json"
    done = run_script("probe.py", *places, *settings, "probe.method=sketch", "--compare", "--out", out)
    assert done.returncode == 0, done.stderr
    taken = payload(out, "probe")
    assert (taken["quantization"], taken["method"], taken["status"]) == ("nf4", "sketch", "ok")
    assert taken["agreement"]["method"] == "exact"
    assert -1 <= taken["agreement"]["spearman"] <= 1
    assert any(name.endswith("q_proj.weight") for name in taken["per_module"][0])


@pytest.mark.slow
def test_the_script_probes_with_checkpointing_where_it_is_asked_to(finished, tmp_path):
    places = ["--model-lock", finished / "resources/models/tiny-llama.lock.json"]
    places += ["--data-lock", finished / "resources/data/rows.lock.json", "--seed", 1]
    settings = ["--set", "model.dtype=fp32", "encoding.max_tokens=320", "probe.batches=3"]
    scores, out = [], tmp_path / "probe.json"
    for asked in ("false", "true"):
        done = run_script("probe.py", *places, *settings, f"probe.gradient_checkpointing={asked}", "--out", out)
        assert done.returncode == 0, done.stderr
        assert ("checkpointing on" in done.stdout) == (asked == "true")
        scores.append(payload(out, "probe")["scores"]["l2"])
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


def test_the_sketch_is_an_adapters_gradient():
    """LoRA with B = 0 whose A are the sketch's signs: the norm of its B's gradient, over scale and √rank."""
    from peft import LoraConfig, get_peft_model

    linears = [n for n, m in tiny_model().named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    batch = random_batch(2, 12, 0, padding=3)
    probe = probe_layers(tiny_model(), [batch], method="sketch")
    rank, scale = gradient_norms.SKETCH_RANK, 2
    adapted = get_peft_model(tiny_model(), LoraConfig(r=rank, lora_alpha=scale * rank, target_modules=linears)).eval()
    for name in linears:
        module = adapted.get_submodule(f"base_model.model.{name}").lora_A["default"]
        module.weight.data = gradient_norms.signs(name, module.in_features)
    adapted(**batch).loss.backward()
    for name in linears:
        b = adapted.get_submodule(f"base_model.model.{name}").lora_B["default"].weight
        assert probe.norms[0][f"{name}.weight"] == pytest.approx(
            b.grad.norm().item() / (scale * math.sqrt(rank)), rel=1e-4
        )


def authors_scores(model, batches, layers):
    """What the authors' package gives: it draws its batches by a loader of its own, all of them here."""
    from aletheia_lora.probe import gradient_probe

    rows = [{key: batch[key][0] for key in ("input_ids", "attention_mask")} for batch in batches]
    found = gradient_probe(model, rows, layers, probe_batches=len(rows), chunk_size=8)
    return [found[layer] for layer in range(layers)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "phi3", "gptj", "stablelm"])
def test_sum_of_norms_is_the_authors_score(family):
    ours = probe_layers(tiny_model(family), BATCHES["singles"]).scores("sum_of_norms")
    assert ours == pytest.approx(authors_scores(tiny_model(family), BATCHES["singles"], 3), rel=1e-5)


@pytest.mark.slow
def test_smollm2_has_the_authors_scores(tmp_path):
    from aletheia.method.loading import load

    model, tokenizer = load(lock_of("model", "smollm2-135m", tmp_path), dtype="fp32")
    texts = [Path(module.__file__).read_text(encoding="utf-8") for module in (argparse, difflib, textwrap)]
    batches = []
    for text in texts:
        ids = torch.tensor(tokenizer(text)["input_ids"][:128])[None]
        batches.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()})
    exact, sketch = (probe_layers(model, batches, method=method) for method in ("exact", "sketch"))
    assert exact.scores("sum_of_norms") == pytest.approx(authors_scores(model, batches, 30), rel=1e-4)
    orders = [sorted(range(30), key=p.scores().__getitem__) for p in (exact, sketch)]
    assert len(set(orders[0][15:]) & set(orders[1][15:])) >= 14
