"""Adapters stand exactly where they were planned and start equally in every arm; test_families.py has every family."""

import os

import peft
import pytest
import torch

from aletheia.errors import UserError
from aletheia.method.adapters import attach, audit, lora_config, placed_modules, placement_plan, save_adapter
from aletheia.method.layers import adaptable_layers
from aletheia.provenance import artifacts
from aletheia.training.model_card import base_model, how_to_load
from conftest import random_batch, tiny_model


def plan_for(model, layers, **options):
    return placement_plan(adaptable_layers(model), layers, **options)


@pytest.mark.parametrize("family", ["llama", "phi3", "mixtral"])
def test_asymmetric_ranks_reach_the_modules(family):
    model = tiny_model(family)
    plan = plan_for(model, [1], rank={"attention": 2, "mlp": 6}, alpha={"attention": 4, "mlp": 12})
    placed = placed_modules(attach(model, plan, dropout=0, seed=1))
    for name, values in placed.items():
        assert values == ({"rank": 6, "alpha": 12} if ".mlp." in name else {"rank": 2, "alpha": 4})


@pytest.mark.parametrize(
    ("family", "modules", "kinds"),
    [
        ("llama", "attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("llama", ["v_proj", "o_proj", "down_proj"], {"v_proj", "o_proj", "down_proj"}),
        ("llama", ["mlp", "v_proj"], {"gate_proj", "up_proj", "down_proj", "v_proj"}),
        ("gpt_neox", "mlp", {"dense_h_to_4h", "dense_4h_to_h"}),
        ("mixtral", ["down_proj"], {"down_proj"}),
    ],
)
def test_modules_by_group_and_kind_carry_adapters_and_no_others(family, modules, kinds):
    model = tiny_model(family)
    plan = plan_for(model, [0, 2], modules=modules, rank=2, alpha=4)
    found = audit(attach(model, plan, dropout=0, seed=1), plan)
    assert {name.rpartition(".")[2] for name in found["modules"]} == kinds
    assert found["layers"] == [0, 2]


def test_a_kinds_own_rank_goes_before_its_groups():
    model = tiny_model()
    ranks = {"attention": 2, "v_proj": 8, "down_proj": 1}
    plan = plan_for(model, [1], modules=["attention", "down_proj"], rank=ranks, alpha={"attention": 4, "mlp": 6})
    placed = placed_modules(attach(model, plan, dropout=0, seed=1))
    by_kind = {name.rpartition(".")[2]: values for name, values in placed.items()}
    assert by_kind == {
        **{kind: {"rank": 2, "alpha": 4} for kind in ("q_proj", "k_proj", "o_proj")},
        "v_proj": {"rank": 8, "alpha": 4},
        "down_proj": {"rank": 1, "alpha": 6},
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"modules": ["dwon_proj"]},
            r"modules: expected a kind of the model's modules \(attention, mlp, down_proj, .*\)",
        ),
        ({"rank": {"attention": 2, "mlp": 2, "c_attn": 4}}, "rank: expected a kind of .*, found c_attn"),
        (
            {"alpha": {"attention": 2, "up_proj": 2}},
            "alpha: expected a number for gate_proj, or for mlp, found neither",
        ),
    ],
)
def test_a_kind_that_a_model_has_not_is_one_sentence(options, says):
    with pytest.raises(UserError, match=says):
        plan_for(tiny_model(), [0], **options)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_rslora_scales_by_the_square_root_of_each_rank_and_the_audit_holds_it(family):
    model = tiny_model(family)
    plan = plan_for(model, [1], rank={"attention": 4, "mlp": 16}, alpha=8)
    wrapped = attach(model, plan, dropout=0, seed=1, scaling="rslora")
    found = {
        module.r["default"]: module.scaling["default"] for module in wrapped.modules() if hasattr(module, "lora_A")
    }
    assert found == {4: pytest.approx(8 / 2), 16: pytest.approx(8 / 4)}
    with pytest.raises(
        UserError, match=r"expected adapters scaled by 2 \(standard, rank 4, alpha 8\), found 4; report"
    ):
        audit(wrapped, plan)
    assert lora_config(tiny_model(), [1], scaling="rslora", modules=["v_proj"]).use_rslora


