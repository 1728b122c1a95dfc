"""Whole runs through train.py: equal arms, a kill and what follows, failures as rows, adapters that others can load."""

import hashlib
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import time

import pytest
import torch

from aletheia.provenance import artifacts
from aletheia.provenance.lineage import compact_json
from aletheia.training.batch_plan import first_batches
from conftest import SCRIPTS, run_script, said

FULL_DISK = "error: the disk is full; nothing half-written was kept, so free some space and run the same command again"
SETTINGS = ("encoding.max_tokens=320", "adapter.rank=2", "adapter.alpha=4", "training.batch_size=2")


def settings(*more, steps=6, dtype="fp32"):
    return ["--set", *SETTINGS, f"training.steps={steps}", "training.warmup_steps=1", f"model.dtype={dtype}", *more]


def arguments(finished, out, *more, model="tiny-llama"):
    places = ["--model-lock", finished / f"resources/models/{model}.lock.json"]
    places += ["--data-lock", finished / "resources/data/rows.lock.json", "--seed", 1]
    return [*places, "--out", out / "run.json", "--adapter", out / "adapter", *more]


def train(finished, out, *more, model="tiny-llama", **environment):
    done = run_script("train.py", *arguments(finished, out, *more, model=model), **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return artifacts.read(out / "run.json", "run")


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """Return the folder and envelope of an undisturbed run with dropout in all layers."""
    out = tmp_path_factory.mktemp("whole")
    events = ("--events", out / "events")
    return out, train(finished, out, *events, *settings("adapter.dropout=0.1", steps=40))


# --- the same work ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_arms_with_the_same_layers_are_bit_identical(finished, tmp_path, dtype):
    """Std by way of "all layers", ale by way of a selection that holds all of them, with the plan of another run."""
    places = ["--probe", finished / "results/probe/tiny-llama/seed1.json", "--seed", 1]
    chosen = ("--set", "arm.layers=gradient", "arm.budget_percent=100", "adapter.rank=2", "adapter.alpha=4")
    selected = run_script("select_layers.py", *places, *chosen, "--out", tmp_path / "selection.json")
    assert selected.returncode == 0, selected.stderr
    locks = arguments(finished, tmp_path)[:4]
    shape = ("batches.steps=9", "batches.batch_size=2", "encoding.max_tokens=320")
    drawn = run_script("draw_batches.py", *locks, "--seed", 1, "--set", *shape, "--out", tmp_path / "batches.json")
    assert drawn.returncode == 0, drawn.stderr
    own = settings("adapter.dropout=0.1", dtype=dtype)
    std = train(finished, tmp_path / "std", *own)["payload"]
    files = ("--selection", tmp_path / "selection.json", "--batches", tmp_path / "batches.json")
    ale = train(finished, tmp_path / "ale", *files, *own)["payload"]
    assert ale["train_loss"] == std["train_loss"]
    assert ale["eval_loss"] == std["eval_loss"]
    assert ale["batch_plan_sha256"] == std["batch_plan_sha256"]
    weights = [run["adapter"]["files"]["adapter_model.safetensors"] for run in (std, ale)]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_chosen_rate_trains_as_a_stated_one_does(finished, tmp_path):
    runs = {}
    for arm, rate in (("slow", 1e-4), ("fast", 5e-3)):
        named = settings("run.model=tiny-llama", f"run.arm={arm}", f"training.learning_rate={rate}")
        runs[arm] = train(finished, tmp_path / arm, *named)["payload"]
        assert (runs[arm]["learning_rate"], runs[arm]["rate_chosen_from"]) == (rate, None)
    trials = ("--trials", *(tmp_path / arm / "run.json" for arm in runs))
    chosen = settings("arm.learning_rate={best_of: [slow, fast]}")
    tuned = train(finished, tmp_path / "tuned", *trials, *chosen)["payload"]
    best = min(runs.values(), key=lambda run: run["eval_loss"])
    assert runs["slow"]["eval_loss"] != runs["fast"]["eval_loss"]
    assert tuned["learning_rate"] == best["learning_rate"]
    assert tuned["rate_chosen_from"] == {
        arm: {fact: run[fact] for fact in ("learning_rate", "eval_loss", "status")} for arm, run in runs.items()
    }
    assert tuned["train_loss"] == best["train_loss"]
    weights = [run["adapter"]["files"]["adapter_model.safetensors"] for run in (tuned, best)]
    assert weights[0] == weights[1]
    card = (tmp_path / "tuned/adapter/README.md").read_text()
    assert f"Peak learning rate: {best['learning_rate']:g}" in card


def test_the_arms_of_the_study_read_one_plan(finished):
    plan = artifacts.payload(finished / "results/batches/tiny-llama/seed1.json", "batches")
    runs = {
        arm: artifacts.read(finished / f"results/train/tiny-llama/{arm}/seed1/run.json") for arm in ("std", "ale", "cm")
    }
    assert (plan["steps"], runs["cm"]["payload"]["steps"]) == (12, 6)
    for run in runs.values():
        assert "results/batches/tiny-llama/seed1.json" in run["lineage"]["inputs"]
    assert runs["std"]["payload"]["batch_plan_sha256"] == runs["ale"]["payload"]["batch_plan_sha256"]
    rows = first_batches(plan, steps=6, seed=1, settings={"batch_size": 2, "accumulation": 2})
    assert runs["cm"]["payload"]["batch_plan_sha256"] == hashlib.sha256(compact_json(rows).encode()).hexdigest()
    # The first step of the longer arm has the same examples and the same starting values as ale's.
    assert runs["cm"]["payload"]["train_loss"][0] == runs["ale"]["payload"]["train_loss"][0]


def test_the_loss_at_the_end_of_a_run_is_that_of_its_evaluation(finished, whole):
    """The same rows at the same precision: eval_loss of run.json, and heldout_loss as evaluated later."""
    from peft import PeftModel

    from aletheia.evaluation import evaluate
    from aletheia.method import loading
    from aletheia.provenance import staged_files

    model, tokenizer = loading.load(finished / "resources/models/tiny-llama.lock.json", dtype="fp32")
    model = PeftModel.from_pretrained(model, whole[0] / "adapter").eval()
    folder = staged_files.checked_folder(finished / "resources/data/rows.lock.json")
    run = whole[1]["payload"]
    rows = staged_files.read_rows(folder / "heldout.jsonl")[: run["eval_rows"]]
    encoding = whole[1]["lineage"]["config"]["encoding"]
    outcome = evaluate.heldout(evaluate.LoadedModel(model, tokenizer, batch_size=3), rows, encoding)
    assert outcome.n == run["eval_rows"] == 8
    assert outcome.loss == pytest.approx(run["eval_loss"], abs=1e-6)


@pytest.mark.slow
def test_what_a_run_observes(whole):
    observed = whole[1]["observed"]
    assert set(observed["conditions"]) == {"before", "halfway"}
    assert observed["conditions"]["before"]["load_average"] >= 0
    assert len(observed["time"]["step_seconds"]) == 40
    assert observed["time"]["comparable"] is True
    placement = whole[1]["payload"]["placement"]
    assert (placement["frozen_layers"], placement["compute_dtype"]) == (0, "float32")


@pytest.mark.slow
def test_a_run_opens_each_of_its_inputs_once(finished, tmp_path):
    """Whatever happens to a file meanwhile, what was computed with is what was hashed."""
    counting = tmp_path / "counting.py"
    counting.write_text(
        "import collections, json, runpy, sys\n"
        "opens = collections.Counter()\n"
        "sys.addaudithook(lambda event, about: event == 'open' and opens.update([str(about[0])]))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print(json.dumps({name: opens[name] for name in sys.argv if name.endswith('.json')}))\n"
    )
    results, own = finished / "results", tmp_path / "own"
    given = {
        "--probe": results / "probe/tiny-llama/seed1.json",
        "--selection": results / "select/tiny-llama/ale/seed1.json",
        "--batches": results / "batches/tiny-llama/seed1.json",
        "--std-run": results / "train/tiny-llama/std/seed1/run.json",
        "--ale-run": results / "train/tiny-llama/ale/seed1/run.json",
    }
    shape = ("training.accumulation=2", "encoding.prompt=alpaca")
    call = arguments(finished, own, *(word for pair in given.items() for word in pair), *settings(*shape, steps=4))
    command = [sys.executable, counting, SCRIPTS / "train.py", *call]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, said(done)
    opened = json.loads(done.stdout.splitlines()[-1])
    inputs = artifacts.read(own / "run.json", "run")["lineage"]["inputs"]
    assert len(inputs) == 7
    assert {name: opened[name] for name in inputs} == dict.fromkeys(inputs, 1)


# --- killed and resumed -----------------------------------------------------------------------------------------------


def killed_after(finished, out, step, *more):
    """Start a run that saves after every step, and kill it with SIGKILL once ``step`` is done."""
    command = [sys.executable, "-s", SCRIPTS / "train.py", *arguments(finished, out, *more)]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    for line in process.stdout:
        if line.startswith(f"step {step}/"):
            break
    # The checkpoint of this step, or at worst of the one before.
    deadline = time.time() + 30
    while not (out / ".checkpoint").exists() and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "run.json").exists()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_losses_bit_for_bit(finished, whole, tmp_path):
    own = ["--checkpoint-seconds", 0, *settings("adapter.dropout=0.1", steps=40)]
    events = ("--events", tmp_path / "events")
    killed_after(finished, tmp_path, 5, *events, *own)
    resumed = train(finished, tmp_path, *events, *own)
    assert resumed["payload"]["train_loss"] == whole[1]["payload"]["train_loss"]
    assert resumed["payload"]["eval_loss"] == whole[1]["payload"]["eval_loss"]
    weights = [run["payload"]["adapter"]["files"]["adapter_model.safetensors"] for run in (resumed, whole[1])]
    assert weights[0] == weights[1]
    (at,) = resumed["observed"]["time"]["resumed_at"]
    assert 4 <= at < 40
    assert resumed["observed"]["time"]["comparable"] is False
    assert len(resumed["observed"]["time"]["step_seconds"]) == 40
    assert not (tmp_path / ".checkpoint").exists()
    assert scalars(tmp_path / "events", "train/loss") == scalars(whole[0] / "events", "train/loss")


