"""What is written for each tool: the same placement, the same numbers, and in words what the tool does otherwise."""

import ast
import re

import pytest
import yaml

from aletheia.errors import UserError
from aletheia.exports.formats import WRITERS, exported
from aletheia.exports.llamafactory_export import dataset_info
from aletheia.method.adapters import placed_modules
from aletheia.training.prompts import render
from choices import choice_of
from conftest import FAMILIES, tiny_model

ALTERNATING = {"keep": lambda name: "q_proj" not in name or ".1." in name}
# Keys that all four spell alike.
SAME = (
    *("max_steps", "learning_rate", "warmup_steps", "max_grad_norm", "adam_beta2", "adam_epsilon", "bf16", "seed"),
    "gradient_accumulation_steps",
)
MIXED = {"modules": ["v_proj", "down_proj"], "rank": {"v_proj": 4, "down_proj": 8}}


def defined(script):
    """Return what the constants and functions of an exported script are, without running its training."""
    tree = ast.parse(script)
    wanted = [n for n in tree.body if not (isinstance(n, ast.ImportFrom) and n.module in ("trl", "unsloth"))]
    wanted = [n for n in wanted if not (isinstance(n, ast.Assign) and "SFTConfig" in ast.unparse(n.value))]
    found = {"__name__": "exported"}
    exec(compile(ast.Module(wanted, []), "exported", "exec"), found)
    return found


def keywords(script, called):
    """Return the keyword arguments of the one call of a function in a script."""
    calls = [n for n in ast.walk(ast.parse(script)) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith(called)]
    (call,) = calls
    return {each.arg: ast.unparse(each.value) for each in call.keywords}


def placed(config, family="llama"):
    from peft import get_peft_model

    return placed_modules(get_peft_model(tiny_model(family), config))


@pytest.mark.parametrize("tool", WRITERS)
def test_each_file_says_where_it_came_from_and_what_is_otherwise(tool):
    text = exported(choice_of(), tool)
    assert f"# Written by `aletheia export --for {tool}` from model llama, arm ale, seed 7:" in text
    assert "#   results/run.json (sha256 " + "a" * 64 + ")" in text
    assert "# Layers 1-2 of 3 (chosen by gradient), 14 modules, rank 4, alpha 8." in text
    assert f"# What {tool} does otherwise than that run:\n# - " in text
    yaml.safe_load(text) if text.rstrip().endswith("ale-seed7") else ast.parse(text)


@pytest.mark.parametrize("rank", [4, {"attention": 2, "mlp": 6}])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_python_for_peft_places_what_the_run_placed_in_every_family(family, rank):
    choice = choice_of(family, [0, 2], rank=rank)
    assert placed(defined(exported(choice, "peft"))["adapter"], family) == choice.modules


@pytest.mark.parametrize("changes", [ALTERNATING, MIXED, {**MIXED, "rank": 4, "alpha": {"v_proj": 4, "mlp": 2}}])
@pytest.mark.parametrize("tool", ["peft", "trl"])
def test_uneven_modules_ranks_and_alphas_are_placed_as_they_were(tool, changes):
    choice = choice_of(layers=[0, 1, 2], **changes)
    assert placed(defined(exported(choice, tool))["adapter"]) == choice.modules


@pytest.mark.parametrize("changes", [{}, ALTERNATING, MIXED])
def test_the_keys_of_axolotl_make_peft_place_the_same(changes):
    """As its loader hands them on (axolotl/loaders/adapter.py, _build_peft_lora_config)."""
    from peft import LoraConfig

    choice = choice_of(layers=[0, 1], **changes)
    keys = yaml.safe_load(exported(choice, "axolotl"))
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=keys["lora_r"],
        lora_alpha=keys["lora_alpha"],
        target_modules=keys["lora_target_modules"],
        layers_to_transform=keys.get("peft_layers_to_transform"),
        rank_pattern=keys.get("lora_rank_pattern", {}),
    )
    assert placed(config) == choice.modules
    # Layers by number where each has the same modules, full names where not.
    assert ("peft_layers_to_transform" in keys) is (changes is not ALTERNATING)


@pytest.mark.parametrize("changes", [{}, ALTERNATING])
def test_the_keys_of_llamafactory_make_peft_place_the_same(changes):
    from peft import LoraConfig

    choice = choice_of(layers=[0, 1], **changes)
    keys = yaml.safe_load(exported(choice, "llamafactory"))
    targets = [name.strip() for name in keys["lora_target"].split(",")]
    config = LoraConfig(r=keys["lora_rank"], lora_alpha=keys["lora_alpha"], target_modules=targets)
    assert placed(config) == choice.modules


