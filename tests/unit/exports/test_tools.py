"""What is exported, read by each tool's own parser: its wheel, without what it depends on, in a process of its own."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aletheia.exports.formats import exported
from choices import choice_of
from conftest import missing

pytestmark = pytest.mark.slow

# What is installed for each tool, beside the packages of this project; without their dependencies.
WHEELS = {
    "axolotl": ["axolotl==0.19.0"],
    "llamafactory": ["llamafactory==0.9.5", "omegaconf==2.4.0", "antlr4-python3-runtime==4.9.3"],
    "mlx": ["mlx-lm==0.32.2", "mlx==0.32.4", "mlx-cpu==0.32.4"],
    "unsloth": ["unsloth==2026.10.9"],
}
# Each reads the file that is its argument, and prints what the tool made of it.
AXOLOTL = """
import sys, json, yaml
from axolotl.utils.schemas.config import AxolotlInputConfig
given = yaml.safe_load(open(sys.argv[1]))
assert set(given) <= set(AxolotlInputConfig.model_fields), set(given) - set(AxolotlInputConfig.model_fields)
print(json.dumps(AxolotlInputConfig(**given).model_dump(mode="json")))
"""
LLAMAFACTORY = """
import sys, json
sys.argv = sys.argv[:2]
from llamafactory.hparams.parser import _TRAIN_ARGS, _parse_args
from transformers import HfArgumentParser
parts = _parse_args(HfArgumentParser(_TRAIN_ARGS))
print(json.dumps({key: value for part in parts for key, value in vars(part).items()}, default=str))
"""
TRL = """
import sys, json
from trl import get_peft_config
from trl.scripts.sft import make_parser
_, training, model, data = make_parser().parse_args_and_config(["--config", sys.argv[1]])
adapter = get_peft_config(model)
print(json.dumps({
    **{"targets": sorted(adapter.target_modules), "rank": adapter.r, "alpha": adapter.lora_alpha},
    **{"rate": training.learning_rate, "steps": training.max_steps, "length": training.max_length},
    "rows": data.datasets[0].data_files,
}))
"""
MLX = """
import sys, json, types, yaml
import mlx.nn as nn
from mlx_lm.lora import CONFIG_DEFAULTS, build_schedule, linear_to_lora_layers, yaml_loader
from mlx_lm.models.llama import Model, ModelArgs
from mlx.utils import tree_flatten
given = yaml.load(open(sys.argv[1]), yaml_loader)
assert set(given) <= set(CONFIG_DEFAULTS), set(given) - set(CONFIG_DEFAULTS)
model = Model(ModelArgs.from_dict(json.loads(sys.argv[2])))
model.freeze()
linear_to_lora_layers(model, given["num_layers"], given["lora_parameters"])
shapes = {name: value.shape for name, value in tree_flatten(model.trainable_parameters())}
rate = build_schedule(given["lr_schedule"])
print(json.dumps({"shapes": shapes, "rates": [float(rate(step)) for step in range(91)]}))
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Return a function that brings a tool's wheel into a folder of its own."""

    def bring(tool):
        folder = tmp_path_factory.mktemp(tool)
        uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", sys.executable, "--no-deps"]
        done = subprocess.run(
            [*uv, "--target", str(folder), *WHEELS[tool]], capture_output=True, text=True, check=False
        )
        if done.returncode:
            missing(f"{tool} ({done.stderr.strip()[-200:]})", "run this test where there is a package index")
        return folder

    return bring


def read_by(folder, code, path, *words):
    environment = {**os.environ, "PYTHONPATH": str(folder), "DISABLE_VERSION_CHECK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def written(tool, tmp_path, **changes):
    path = tmp_path / f"{tool}.yaml"
    path.write_text(exported(choice_of(layers=[1, 2], **changes), tool), encoding="utf-8")
    return path


def test_trls_own_parser_takes_each_key_with_its_value(tmp_path):
    (tmp_path / "trl.yaml").write_text(exported(choice_of(dtype="fp32"), "trl", yaml=True), encoding="utf-8")
    own = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    read = read_by(os.pathsep.join(own), TRL, tmp_path / "trl.yaml")
    assert read["targets"] == sorted(choice_of().modules)
    assert (read["rank"], read["alpha"], read["rate"], read["steps"], read["length"]) == (4, 8, 2e-3, 90, 256)
    assert read["rows"] == "/data/rows/train.jsonl"


def test_axolotls_own_schema_takes_each_key_with_its_value(wheel, tmp_path):
    read = read_by(wheel("axolotl"), AXOLOTL, written("axolotl", tmp_path))
    assert read["peft_layers_to_transform"] == [1, 2]
    assert (read["lora_r"], read["learning_rate"], read["max_steps"], read["warmup_steps"]) == (4, 2e-3, 90, 20)
    assert read["datasets"][0]["type"]["no_input_format"].endswith("{instruction}\n\n### Response:\n")


def test_llamafactorys_own_parser_takes_each_key_with_its_value(wheel, tmp_path):
    read = read_by(wheel("llamafactory"), LLAMAFACTORY, written("llamafactory", tmp_path, dtype="fp32"))
    assert set(read["lora_target"]) == set(choice_of(layers=[1, 2]).modules)
    assert (read["lora_rank"], read["learning_rate"], read["max_steps"], read["cutoff_len"]) == (4, 2e-3, 90, 256)
    assert read["disable_gradient_checkpointing"] is True


def test_mlx_places_the_same_and_has_the_same_rates(wheel, tmp_path):
    from torch import nn, optim
    from transformers import get_scheduler

    sizes = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96, "rms_norm_eps": 1e-6}
    read = read_by(wheel("mlx"), MLX, written("mlx", tmp_path), json.dumps(sizes))
    placed = {name.removesuffix(".lora_a"): shape[1] for name, shape in read["shapes"].items() if "lora_a" in name}
    assert placed == {name: entry["rank"] for name, entry in choice_of(layers=[1, 2]).modules.items()}
    optimizer = optim.AdamW(nn.Linear(1, 1).parameters(), lr=2e-3)
    schedule = get_scheduler("cosine", optimizer, 20, 90)
    ours = []
    for _ in range(90):
        ours.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    # Its decay begins a step later than Trainer's, no more.
    assert max(abs(a - b) for a, b in zip(ours, read["rates"], strict=False)) < 2e-3 / 20


def test_unsloths_own_functions_have_each_argument(wheel):
    """It starts on a GPU alone, so its source is read: the parameters of the two functions that the script calls."""
    source = Path(wheel("unsloth"), "unsloth", "models")
    parameters = {}
    for file, function in (("loader.py", "from_pretrained"), ("llama.py", "get_peft_model")):
        tree = ast.parse((source / file).read_text(encoding="utf-8"))
        owners = [
            n for n in tree.body if isinstance(n, ast.ClassDef) and n.name in ("FastLanguageModel", "FastLlamaModel")
        ]
        (found,) = (n for n in ast.walk(owners[0]) if isinstance(n, ast.FunctionDef) and n.name == function)
        parameters[function] = {each.arg for each in found.args.args}
    script = ast.parse(exported(choice_of(layers=[1, 2]), "unsloth"))
    for function, known in parameters.items():
        calls = [n for n in ast.walk(script) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith(function)]
        assert {each.arg for each in calls[0].keywords} <= known