@pytest.mark.slow
def test_a_checkpoint_of_other_settings_is_not_resumed(finished, tmp_path):
    killed_after(finished, tmp_path, 3, "--checkpoint-seconds", 0, *settings(steps=40))
    other = train(finished, tmp_path, "--checkpoint-seconds", 0, *settings(steps=5))
    assert other["observed"]["time"]["resumed_at"] == []
    assert other["payload"]["step"] == 5


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_past_its_limit_is_a_row_without_an_adapter(finished, tmp_path):
    run = train(finished, tmp_path, *settings("training.time_limit_seconds=0.000001"))["payload"]
    assert (run["status"], run["step"]) == ("timeout", 1)
    assert run["adapter"]["files"] == {}
    assert list((tmp_path / "adapter").iterdir()) == []


@pytest.mark.slow
def test_a_run_ends_before_the_job_does(finished, tmp_path):
    run = train(finished, tmp_path, *settings(), SLURM_JOB_END_TIME=str(int(time.time()) + 100))["payload"]
    assert run["status"] == "timeout"
    assert "before the job's wall limit" in run["reason"]


@pytest.mark.slow
def test_a_crash_is_a_row_and_its_traceback_is_in_the_log(finished, tmp_path):
    """Torch raises in the loss, as it does for a token id that the vocabulary does not hold."""
    wrong = tmp_path / "vocabulary.py"
    wrong.write_text(
        "import runpy, sys, torch\n"
        "real = torch.nn.functional.cross_entropy\n"
        "def broken(*args, **kwargs):\n"
        "    raise IndexError('index out of range in self')\n"
        "torch.nn.functional.cross_entropy = broken\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, wrong, SCRIPTS / "train.py", *arguments(finished, tmp_path, *settings())]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    run = artifacts.payload(tmp_path / "run.json", "run")
    assert (run["status"], run["step"], run["adapter"]["files"]) == ("crashed", 0, {})
    assert run["reason"] == "IndexError: index out of range in self"
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_an_arm_longer_than_its_plan_is_one_sentence(finished, tmp_path):
    plan = ("--batches", finished / "results/batches/tiny-llama/seed1.json")
    done = run_script("train.py", *arguments(finished, tmp_path, *plan, *settings(steps=13)))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: batches: expected a plan of at least 13 steps, found 12")


# --- precision and 4 bits ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "dtype", "found"),
    [
        ((), "fp16", "float16"),
        (("training.gradient_checkpointing=true",), "bf16", "bfloat16"),
        (("model.attention=fp32",), "fp16", "float16"),
    ],
)
def test_precision_and_quantisation_come_from_the_settings(finished, tmp_path, choice, dtype, found):
    run = train(finished, tmp_path, *settings(*choice, dtype=dtype), model="tiny-neox")["payload"]
    assert run["status"] == "ok"
    assert run["placement"]["compute_dtype"] == found
    assert run["gradient_checkpointing"] is any("checkpointing" in item for item in choice)
    assert run["quantization"] is None


