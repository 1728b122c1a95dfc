"""What tests of evaluation share: a tiny model and questions, staged with locks, and the plain harness beside ours."""

from __future__ import annotations

import fcntl
import json

import pytest
import yaml

from aletheia.evaluation import evaluate as evaluation
from aletheia.evaluation import evaluated_run
from aletheia.evaluation.evaluate import LoadedModel
from aletheia.provenance import artifacts
from aletheia.staging.convert import random_model
from conftest import ROOT, run_script
from ledgers import sealed

SUBJECTS = ["abstract_algebra", "anatomy"]
MMLU = [
    {
        "id": f"q/{i}",
        "question": f"What is {i} plus {i}?",
        "choices": [str(2 * i + d) for d in range(4)],
        "answer": i % 4,
        "subject": SUBJECTS[i % 2],
        "source_row": i,
    }
    for i in range(7)
]
GSM8K = [{"id": f"g/{i}", "question": f"{i} + 1?", "answer": f"It is\n#### {i + 1}"} for i in range(3)]
HUMANEVAL = [
    {
        "id": f"HumanEval/{i}",
        "task_id": f"HumanEval/{i}",
        "prompt": f"def add{i}(x):\n",
        "entry_point": f"add{i}",
        "canonical_solution": f"    return x + {i}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {1 + i}\n",
    }
    for i in range(3)
]
# The likelier choice and the one that is likelier a character often differ: the second is always the longer one.
PIQA = [
    {
        "id": f"piqa/{i}",
        "question": f"keep {'very ' * i}warm ",
        "choices": [f"coat {i}", f"a thick coat {'of wool ' * i}"],
        "answer": i % 2,
        "source_row": i,
    }
    for i in range(6)
]
OPENBOOKQA = [
    {
        "id": f"openbookqa/{i}",
        "question": f"A {'very ' * i}warm day is",
        "choices": [f"hot {i}", "a day", f"a day {'and a day ' * i}off", "cold"],
        "answer": i % 4,
        "source_row": i,
    }
    for i in range(5)
]
KINDS = {"model": "models", "data": "data"}
# One is cut, one is as long as the limit, the others end before it.
PASSAGES = [{"id": f"passage/{i}", "text": "It is warm. " * n} for i, n in enumerate((1, 2, 3, 5))]
PASSAGES.insert(1, {"id": "passage/whole", "text": "x" * 24})
ROWS = [{"instruction": f"Say {i}.", "input": "", "output": "number " * (i + 1)} for i in range(5)]
CONFIG = {
    "model": {"dtype": "fp32", "quantization": None, "attention": None},
    "encoding": {"prompt": "alpaca", "max_tokens": 256, "loss_on": "response"},
    "evaluation": {
        "benchmarks": ["heldout", "mmlu", "gsm8k", "humaneval", "piqa", "openbookqa", "retention"],
        "batch_size": 4,
        "prompt": "plain",
        "time_limit_seconds": None,
        "heldout": {"rows": 4, "split": "heldout"},
        "mmlu": {"questions": "mmlu", "num_fewshot": 0},
        "gsm8k": {"questions": "gsm8k", "num_fewshot": 0, "max_new_tokens": 8},
        "humaneval": {"questions": "humaneval", "max_new_tokens": 8, "sandbox": "rlimits"},
        "piqa": {"questions": "piqa", "num_fewshot": 0},
        "openbookqa": {"questions": "openbookqa", "num_fewshot": 0},
        "retention": {"passages": "retention", "rows": 5, "max_tokens": 24},
    },
}


def data_lock(folder, name, **files):
    """Stage rows as ``folder/name/FILE.jsonl`` with a lock."""
    (folder / name).mkdir(parents=True)
    for stem, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / f"{stem}.jsonl").write_text(text, encoding="utf-8")
    content = artifacts.folder_files(folder / name)
    payload = {
        "data": name,
        "source": {"type": "local", "path": "test"},
        "revision": None,
        "files": {k: {**v, "rows": len(files[k.removesuffix(".jsonl")])} for k, v in content.items()},
        "format": "rows" if "train" in files else name,
        "licence": None,
    }
    return sealed(folder / f"{name}.lock.json", "data_lock", payload)


def model_lock(folder, name="tiny"):
    """Stage a random model with a tokenizer of bytes."""
    config = {"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {"num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 1024}
    (folder / name).mkdir(parents=True)
    random_model({"config": config, "seed": 0, "tokenizer": "bytes"}, folder / name)
    payload = {
        "model": name,
        "source": {"type": "random", "config": config, "seed": 0},
        "revision": None,
        "files": artifacts.folder_files(folder / name),
        "parameters": 1,
        "layers": 2,
        "family": "llama",
        "licence": None,
    }
    return sealed(folder / f"{name}.lock.json", "model_lock", payload)