def test_the_arguments_for_unsloth_make_peft_place_the_same():
    from peft import LoraConfig

    choice = choice_of(layers=[0, 2])
    given = keywords(exported(choice, "unsloth"), "get_peft_model")
    assert given.pop("model") == "model"
    assert given["layers_to_transform"] == "LAYERS"
    config = LoraConfig(
        r=ast.literal_eval(given["r"]),
        lora_alpha=ast.literal_eval(given["lora_alpha"]),
        target_modules=ast.literal_eval(given["target_modules"]),
        layers_to_transform=defined(exported(choice, "unsloth"))["LAYERS"],
    )
    assert placed(config) == choice.modules


@pytest.mark.parametrize("tool", ["trl", "axolotl", "llamafactory", "unsloth"])
def test_rate_schedule_batches_precision_and_seed_are_the_runs(tool):
    training = {"batch_size": 3, "accumulation": 5, "schedule": "linear", "warmup_steps": 9, "max_grad_norm": 0.5}
    text = exported(choice_of(training=training), tool)
    given = keywords(text, "SFTConfig") if tool in ("trl", "unsloth") else yaml.safe_load(text)
    common = {key: given[key] for key in SAME}
    values = {key: ast.literal_eval(each) if isinstance(each, str) else each for key, each in common.items()}
    assert values == {
        **{"max_steps": 90, "learning_rate": 2e-3, "warmup_steps": 9, "max_grad_norm": 0.5, "adam_beta2": 0.95},
        **{"adam_epsilon": 1e-7, "bf16": True, "seed": 7, "gradient_accumulation_steps": 5},
    }
    assert str(given.get("lr_scheduler_type", given.get("lr_scheduler"))).strip("'") == "linear"
    assert str(given.get("per_device_train_batch_size", given.get("micro_batch_size"))) == "3"
    assert str(given.get("max_length") or given.get("sequence_len") or given.get("cutoff_len")) == "256"


def test_a_run_on_4_bits_stays_one():
    choice = choice_of(quantization="nf4")
    assert 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"' in exported(choice, "trl")
    assert keywords(exported(choice, "unsloth"), "from_pretrained")["load_in_4bit"] == "True"
    axolotl, factory = (yaml.safe_load(exported(choice, tool)) for tool in ("axolotl", "llamafactory"))
    assert (axolotl["adapter"], axolotl["load_in_4bit"]) == ("qlora", True)
    assert (factory["quantization_bit"], factory["quantization_type"]) == (4, "nf4")
    assert "mlx_lm.convert -q" in exported(choice, "mlx")


@pytest.mark.parametrize("prompt", ["alpaca", "plain"])
@pytest.mark.parametrize("row", [{"input": "that"}, {"input": ""}, {"input": None}, {}])
def test_a_script_words_a_row_as_the_run_did(prompt, row):
    row = {"instruction": "Do {this}.", "output": "Done.", **row}
    example = defined(exported(choice_of(prompt=prompt), "trl"))["example"](row)
    text, spans, _ = render(row, None, prompt)
    assert example["prompt"] + example["completion"] == text
    assert len(example["prompt"]) == spans[0][0]


def test_a_script_keeps_conversations_and_texts():
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    chat = defined(exported(choice_of(chat=True), "trl"))
    assert chat["example"]({"messages": turns}) == {"prompt": turns[:2], "completion": turns[2:]}
    templated = defined(exported(choice_of(prompt="chat"), "trl"))["example"]
    assert templated({"instruction": "a", "input": "b", "output": "c"}) == {
        "prompt": [{"role": "user", "content": "a\n\nb"}],
        "completion": [{"role": "assistant", "content": "c"}],
    }
    text = exported(choice_of(prompt="text"), "trl")
    assert defined(text)["example"]({"output": "all of it"}) == {"text": "all of it"}
    assert "completion_only_loss" not in keywords(text, "SFTConfig")


def test_axolotl_gets_the_words_of_the_prompt():
    (rows,) = yaml.safe_load(exported(choice_of(), "axolotl"))["datasets"]
    row = {"instruction": "Do this.", "input": "that", "output": ""}
    assert rows["type"]["format"].format(**row) == render(row, None, "alpaca")[0]
    assert rows["type"]["no_input_format"].format(**row) == render({**row, "input": ""}, None, "alpaca")[0]
    (chat,) = yaml.safe_load(exported(choice_of(chat=True), "axolotl"))["datasets"]
    assert (chat["type"], chat["field_messages"]) == ("chat_template", "messages")


