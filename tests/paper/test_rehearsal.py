"""The paper's study with stand-ins for its models: the same runs, the same families and depths, on a CPU."""

import copy
import functools
import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from aletheia.method.layers import adaptable_layers
from aletheia.provenance import artifacts
from aletheia.staging import convert
from aletheia.study.load import load_study
from aletheia.study.schema import read_yaml
from conftest import ROOT, copy_project, said, snakemake
from evaluations import model_lock
from ledgers import sealed
from loops import BF16, FP16, FP32, trained

MODELS = {name: entry for name, entry in read_yaml(ROOT / "config/models.yaml").items() if "stand_in" in entry}
# What the registry's families are called by transformers; Mixtral is Mistral's in table 1.
KINDS = {
    "Qwen": "qwen2",
    "TinyLlama": "llama",
    "StableLM": "stablelm",
    "Phi": "phi3",
    "GPT-J": "gptj",
    "Mistral": "mistral",
    "Llama": "llama",
    "GPT-NeoX": "gpt_neox",
    "SmolLM": "llama",
    "Yi": "llama",
    "OLMo": "olmo",
}
CLUSTER = ("--configfile", "tests/cluster/config.yaml")


def loaded(path, **changes):
    """Return a study as loaded in the project's folder."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return load_study({**read_yaml(Path(path)), **changes})
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def rehearsal():
    return loaded("config/rehearsal.yaml")


@pytest.fixture(scope="module")
def paper():
    """The paper's 81 rows: its study without the closeout."""
    return loaded("config/paper.yaml", campaigns=["config/campaigns/campaign1.yaml", "config/campaigns/campaign2.yaml"])


def stand_in(name, folder):
    """Stage a model's stand-in and load it as the registry says: in 4 bits where its model is."""
    convert.random_model(MODELS[name]["stand_in"], folder)
    options = {}
    if MODELS[name]["quantization"]:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True, **options).eval()