@pytest.mark.slow
def test_a_plan_of_another_seed_is_one_sentence_and_one_of_another_shape_is_cut(finished, tmp_path):
    path = finished / "results/batches/tiny-llama/seed1.json"
    done = run_script("train.py", *arguments(finished, tmp_path, "--batches", path, *settings(), "--seed", 2))
    assert done.returncode == 2
    assert "expected a plan with seed 2, found 1" in done.stderr.splitlines()[-1]
    run = train(finished, tmp_path, "--batches", path, *settings("training.accumulation=1"))["payload"]
    order = artifacts.payload(path, "batches")["order"][:12]
    # Six steps of one micro-batch of two rows, each pair by length.
    pairs = [(order[i : i + 2], order[i : i + 2][::-1]) for i in range(0, 12, 2)]
    digests = {hashlib.sha256(compact_json(list(choice)).encode()).hexdigest() for choice in itertools.product(*pairs)}
    assert run["batch_plan_sha256"] in digests


@pytest.mark.slow
def test_a_run_of_another_seed_is_not_resumed(finished, tmp_path):
    own = ["--checkpoint-seconds", 0, *settings(steps=40)]
    killed_after(finished, tmp_path, 3, *own)
    other = train(finished, tmp_path, *own, "--seed", 2)
    assert other["observed"]["time"]["resumed_at"] == []
    assert other["payload"]["seed"] == 2