def test_llamafactory_gets_a_description_of_the_rows():
    assert dataset_info(choice_of())["rows"]["columns"] == {
        **{"prompt": "instruction", "query": "input", "response": "output"}
    }
    assert dataset_info(choice_of(chat=True))["rows"]["formatting"] == "sharegpt"
    text = exported(choice_of(prompt="text"), "llamafactory")
    assert yaml.safe_load(text)["stage"] == "pt"


def test_mlx_gets_the_last_layers_and_the_scale_of_the_run():
    plain = yaml.safe_load(exported(choice_of(training={"accumulation": 4, "warmup_steps": 10}), "mlx"))
    assert (plain["num_layers"], plain["lora_parameters"]["rank"], plain["lora_parameters"]["scale"]) == (2, 4, 2.0)
    assert "self_attn.q_proj" in plain["lora_parameters"]["keys"]
    # Iterations are micro-batches, steps of the schedule are the optimiser's.
    assert (plain["iters"], plain["lr_schedule"]["warmup"]) == (360, 10)
    assert plain["lr_schedule"]["arguments"] == [2e-3, 80]
    rslora = yaml.safe_load(exported(choice_of(adapter={"scaling": "rslora"}), "mlx"))
    assert rslora["lora_parameters"]["scale"] == 4.0
    assert "lr_schedule" not in yaml.safe_load(exported(choice_of(training={"schedule": "constant"}), "mlx"))


@pytest.mark.parametrize(
    ("tool", "changes", "sentence"),
    [
        ("mlx", {"layers": [0, 2]}, "--for mlx: the run adapts layers 0, 2 of 3, with a gap; mlx-lm adapts the same"),
        ("mlx", {"layers": [0, 1]}, "--for mlx: the run adapts layers 0, 1 of 3, with a gap"),
        ("mlx", ALTERNATING, "--for mlx: the run adapts other modules in some layers than in others"),
        (
            "mlx",
            {"family": "mixtral"},
            "--for mlx: the run adapts other modules in some layers than in others, or fused",
        ),
        ("mlx", MIXED, "--for mlx: the run's adapters have several ranks or alphas"),
        ("llamafactory", MIXED, "LLaMA-Factory takes one lora_rank and one lora_alpha"),
        (
            "llamafactory",
            {"family": "mixtral"},
            "LLaMA-Factory adapts modules alone, and this run adapts fused experts",
        ),
    ],
)
def test_what_a_tool_cannot_express_is_refused_with_what_it_can(tool, changes, sentence):
    with pytest.raises(UserError) as refused:
        exported(choice_of(**{"layers": [1, 2], **changes}), tool)
    assert sentence in str(refused.value)
    assert re.search(r"; (train an arm|export for)|export for", str(refused.value))


def test_a_run_in_bf16_can_go_on_where_there_is_no_gpu():
    script = exported(choice_of(), "trl")
    assert "use_cpu=not torch.accelerator.is_available()" in script
    assert "import torch\n" in script
    assert "add use_cpu: true" in exported(choice_of(), "llamafactory")
    assert "use_cpu" not in exported(choice_of(dtype="fp32"), "trl")


def test_the_second_format_is_trls_and_has_one_rank():
    keys = yaml.safe_load(exported(choice_of(), "trl", yaml=True))
    assert (keys["use_peft"], keys["lora_r"], keys["model_revision"]) == (True, 4, "c0ffee")
    assert set(keys["lora_target_modules"]) == set(choice_of().modules)
    with pytest.raises(UserError, match="`trl sft` takes one rank and one alpha"):
        exported(choice_of(**MIXED), "trl", yaml=True)
    with pytest.raises(UserError, match="peft has one format"):
        exported(choice_of(), "peft", yaml=True)


def test_what_no_trainer_has_is_said():
    training = {
        **{"optimizer": {"loraplus_lr_ratio": 16}, "warmup_from": "first_step", "gradient_checkpointing": True},
        "layers_active": {"every": 5, "count": 1},
    }
    said = " ".join(exported(choice_of(training=training), "trl").replace("\n#  ", "").split())
    for part in ("16 times the rate of A (LoRA+)", "first step has the rate 0", "(LISA)", "not end at layer 1"):
        assert part in said
    axolotl = exported(choice_of(training=training), "axolotl")
    assert yaml.safe_load(axolotl)["loraplus_lr_ratio"] == 16
    assert "LoRA+" not in axolotl
