"""The benchmarks of a step run: on tiny shapes, as a GPU would run them, and the parts of a step add up."""

import json
import os
import subprocess
import sys

import pytest

from conftest import ROOT

PARTS = """
import json, sys
sys.path[:0] = ["benchmarks", "workflow/scripts"]
import torch
from bench_step import bound_side, loop_sides, step_ratios
from gpu_probe import TINY, random_model
from gpu_training import MODELS, random_batch
from profiles import step_parts
from run import interleaved, ratio

model = random_model({**MODELS["llama-3.1-8b"], **TINY, "num_hidden_layers": 2, "vocab_size": 960}, torch.device("cpu"))
batches = [random_batch(960, 3, 80, seed) for seed in range(10)]
sides = {**loop_sides(model, batches, dtype="bf16", rank=4), "bound": bound_side(model, batches, dtype="bf16")}
seconds = interleaved(sides, rounds=2)
print(json.dumps([step_ratios(seconds, ratio), step_parts(sides["step"], rank=4, vocabulary=960)]))
"""


def printed(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_step_has_a_bound_and_parts_that_add_up():
    ratios, parts = json.loads(printed("-c", PARTS).splitlines()[-1])
    assert {"step / bound", "plain / step", "step / bare", "plain / linears", "plain / rows"} <= ratios.keys()
    assert ratios["step / bound"]["ratio"] > 1
    assert sum(parts.values()) == pytest.approx(1)
    assert {"wide", "narrow", "head", "attention", "elementwise", "optimiser", "copies"} <= parts.keys()


@pytest.mark.slow
def test_the_gpu_benchmark_of_training_runs_on_tiny_shapes():
    text = printed("benchmarks/gpu_training.py", "--tiny", "--models", "llama-3.1-8b", "--rounds", "2")
    found = json.loads(text[text.index("{") :])["llama-3.1-8b"]
    assert {"all / last_half", "all, checkpointing / last_half, checkpointing"} <= found["ratios"].keys()
    assert "all / last_half" in found["ratios_plain"]
    assert "plain / linears" in found["joins"]
    assert found["launches"] == dict.fromkeys(found["launches"])  # counted on a GPU alone
    assert found["prefix_last_half"]["rounds"] == 2