def run_json(folder, *, status="ok", files=None, model="tiny", **facts):
    """Write a run's artifact, which says how the run ended and what files its adapter has, and further facts."""
    reason = None if status == "ok" else "the loss is not finite"
    payload = {"status": status, "reason": reason, "model": model, "arm": "ale", "seed": 42, "step": 1}
    payload |= {"steps": 1, "dtype": "fp32", "quantization": None, "eval_loss": None, "train_loss": []}
    payload |= {"final_train_loss": None, "trainable_parameters": None, "placement": None, "tokens": None}
    payload |= {
        "gradient_checkpointing": False,
        "skipped_steps": 0,
        "batch_plan_sha256": None,
        "adapter": {"files": files or {}},
    }
    return sealed(folder / "run.json", "run", payload | facts)


def lock_of(kind, name, folder):
    """Return the lock of a registry's model or data, staged before or now, once for all workers; only read it.

    ``folder`` is one of this worker's own.
    """
    lock = ROOT / "resources" / KINDS[kind] / f"{name}.lock.json"
    if lock.is_file():
        return lock
    # Workers' folders stand beside each other; the first that comes stages, the others wait for it.
    of_worker = next((parent for parent in folder.parents if parent.name.startswith("popen-")), None)
    shared = of_worker.parent / "staged" if of_worker else folder
    lock = shared / KINDS[kind] / lock.name
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.with_suffix(".turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not lock.is_file():
            entry = yaml.safe_load((ROOT / "config" / f"{KINDS[kind]}.yaml").read_text(encoding="utf-8"))[name]
            section = f"config:{kind}={json.dumps(entry)}"
            done = run_script("stage.py", kind, name, "--out", lock, "--lineage", section, HF_HUB_OFFLINE="0")
            assert done.returncode == 0, done.stderr
    return lock


@pytest.fixture(scope="session")
def staged(tmp_path_factory):
    """Return the locks of a tiny model, its data and the questions and passages of all benchmarks; only read them."""
    folder = tmp_path_factory.mktemp("staged")
    return {
        "model": model_lock(folder),
        "data": data_lock(folder, "docs", train=ROWS, heldout=ROWS),
        "mmlu": data_lock(folder, "mmlu", questions=MMLU),
        "gsm8k": data_lock(folder, "gsm8k", questions=GSM8K),
        "humaneval": data_lock(folder, "humaneval", questions=HUMANEVAL),
        "piqa": data_lock(folder, "piqa", questions=PIQA),
        "openbookqa": data_lock(folder, "openbookqa", questions=OPENBOOKQA),
        "retention": data_lock(folder, "retention", passages=PASSAGES),
    }


@pytest.fixture
def loaded(staged):
    """Return the tiny model, loaded anew for each test."""
    model, tokenizer = evaluated_run.load_model(staged["model"], None, dtype="fp32", section=CONFIG["model"])
    return LoadedModel(model, tokenizer, 4)


def evaluate(loaded, name, staged, **changes):
    """Return a benchmark's outcome; ``changes`` go into the section ``evaluation``."""
    config = {**CONFIG, "evaluation": {**CONFIG["evaluation"], **changes}}
    lock = staged["data" if name == "heldout" else name]
    return evaluation.evaluate(loaded, name, lock, config=config)


def script_arguments(staged, out, *, run=None, config=CONFIG):
    """Return the arguments with which a rule starts evaluate_run.py."""
    sections = [f"config:{name}={json.dumps(section)}" for name, section in config.items()]
    benchmarks = config["evaluation"]["benchmarks"]
    return [
        *("--model-lock", staged["model"], "--data-lock", staged["data"]),
        *("--run", *([run] if run else []), "--precision"),
        *("--questions", *(staged[b] for b in benchmarks if b != "heldout")),
        *("--outputs", out / f"{benchmarks[0]}.json", "--lineage", *sections),
    ]


def likelihoods(samples):
    """Return each sample's log-likelihoods, one a choice."""
    return [[float(response[0][0]) for response in sample["resps"]] for sample in samples]


def definition(name, path, **settings):
    """Return a task as a file that the command line reads: its questions by the datasets library."""
    from aletheia.evaluation.harness_tasks import task_config

    config = task_config(name, path, **settings)
    del config["custom_dataset"]
    config["dataset_kwargs"] = {"data_files": {"test": str(path)}, "cache_dir": str(path.parents[1] / "datasets")}
    return config


def plain_harness(loaded, name, questions, **changes):
    """Return the samples of a plain HFLM on the same task definition."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from aletheia.evaluation.harness_tasks import TASKS, local_task, task_config

    config = task_config(name, questions, **changes)
    lm = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=loaded.batch_size)
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    task, size = local_task(config), loaded.batch_size
    done = simple_evaluate(lm, tasks=[task], task_manager=manager, bootstrap_iters=0, batch_size=size)
    return sorted(done["samples"][config["task"]], key=lambda s: s["doc_id"]), done["results"][config["task"]]