@pytest.mark.slow
def test_a_run_whose_adapter_does_not_fit_on_the_disk_resumes_at_its_end(finished, tmp_path):
    full = tmp_path / "full.py"
    full.write_text(
        "import runpy, sys\n"
        "from aletheia.training import run\n"
        "def save_adapter(self, folder, card):\n"
        "    raise OSError(28, 'No space left on device')\n"
        "run.TrainingRun.save_adapter = save_adapter\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    own = arguments(finished, tmp_path, *settings(steps=8))
    command = [sys.executable, full, SCRIPTS / "train.py", *own]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    # For this reason and no other, after all steps, with a checkpoint that found room.
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, FULL_DISK), said(done)
    assert "step 8/8" in done.stdout
    assert (tmp_path / ".checkpoint").is_file(), said(done)
    assert not (tmp_path / "run.json").exists()
    resumed = run_script("train.py", *own)
    assert "resumed after step 8" in resumed.stdout, said(resumed)
    again = artifacts.read(tmp_path / "run.json", "run")
    assert again["observed"]["time"]["resumed_at"] == [8]
    # What the first pass was seen to do is known though no pass was made again.
    assert again["payload"]["placement"]["compute_dtype"] == "float32"
    assert again["payload"]["placement"]["frozen_layers"] == 0
    assert len(again["payload"]["train_loss"]) == 8


