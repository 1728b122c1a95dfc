"""The order in which a machine trains the arms of a model and a seed: balanced over seeds, and as Snakemake has it."""

import re
from collections import Counter
from pathlib import Path

import pytest

from aletheia.controller.priorities import Priorities
from aletheia.study.load import load_study
from aletheia.study.run_order import planned_order
from aletheia.study.schema import read_yaml
from conftest import ROOT, STUDY, copy_project, edit, said, snakemake


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the project whose study has three seeds."""
    folder = copy_project(tmp_path / "project")
    edit(folder / STUDY[1].replace("config.yaml", "campaign.yaml"), "seeds: [1]", "seeds: [1, 2, 3]")
    return folder


@pytest.fixture
def study(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return load_study(read_yaml(Path(STUDY[1])))


def test_each_arm_comes_at_each_position_once(study):
    orders = planned_order(study)
    assert list(orders) == [(model, seed) for model in ("tiny-llama", "tiny-neox") for seed in (1, 2, 3)]
    for model, arms in (("tiny-llama", {"std", "ale", "cm", "lean"}), ("tiny-neox", {"std", "ale", "cm"})):
        own = [order for (name, _), order in orders.items() if name == model]
        for position in range(len(arms)):
            counted = Counter(order[position] for order in own)
            # Three seeds: of three arms each comes once, of four three come once.
            assert len(counted) == 3
            assert set(counted) <= arms
    assert planned_order(study) == orders


def test_an_arm_that_a_seed_lacks_leaves_the_others_in_order(study):
    whole = planned_order(study)
    del study.runs["tiny-llama", "cm", 2]
    less = planned_order(study)
    assert less["tiny-llama", 2] == [arm for arm in whole["tiny-llama", 2] if arm != "cm"]


def test_what_comes_first_has_the_higher_priority(study):
    priorities = Priorities(study, local=True)
    orders = planned_order(study)
    expected = [priorities.shared()]
    for block, order in orders.items():
        expected += [priorities.preparation(*block), *(priorities.training(block[0], arm, block[1]) for arm in order)]
        expected += [priorities.measurement(*block)]
        assert priorities.evaluation(block[0], f"ale/seed{block[1]}") == expected[-1]
    assert expected == sorted(set(expected), reverse=True)
    assert expected[-1] > priorities.evaluation("tiny-llama", "base") == 0


def test_on_a_cluster_every_priority_is_0(study):
    priorities = Priorities(study, local=False)
    assert {
        priorities.shared(),
        priorities.preparation("tiny-llama", 1),
        priorities.training("tiny-llama", "cm", 3),
        priorities.evaluation("tiny-llama", "cm/seed3"),
    } == {0}


@pytest.mark.slow
def test_a_dry_run_names_the_priorities(folder, study):
    done = snakemake(folder, "-n", *STUDY)
    assert done.returncode == 0, said(done)[-2000:]
    jobs = re.findall(r"^rule (\w+):\n((?:    .*\n)+)", said(done), re.MULTILINE)
    trained: dict[tuple[str, int], dict[int, str]] = {}
    for _, job in [job for job in jobs if job[0].startswith("train_")]:
        model, arm, seed = re.search(r"wildcards: model=(\S+), arm=(\w+), seed=(\d+)$", job, re.MULTILINE).groups()
        priority = int(re.search(r"priority: (\d+)$", job, re.MULTILINE)[1])
        trained.setdefault((model, int(seed)), {})[priority] = arm
    for block, order in planned_order(study).items():
        assert [arm for _, arm in sorted(trained[block].items(), reverse=True)] == order
    assert "priority:" not in "".join(job for rule, job in jobs if rule in ("aggregate", "stats"))


@pytest.mark.slow
def test_the_arms_of_a_seed_train_after_each_other_in_the_planned_order(tmp_path, monkeypatch):
    folder = copy_project(tmp_path / "project")
    campaign = folder / "tests/cluster/one_campaign.yaml"
    edit(campaign, "steps: 600", "steps: 4")
    edit(campaign, "seeds: [1]", "seeds: [1, 2]")
    config = ("--configfile", "tests/cluster/one.yaml")
    runs = [f"results/train/tiny-neox/{arm}/seed{seed}/run.json" for seed in (2, 1) for arm in ("ale", "std")]
    done = snakemake(folder, *runs, *config, "--cores", "2", "--max-threads", "2", OMP_NUM_THREADS="1")
    assert done.returncode == 0, said(done)[-4000:]
    monkeypatch.chdir(folder)
    planned = planned_order(load_study(read_yaml(Path(config[1]))))
    trained = re.findall(
        r"^    wildcards: model=tiny-neox, arm=(\w+), seed=(\d+)\n    priority: .*\n    threads", said(done), re.M
    )
    assert trained == [(arm, str(seed)) for (_, seed), order in planned.items() for arm in order]


def test_every_step_before_the_tables_has_a_priority():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    for rule in ("precision", "probe", "select", "batches", "train_std", "interleave", "score_code", "tokens"):
        (block,) = re.findall(rf"^rule {rule}:\n.*?^    shell:", text, re.MULTILINE | re.DOTALL)
        assert "priority: bind(priorities." in block
