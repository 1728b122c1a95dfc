"""The code digest follows imports, and only those."""

import json

import pytest

from aletheia import lineage
from aletheia.cli import step_parser
from aletheia.errors import UserError


def test_a_script_reaches_what_it_imports_at_any_depth():
    code = lineage.code_digests("train.py")
    assert {
        "train.py",
        "aletheia.runs",
        "aletheia.training",
        "aletheia.adapters",
        "aletheia.models",
        "aletheia.layers",
    } <= set(code)


@pytest.mark.parametrize(
    ("script", "foreign"),
    [
        ("probe.py", {"aletheia.training", "aletheia.runs", "aletheia.evaluation", "aletheia.figures"}),
        ("train.py", {"aletheia.probe", "aletheia.evaluation", "aletheia.figures", "aletheia.staging"}),
        ("select_layers.py", {"aletheia.probe", "aletheia.training", "aletheia.data", "aletheia.models"}),
        ("evaluate_run.py", {"aletheia.training", "aletheia.figures", "aletheia.sandbox", "aletheia.serving"}),
        ("generate.py", {"aletheia.training", "aletheia.figures", "aletheia.sandbox"}),
        ("score_code.py", {"aletheia.training", "aletheia.harness", "aletheia.models"}),
        ("stats.py", {"aletheia.training", "aletheia.models", "aletheia.figures"}),
        ("figures.py", {"aletheia.training", "aletheia.models"}),
        ("aggregate.py", {"aletheia.training", "aletheia.models", "aletheia.figures"}),
    ],
)
def test_a_step_does_not_depend_on_another_steps_module(script, foreign):
    # Else an edit of the one would rerun the other.
    assert not foreign & set(lineage.code_digests(script))


def test_params_name_module_and_section():
    assert lineage.code_params("select_layers.py")["code_aletheia_selection"].startswith("code:aletheia.selection=")
    tokens = ["code:aletheia.x=ab", "env:envs/gpu.yaml=cd", 'config:training={"steps":3,"name":"a=b"}']
    assert lineage.parse_tokens(tokens) == {
        "code": {"aletheia.x": "ab"},
        "env": {"envs/gpu.yaml": "cd"},
        "config": {"training": {"steps": 3, "name": "a=b"}},
    }


def test_settings_by_hand_start_from_the_defaults():
    parser = step_parser("train", None, sections=("training", "arm", "model"))
    args = parser.parse_args(["--set", "training.steps=3", "arm.layers=last"])
    assert args.config["training"]["steps"] == 3
    assert args.config["training"]["optimizer"]["beta2"] == 0.95
    assert args.config["arm"] == {"layers": "last", "budget_percent": 50, "score": "l2", "draw": 0}
    assert args.config["model"] == {
        "dtype": "bf16",
        "quantization": None,
        "attention": None,
        "learning_rate_scale": 1,
        "prompt": "plain",
        "gpus": 1,
    }


def test_settings_by_hand_go_over_those_of_the_rule():
    parser = step_parser("train", None)
    section = json.dumps({"steps": 3, "optimizer": {"beta1": 0.9}})
    args = parser.parse_args(["--lineage", f"config:training={section}", "--set", "training.optimizer.beta1=0.8"])
    assert args.config == {"training": {"steps": 3, "optimizer": {"beta1": 0.8}}}
    with pytest.raises(UserError, match=r"SECTION\.KEY=VALUE"):
        parser.parse_args(["--set", "steps=3"])
