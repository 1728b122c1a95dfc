"""The examples, run as a reader runs them: each script in a process of its own, the notebook cell by cell."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, SCRIPTS, said
from own_data import bring_own_data

EXAMPLES = ROOT / "examples"
NOTEBOOK = json.loads((EXAMPLES / "own_model.ipynb").read_text("utf-8"))
# One that starts with it is the shell's; the names in braces are Python's.
SHELL = "!"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a model, rows and passages."""
    return bring_own_data(tmp_path_factory.mktemp("a reader's place"))


def environment(place):
    """Return the environment of a reader's shell, with this checkout's library and caches of its own."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": programs, "PYTHONPATH": str(SCRIPTS), "HF_HOME": str(place / "cache")}


def code_cells():
    return ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_holds_no_outputs_and_begins_with_what_a_reader_sets():
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in cells] == [([], None)] * len(cells)
    first = ast.parse("".join(cells[0]["source"])).body
    assert [node.targets[0].id for node in first] == ["MODEL", "DATA", "OUT", "OPTIONS", "QUESTION"]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["choose_layers.py", "sft_trainer.py"])
def test_a_script_adapts_half_of_the_layers_and_lowers_the_held_out_loss(script, place):
    out = place / script.removesuffix(".py")
    words = [EXAMPLES / script, "model", "rows.jsonl", "--steps", "4", "--rate", "0.02", "--out", out]
    done = subprocess.run(
        [sys.executable, *words], cwd=place, env=environment(place), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, said(done)[-3000:]
    layers = ast.literal_eval(re.search(r"^adapters in layers (\[.*\]) of 4$", done.stdout, re.MULTILINE)[1])
    before, after = map(float, re.search(r"loss before (\d+\.\d+), after (\d+\.\d+) \(n", done.stdout).groups())
    assert after < before
    adapted = json.loads((out / "adapter_config.json").read_text("utf-8"))["target_modules"]
    assert {int(name.split(".")[2]) for name in adapted} == set(layers)
    assert len(layers) == 2
    assert (out / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_the_probes_batches_are_what_trl_trains_on(place, monkeypatch, tmp_path):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    spec = importlib.util.spec_from_file_location("sft_trainer", EXAMPLES / "sft_trainer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in (place / "rows.jsonl").read_text("utf-8").splitlines()][:8]
    rows = Dataset.from_list([module.example(row) for row in rows])
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    settings = SFTConfig("out", max_length=64, bf16=False, use_cpu=True)  # shorter than some rows
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype="float32")
    theirs = SFTTrainer(model, settings, train_dataset=rows, processing_class=tokenizer).train_dataset
    (ours,) = module.probe_batches(rows, tokenizer, size=8, max_tokens=64)
    real = ours["attention_mask"].bool()
    for key in ("input_ids", "labels"):
        assert [values[mask].tolist() for values, mask in zip(ours[key], real, strict=True)] == list(theirs[key])


@pytest.mark.slow
def test_the_notebook_goes_from_rows_to_an_answer_of_the_adapted_model(place, monkeypatch):
    first, *others = code_cells()
    monkeypatch.chdir(place)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {}
    exec(first, names)
    assert {name for name in names if name.isupper()} == {"MODEL", "DATA", "OUT", "OPTIONS", "QUESTION"}
    options = "--search none --retention passages.jsonl --cores 1"
    names |= {"MODEL": "model", "DATA": "rows.jsonl", "OUT": "my study", "OPTIONS": options}
    for cell in others:
        if cell.startswith(SHELL):
            command = cell.removeprefix(SHELL).format_map(names)
            done = subprocess.run(
                command, shell=True, env=environment(place), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, said(done)[-3000:]
        else:
            exec(cell, names)
    assert set(names["arms"]) == {"std", "ale"}
    assert len(names["axes"].get_yticklabels()) == 2
    recommended = names["summary"]["recommended"]
    assert type(names["model"]).__name__ == ("PeftModelForCausalLM" if recommended else "LlamaForCausalLM")
    assert isinstance(names["answer"], str)
