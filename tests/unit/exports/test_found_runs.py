"""Which run is meant: one that is named, the only one, that of an adapter; else a sentence that lists them."""

import shutil

import pytest

from aletheia.errors import UserError
from aletheia.exports.found_runs import WEIGHTS, find_run, runs_below
from aletheia.provenance import artifacts
from ledgers import sealed


def write_run(folder, arm, seed, *, status="ok", model="mine"):
    """Write a run with an adapter whose bytes are its own."""
    out = folder / "results" / "train" / model / arm / f"seed{seed}"
    (out / "adapter").mkdir(parents=True)
    (out / "adapter" / WEIGHTS).write_text(f"{model} {arm} {seed}")
    facts = {
        "status": status,
        "reason": None if status == "ok" else "the loss is not finite",
        "model": model,
        "arm": arm,
    }
    facts |= {
        "seed": seed,
        "step": 1,
        "steps": 1,
        "dtype": "fp32",
        "quantization": None,
        "gradient_checkpointing": False,
    }
    facts |= {"skipped_steps": 0, "eval_loss": None, "train_loss": [], "final_train_loss": None, "tokens": None}
    facts |= {"trainable_parameters": None, "placement": None, "batch_plan_sha256": None}
    files = {WEIGHTS: artifacts.sha256_file(out / "adapter" / WEIGHTS)}
    return sealed(out / "run.json", "run", {**facts, "adapter": {"files": files}})


@pytest.fixture
def study(tmp_path):
    """Return a study with two arms, one of two seeds."""
    for arm, seed in (("std", 1), ("ale", 1), ("ale", 2)):
        write_run(tmp_path, arm, seed)
    return tmp_path


def test_a_run_is_found_by_what_tells_it_apart(study):
    assert find_run(study, arm="std").path == study / "results/train/mine/std/seed1/run.json"
    assert find_run(study, arm="ale", seed=2).payload["seed"] == 2
    assert find_run(study / "results", model="mine", arm="std").payload["arm"] == "std"
    assert [(run.arm, run.seed) for run in runs_below(study)] == [("ale", 1), ("ale", 2), ("std", 1)]


def test_of_several_runs_a_sentence_names_each(study):
    with pytest.raises(UserError) as refused:
        find_run(study, arm="ale")
    assert str(refused.value) == (
        f"{study}: expected one run with --arm ale, found 2 of them; name one of --model mine --arm ale --seed 1 · "
        "--model mine --arm ale --seed 2"
    )
    with pytest.raises(
        UserError, match=r"expected one run with --arm alle, found none; name one of --model mine --arm ale"
    ):
        find_run(study, arm="alle")


def test_the_adapter_of_a_study_says_which_run_is_meant(study):
    shutil.copytree(study / "results/train/mine/ale/seed2/adapter", study / "adapter")
    assert find_run(study).payload["seed"] == 2
    assert find_run(study / "adapter").payload["seed"] == 2
    assert find_run(study, arm="std").payload["arm"] == "std"  # what is named goes first
    assert find_run(study / "results/train/mine/std/seed1/adapter").payload["arm"] == "std"


def test_a_run_made_by_hand_stands_anywhere(tmp_path):
    path = write_run(tmp_path / "study", "ale", 3)
    shutil.copytree(path.parent, tmp_path / "by hand")
    assert find_run(tmp_path / "by hand").payload["seed"] == 3
    assert find_run(tmp_path / "by hand" / "adapter").payload["seed"] == 3


def test_a_folder_without_runs_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"expected the folder of a study, found none here"):
        find_run(tmp_path / "nowhere")
    with pytest.raises(
        UserError,
        match=r"expected a study with finished runs .*, found none; name the folder of a study, .* or of an adapter",
    ):
        find_run(tmp_path)
    (tmp_path / WEIGHTS).write_text("alone")
    with pytest.raises(UserError, match=r"expected its run.json beside it, or the study that it came from around it"):
        find_run(tmp_path)


def test_a_run_that_failed_is_refused_with_its_reason(tmp_path):
    write_run(tmp_path, "ale", 1, status="diverged")
    with pytest.raises(
        UserError, match=r"found one that ended as diverged \(the loss is not finite\); name another one"
    ):
        find_run(tmp_path)