@pytest.mark.slow
def test_a_4_bit_model_is_tuned_and_its_adapter_loads_over_whole_weights(finished, tmp_path):
    """On CPUs with AVX-512 bf16, bitsandbytes evaluates only matrices whose width its blocks of 64 divide."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    lock = tmp_path / "models" / "wide.lock.json"
    config = (
        "{model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4}"
    )
    staged = run_script(
        "stage.py", "model", "wide", "--out", lock, "--set", f"model.source={{type: random, config: {config}}}"
    )
    assert staged.returncode == 0, staged.stderr
    own = settings("model.quantization=nf4", "training.learning_rate=0.005", dtype="bf16", steps=12)
    places = arguments(finished, tmp_path, *own)
    done = run_script("train.py", "--model-lock", lock, *places[2:])
    assert done.returncode == 0, done.stderr
    run = artifacts.payload(tmp_path / "run.json", "run")
    assert (run["status"], run["quantization"], run["placement"]["compute_dtype"]) == ("ok", "nf4", "bfloat16")
    assert run["final_train_loss"] < run["train_loss"][0]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "models" / "wide", dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.isfinite(adapted(torch.tensor([[5, 6, 7]])).logits).all()


# --- what a run leaves ------------------------------------------------------------------------------------------------


def test_an_adapter_loads_merges_and_generates(finished, whole):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = finished / "resources/models/tiny-llama"
    ids = torch.tensor([[5, 6, 7, 8]])
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        plain = base(ids).logits
        model = PeftModel.from_pretrained(base, whole[0] / "adapter").eval()
        adapted = model(ids).logits
        merged = model.merge_and_unload()
        assert not torch.allclose(adapted, plain, atol=1e-4)
        assert torch.allclose(merged(ids).logits, adapted, atol=1e-4)
        assert merged.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > 4


def test_the_model_card_says_what_the_adapter_is(finished, whole):
    out, envelope = whole
    card = (out / "adapter" / "README.md").read_text()
    run = envelope["payload"]
    assert card.startswith("---\nlibrary_name: peft\n")  # no base_model: the hub knows none of this name
    assert "AutoModelForCausalLM.from_pretrained(FOLDER)" in card
    assert "FOLDER holds the files of the base model, which the study calls `tiny-llama`; it came from no hub" in card
    weights = finished / "resources/models/tiny-llama/model.safetensors"
    assert f"- `model.safetensors`: `{artifacts.sha256_file(weights)}`" in card
    assert str(finished) not in card.split("## Lineage")[0]  # there are the inputs as they were given by hand
    assert f"| held-out loss, 8 rows at the end of training | {run['eval_loss']:.4f} |" in card
    assert "training rows whole within 320 tokens; all 8 held-out rows whole within 320 tokens" in card
    assert f"| training loss, last step | {run['train_loss'][-1]:.4f} |" in card
    assert "Data: rows, " in card
    for entry in envelope["lineage"]["inputs"].values():
        assert entry["payload_sha256"] in card


def scalars(folder, tag):
    """Return (step, value) of one curve in a folder of event files, read as TensorBoard does.

    The record format is TensorFlow's; a session that starts at a step discards what an earlier one wrote from there on.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = []
    for path in sorted(folder.glob("events*"), key=lambda path: path.stat().st_mtime_ns):
        content, position = path.read_bytes(), 0
        while position < len(content):
            (length,) = struct.unpack_from("<Q", content, position)
            event = Event.FromString(content[position + 12 : position + 12 + length])
            if event.session_log.status == SessionLog.START:
                found = [(step, value) for step, value in found if step < event.step]
            found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
            position += 16 + length
    return found


def test_curves_are_written_while_it_trains(whole):
    curve = scalars(whole[0] / "events", "train/loss")
    assert [step for step, _ in curve] == list(range(1, 41))
    assert [value for _, value in curve] == pytest.approx(whole[1]["payload"]["train_loss"], rel=1e-6)
    norms = [value for _, value in scalars(whole[0] / "events", "train/gradient_norm")]
    assert len(norms) == 40
    assert min(norms) > 0


@pytest.mark.slow
def test_curves_can_be_switched_off(finished, tmp_path):
    short = settings("training.timing_warmup_steps=1", steps=2)
    train(finished, tmp_path, "--events", tmp_path / "events", "--tensorboard", 0, *short)
    assert not (tmp_path / "events").exists()


@pytest.mark.slow
def test_a_plan_drawn_by_hand_is_the_one_of_the_study(finished, tmp_path):
    study = artifacts.payload(finished / "results/train/tiny-llama/std/seed1/run.json")
    run = train(finished, tmp_path, *settings(steps=4))["payload"]
    assert run["batch_plan_sha256"] == study["batch_plan_sha256"]
    assert json.dumps(run["placement"]["layers"]) == json.dumps(study["placement"]["layers"])