def test_shared_modules_start_equally_whatever_else_is_adapted():
    def lora_a(layers):
        model = tiny_model()
        wrapped = attach(model, plan_for(model, layers), dropout=0, seed=7)
        return {n: p for n, p in wrapped.named_parameters() if ".lora_A." in n}

    everything, some = lora_a([0, 1, 2]), lora_a([0, 2])
    assert some
    assert all(torch.equal(p, everything[name]) for name, p in some.items())
    values = [p.flatten() for p in everything.values()]
    assert not torch.equal(values[0], values[1])


def test_an_adapter_changes_nothing_before_training():
    batch = random_batch(1, 8, 0)
    with torch.no_grad():
        before = tiny_model()(**batch).logits
        model = tiny_model()
        after = attach(model, plan_for(model, [1]), dropout=0, seed=0)(**batch).logits
    assert torch.equal(before, after)


def test_the_audit_sees_a_difference():
    model = tiny_model()
    plan = plan_for(model, [0])
    wrapped = attach(model, plan, dropout=0, seed=0)
    other = plan_for(tiny_model(), [0, 1])
    with pytest.raises(UserError, match="missing"):
        audit(wrapped, other)


def test_lora_config_for_a_practitioner():
    config = lora_config(tiny_model("gptj"), [1], rank=8)
    assert set(config.target_modules) == {
        f"transformer.h.1.{m}"
        for m in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj", "mlp.fc_in", "mlp.fc_out")
    }
    assert config.r == 8


def test_a_model_that_has_adapters_already_is_one_sentence():
    model = tiny_model()
    wrapped = peft.get_peft_model(model, lora_config(model, [1], rank=2))
    # PEFT changes the model that it is given, as when a cell of a notebook runs twice.
    for taken in (model, wrapped):
        with pytest.raises(UserError, match=r"q_proj\.base_layer: expected a model without adapters, found PEFT's"):
            lora_config(taken, [1], rank=2)
    assert lora_config(wrapped.unload(), [1], rank=2)


def test_a_layer_that_is_not_there():
    with pytest.raises(UserError, match="from 0 to 2"):
        plan_for(tiny_model(), [3])


def test_an_adapter_is_the_same_wherever_it_was_trained_and_others_can_read_it(tmp_path):
    """PEFT writes the path of the base model, and safetensors a file that only its owner can read."""
    from peft import PeftConfig, PeftModel

    model = tiny_model()
    plan, batch = plan_for(model, [0, 2], rank=4, alpha=8), random_batch(1, 8, seed=0)
    wrapped = attach(model, plan, dropout=0, seed=1).eval()
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    for place, umask in (("a", 0o022), ("b", 0o027)):
        before = os.umask(umask)
        try:
            wrapped.get_base_model().__dict__["name_or_path"] = str(tmp_path / place)
            save_adapter(wrapped, tmp_path / place, "card", base="them/tiny", revision="0" * 40)
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / place).iterdir()}
        assert modes == dict.fromkeys(modes, 0o666 & ~umask)
    assert artifacts.folder_files(tmp_path / "a") == artifacts.folder_files(tmp_path / "b")
    config = PeftConfig.from_pretrained(tmp_path / "a")
    assert (config.base_model_name_or_path, config.revision) == ("them/tiny", "0" * 40)
    # It loads without asking for that model.
    with torch.no_grad():
        expected = wrapped(**batch).logits
        again = PeftModel.from_pretrained(tiny_model(), tmp_path / "a").eval()
        assert torch.equal(again(**batch).logits, expected)


@pytest.mark.parametrize(
    ("source", "revision", "found", "said"),
    [
        (
            {"type": "hub", "id": "them/tiny"},
            "c0ffee",
            "them/tiny",
            'from_pretrained("them/tiny", revision="c0ffee")\n',
        ),
        ({"type": "local", "path": "/home/me/mine"}, None, "my-model", "from_pretrained(FOLDER)\n"),
        ({"type": "pypi", "package": "p"}, "1.0", "my-model", "from_pretrained(FOLDER)\n"),
    ],
)
def test_a_base_model_is_named_so_that_others_find_it(source, revision, found, said):
    files = {"config.json": {"sha256": "1" * 64}, "model.safetensors": {"sha256": "2" * 64}}
    lock = {"model": "my-model", "source": source, "revision": revision, "files": files}
    hub = source["type"] == "hub"
    assert base_model(lock) == {"base": found, "revision": revision if hub else None}
    section = how_to_load(lock)
    assert said in section
    assert (f"- `model.safetensors`: `{'2' * 64}`" in section) is not hub
    assert "/home/me" not in section
