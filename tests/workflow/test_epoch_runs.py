"""A study whose runs are epochs: steps follow from the rows, and later epochs have the first one's micro-batches."""

import itertools
import shutil

import pandas as pd
import pytest

from aletheia.provenance import artifacts
from conftest import copy_project, edit, run_script, said, snakemake

CONFIG = ("--configfile", "tests/cluster/one.yaml")
ARMS = """
  cm: {layers: gradient, budget_percent: 50, extra_steps_percent: 25}
  short: {layers: last, epochs: 0.5, batch_size: 1}
  fixed: {layers: first, steps: 5}
  kept: {layers: last, prefix_cache: disk}
  anew: {layers: last, prefix_cache: off}
encoding:"""
TARGETS = ("results/aggregate/ledger.csv", "results/paired/tiny-neox/short/seed1.json")
# The 40 rows of the tiny study but 8 that are held out, two of them a step.
STEPS_AN_EPOCH = 16


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return a copy of the project with a finished study of one model that trains for two epochs."""
    folder = copy_project(tmp_path_factory.mktemp("epochs") / "project")
    campaign = folder / "tests/cluster/one_campaign.yaml"
    edit(campaign, "steps: 600", "epochs: 2")
    edit(campaign, "\nencoding:", ARMS)
    done = snakemake(folder, *TARGETS, *CONFIG, "--max-threads", "1")
    assert done.returncode == 0, said(done)[-4000:]
    return folder


def run_of(folder, arm):
    return artifacts.read(folder / f"results/train/tiny-neox/{arm}/seed1/run.json", "run")


@pytest.mark.slow
def test_the_steps_of_a_run_follow_from_its_epochs(ran):
    runs = {arm: run_of(ran, arm) for arm in ("std", "ale", "cm", "short", "fixed", "kept", "anew")}
    found = {arm: (run["payload"]["steps"], run["payload"]["epochs"]) for arm, run in runs.items()}
    # By as many rows as an arm's own step has; a quarter more of the two epochs; steps where the arm states these.
    assert found == {"std": (32, 2), "ale": (32, 2), "cm": (40, 2), "short": (16, 0.5)} | {
        "fixed": (5, None),
        **dict.fromkeys(("kept", "anew"), (32, 2)),
    }
    assert all(run["payload"]["status"] == "ok" for run in runs.values())
    assert all(run["payload"]["step"] == run["payload"]["steps"] for run in runs.values())
    stated = {arm: run["lineage"]["config"]["training"] for arm, run in runs.items()}
    assert (stated["std"]["steps"], stated["std"]["epochs"]) == (None, 2)
    assert (stated["fixed"]["steps"], "epochs" in stated["fixed"]) == (5, False)
    assert runs["std"]["payload"]["batch_plan_sha256"] == runs["ale"]["payload"]["batch_plan_sha256"]
    ledger = pd.read_csv(ran / "results/aggregate/ledger.csv").set_index("arm")
    assert ledger["steps"].to_dict() == {arm: steps for arm, (steps, _) in found.items()}
    assert ledger["epochs"].dropna().to_dict() == {arm: epochs for arm, (_, epochs) in found.items() if epochs}
    assert ledger["differs_from_std"]["cm"] == "layers steps"


@pytest.mark.slow
def test_later_epochs_of_the_plan_have_the_first_one_s_micro_batches(ran):
    plan = artifacts.payload(ran / "results/batches/tiny-neox/seed1.json", "batches")
    assert (plan["steps_an_epoch"], plan["examples"]) == (STEPS_AN_EPOCH, 32)
    assert plan["steps"] >= 3 * 2 * STEPS_AN_EPOCH
    epochs = [plan["rows"][at : at + STEPS_AN_EPOCH] for at in range(0, 3 * STEPS_AN_EPOCH, STEPS_AN_EPOCH)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(epochs[0])] * 3
    assert all(one != other for one, other in itertools.combinations(epochs, 2))


@pytest.mark.slow
def test_a_probe_is_shared_by_the_steps_of_the_epochs(ran):
    pair = artifacts.payload(ran / "results/paired/tiny-neox/short/seed1.json", "paired")
    assert (pair["status"], pair["probe_shared_by_steps"]) == ("ok", 16)


@pytest.mark.slow
def test_nothing_runs_again_once_the_rows_are_known(ran):
    done = snakemake(ran, "-n", *TARGETS, *CONFIG)
    assert "Nothing to be done" in said(done), said(done)[-3000:]


@pytest.mark.slow
def test_the_dry_run_refuses_what_the_staged_rows_contradict(ran):
    campaign, config = (ran / f"tests/cluster/{name}.yaml" for name in ("one_campaign", "one"))
    (ran / "long.yaml").write_text(campaign.read_text().replace("warmup_steps: 1,", "warmup_steps: 32,"))
    (ran / "long.config.yaml").write_text(config.read_text().replace("tests/cluster/one_campaign.yaml", "long.yaml"))
    done = snakemake(ran, "-n", "--configfile", "long.config.yaml")
    assert "warmup_steps: expected less than the 32 steps of training.epochs (2), found 32: the rate" in said(done)
    assert done.returncode != 0


@pytest.mark.slow
def test_epochs_by_hand_count_the_rows_of_the_plan_or_encode_them(ran, tmp_path):
    locks = ("--model-lock", ran / "resources/models/tiny-neox.lock.json", "--seed", 1)
    locks += ("--data-lock", ran / "resources/data/rows.lock.json")
    settings = ("encoding.prompt=plain", "encoding.max_tokens=96", "adapter.rank=2", "training.batch_size=2")
    settings += (
        "training.accumulation=1",
        "training.eval_rows=4",
        "model.dtype=fp32",
        "training.timing_warmup_steps=0",
    )

    def by_hand(name, *more, files=()):
        out = ("--out", tmp_path / f"{name}.json", "--adapter", tmp_path / name)
        return run_script("train.py", *locks, *files, *out, "--set", *settings, *more)

    plan = ("--batches", ran / "results/batches/tiny-neox/seed1.json")
    for name, files in (("planned", plan), ("encoded", ())):
        done = by_hand(name, "training.epochs=0.25", "training.warmup_steps=1", files=files)
        assert done.returncode == 0, said(done)
    runs = [artifacts.payload(tmp_path / f"{name}.json", "run") for name in ("planned", "encoded")]
    assert [(run["steps"], run["epochs"]) for run in runs] == [(4, 0.25)] * 2
    assert runs[0]["train_loss"] == runs[1]["train_loss"]
    refused = by_hand("refused", "training.epochs=1", "run.arm=mine", files=plan)
    assert refused.returncode == 2
    sentence = "training.warmup_steps: expected less than the 16 steps of training.epochs (1), found 20: the rate"
    assert refused.stderr.startswith(f"error: model, arm mine: {sentence}")
    assert not (tmp_path / "refused.json").exists()


@pytest.mark.slow
def test_frozen_layers_that_are_read_back_give_the_same_adapter_and_leave_nothing_to_verify(ran):
    kept, anew = (run_of(ran, arm) for arm in ("kept", "anew"))
    for key in ("train_loss", "eval_loss"):
        assert kept["payload"][key] == anew["payload"][key]
    weights = [run["payload"]["adapter"]["files"]["adapter_model.safetensors"] for run in (kept, anew)]
    assert weights[0] == weights[1]  # the card names the arm
    told = kept["observed"]["prefix_cache"]
    assert (told["store"], told["exact"], told["filled"]) == ("disk", True, len(list(blocks(ran))))
    assert told["bytes"] > 0
    assert anew["observed"]["prefix_cache"]["store"] == "off"
    assert run_of(ran, "std")["observed"]["prefix_cache"]["reason"] == "layer 0 is adapted, so that nothing lies below"
    ledger = pd.read_csv(ran / "results/aggregate/ledger.csv").set_index("arm")
    assert ledger["prefix_cache"].dropna()["kept"] == "disk"
    checked = run_script("verify.py", *CONFIG, cwd=ran)
    assert "artifacts checked" in checked.stdout
    assert "resources/prefix" not in checked.stdout + checked.stderr


@pytest.mark.slow
def test_a_run_made_again_beside_its_files_is_charged_for_them_and_without_them_comes_out_the_same(ran):
    path = ran / "results/train/tiny-neox/kept/seed1/run.json"
    first = artifacts.read(path, "run")
    for there in (True, False):
        if not there:
            shutil.rmtree(ran / "resources/prefix")
        path.unlink()
        # As many threads as the first time, since they decide the last bits.
        done = snakemake(ran, str(path.relative_to(ran)), *CONFIG, "--max-threads", "1")
        assert done.returncode == 0, said(done)[-4000:]
        again = artifacts.read(path, "run")
        assert again["payload_sha256"] == first["payload_sha256"]
        time = again["observed"]["time"]
        assert (time["prefix_seconds"] > 0) is there
        assert time["training_seconds"] == pytest.approx(sum(time["step_seconds"]) + time["prefix_seconds"])


def blocks(folder):
    return (folder / "resources/prefix").rglob("*.safetensors")