# The stand-ins


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_stand_in_has_its_models_family_and_layers_and_runs(name, tmp_path):
    entry = MODELS[name]
    model = stand_in(name, tmp_path / "m")
    kind = "mixtral" if name == "mixtral-8x7b" else KINDS[entry["family"]]
    assert model.config.model_type == kind
    assert model.config.num_hidden_layers == entry["layers"] == len(adaptable_layers(model))
    assert convert.count_parameters(tmp_path / "m") < 5e6
    four_bits = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    assert bool(four_bits) is (entry["quantization"] == "nf4")
    batch = AutoTokenizer.from_pretrained(tmp_path / "m")("Stand in!", return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
    assert logits.shape == (1, 9, 259)
    assert torch.isfinite(logits).all()


def test_experts_and_shared_keys_are_the_models():
    shapes = {name: entry["stand_in"]["config"] for name, entry in MODELS.items()}
    mixtral = shapes["mixtral-8x7b"]
    assert (mixtral["num_local_experts"], mixtral["num_experts_per_tok"]) == (8, 2)
    # As the models' own configurations have it.
    own_keys = {"stablelm-2-1.6b", "phi-3.5-mini", "smollm2-1.7b", "olmo-7b-0724"}
    for name, shape in shapes.items():
        if "num_key_value_heads" in shape:
            shared = shape["num_key_value_heads"] < shape["num_attention_heads"]
            assert shared is (name not in own_keys), name
    tied = {name for name, shape in shapes.items() if shape.get("tie_word_embeddings")}
    assert tied == {"qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "smollm2-1.7b"}


@pytest.mark.slow
def test_pythias_stand_in_diverges_in_fp16_as_the_model_did_and_trains_otherwise(tmp_path):
    layers = range(0, MODELS["pythia-1.4b"]["layers"], 2)
    convert.random_model(MODELS["pythia-1.4b"]["stand_in"], tmp_path / "m")
    found = {}
    for dtype in (FP16, BF16, FP32):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
        _, found[dtype] = trained(layers, model=model, dtype=dtype)
    assert found[FP16].status == "diverged"
    assert found[FP16].reason.startswith("the loss of step 1 is not finite; first not finite: the output of gpt_neox.")
    for dtype in (BF16, FP32):
        assert (found[dtype].status, len(found[dtype].losses)) == ("ok", 4), found[dtype].reason


# The study that is made of them


def test_the_rehearsal_has_the_papers_runs(rehearsal, paper):
    """So its rows are the paper's: 30 pairs and 51 runs, 111 rows of the ledger from 99 trainings."""
    assert list(rehearsal.runs) == list(paper.runs)
    assert (len(rehearsal.runs), len(rehearsal.used_models())) == (99, 15)
    assert rehearsal.campaign_index() == paper.campaign_index()
    assert rehearsal.evaluated_runs() == paper.evaluated_runs()
    assert rehearsal.used_data() == paper.used_data()
    assert {key: run.arm_settings for key, run in rehearsal.runs.items()} == {
        key: run.arm_settings for key, run in paper.runs.items()
    }


def test_only_sources_settings_and_data_differ_from_the_papers(rehearsal, paper):
    assert len(MODELS) == 18
    assert set(rehearsal.used_models()) == set(paper.used_models()) <= set(MODELS)
    for name in MODELS:
        entry = rehearsal.models[name]
        assert entry["source"]["type"] == "random"
        assert entry["source"]["config"] == MODELS[name]["stand_in"]["config"]
        # Nobody has published a score of random weights.
        own = ("source", "licence", "gated", "published_scores")
        kept = {key: value for key, value in paper.models[name].items() if key not in own}
        assert {key: value for key, value in entry.items() if key != "source"} == kept
    assert all(entry["source"]["type"] != "hub" for entry in rehearsal.data.values())
    for key, run in rehearsal.runs.items():
        training = run.settings["training"]
        assert training["steps"] == 4
        assert training["optimizer"] == paper.runs[key].settings["training"]["optimizer"]
    # What the campaigns set for single models stands above the rehearsal's settings, the registry's batch size below.
    large = rehearsal.runs["llama-3.1-70b", "std", 42].settings["training"]
    assert (large["batch_size"], large["gradient_checkpointing"]) == (2, True)
    assert paper.runs["llama-3.1-70b", "std", 42].settings["training"]["batch_size"] == 1


def test_the_papers_study_has_nothing_of_a_rehearsal():
    assert not {"stand_ins", "rehearsal"} & set(read_yaml(ROOT / "config/paper.yaml"))
    assert not {"stand_ins", "rehearsal"} & set(read_yaml(ROOT / "config/config.yaml"))


# What the rehearsal looks at


@pytest.fixture(scope="module")
def program():
    """The program that rehearses."""
    spec = importlib.util.spec_from_file_location("rehearse", ROOT / "tests" / "cluster" / "rehearsal.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


# What a rehearsal measures where nothing is amiss: 15 models at three seeds, 99 runs, the evaluations of these and of
# the 15 base models; 58 evaluations write programs.
SCRIPTS = {
    **{"batches": 45, "probe": 45, "select": 54, "train": 99, "evaluate": 114, "score_code": 58},
    **{"aggregate": 1, "stats": 1, "figures": 7},
}
MEASURED = {
    "jobs": 45 + 114 + 58 + 1 + 1 + 7,
    "rows": {
        **{"RESULTS_MASTER.csv": 30, "RESULTS_CAMPAIGN2.csv": 51, "ledger.csv": 111},
        "status": {"qwen2.5-3b: ok": 105, "pythia-1.4b: diverged": 6},
    },
    "seconds": {"stage": 60.0, "dry_run": 4.0, "campaigns": 2400.0},
    "controller_processor_seconds_a_job": 0.1,
    "steps": {step: {"scripts": n, "starts": n} for step, n in SCRIPTS.items()},
}


def test_a_rehearsal_that_did_what_the_study_needs_has_no_fault(program):
    rehearsal = program.study(ROOT)
    assert program.loads(rehearsal) == {"evaluate": 114, "probe": 45, "train": 99}
    assert program.faults(MEASURED, rehearsal) == []


@pytest.mark.parametrize(
    ("place", "more", "sentence"),
    [
        (("steps", "probe"), {"starts": 46, "scripts": 46}, "starts of probe: expected 45, found 46"),
        (("steps", "select"), {"starts": 55}, "scripts that were started again: expected [], found ['select']"),
        ((), {"jobs": 227}, "jobs: expected 226, found 227"),
        (("seconds",), {"dry_run": 6.0}, "seconds of the dry run: expected at most 5, found 6.00"),
        (
            ("rows", "status"),
            {"qwen2.5-3b: crashed": 1},
            "runs that did not end well: expected {'pythia-1.4b: div",
        ),
    ],
)
def test_what_is_amiss_in_a_rehearsal_is_one_sentence(program, place, more, sentence):
    measured = copy.deepcopy(MEASURED)
    functools.reduce(dict.__getitem__, place, measured).update(more)
    (found,) = program.faults(measured, program.study(ROOT))
    assert found.startswith(sentence)


def test_a_folder_that_serves_no_cluster_is_one_sentence_and_stays_free(program, tmp_path, monkeypatch, capsys):
    """The path of its sockets would be too long. This needs no SLURM, which is looked for first."""
    folder = tmp_path / ("x" * 80)
    monkeypatch.setattr(program, "lacking", lambda: None)
    monkeypatch.setattr(program.importlib.util, "find_spec", lambda _name: True)
    monkeypatch.setattr("sys.argv", ["rehearsal.py", str(folder)])
    with pytest.raises(SystemExit) as raised:
        program.main()
    assert raised.value.code == 2
    assert re.search(r"error: the folder's path may have 70 characters, \S+ has \d+\n$", capsys.readouterr().err)
    assert not folder.exists()


@pytest.mark.parametrize(("name", "count"), [("gsm8k", 24), ("gsm8k_examples", 5)])
def test_the_word_problems_are_solved_rightly(name, count):
    lines = (ROOT / f"config/rehearsal/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(set(lines)) == count
    for line in lines:
        answer = json.loads(line)["answer"]
        steps = re.findall(r"<<([-+*/() 0-9]+)=(\d+)>>(\d+)", answer)
        assert steps
        # Arithmetic alone, as the pattern says.
        assert all(eval(term) == int(value) == int(said) for term, value, said in steps)
        assert answer.splitlines()[-1] == f"#### {steps[-1][1]}"


@pytest.mark.slow
def test_a_staged_model_is_not_replaced_by_a_stand_in(tmp_path):
    folder = copy_project(tmp_path / "project")
    models = folder / "resources/models"
    models.mkdir(parents=True)
    payload = artifacts.payload(model_lock(models, "mixtral-8x7b"), "model_lock")
    hub = {**payload, "source": {"type": "hub", "id": "mistralai/Mixtral-8x7B-v0.1"}}
    path = sealed(models / "mixtral-8x7b.lock.json", "model_lock", hub)
    before = path.read_bytes()
    done = snakemake(folder, *CLUSTER)
    assert done.returncode == 1
    assert "expected none, or a stand-in's, found a model of type hub; run a study of stand-ins in a checkout" in said(
        done
    )
    assert path.read_bytes() == before
