"""What jobs ask of a cluster: the site's file, wall times from the registry, sentences before anything is submitted."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml

from aletheia.audit.inventory import read_configuration
from aletheia.cluster import cost, limits
from aletheia.cluster.limits import Cluster, Request, minutes_of, refusals
from aletheia.cluster.site import read_site
from aletheia.cluster.wall_time import WallTimes
from aletheia.errors import UserError
from aletheia.sandbox import judge
from aletheia.study.load import load_study
from conftest import ROOT, copy_project, said, snakemake

LEONARDO = "profiles/leonardo/site.yaml"
CLUSTER = Cluster(
    accounts={"IscrC_a": ["normal", "boost_qos_dbg", "boost_qos_lprod", "slow", "small"], "IscrC_b": []},
    partitions={"boost_usr_prod": 1440, "lrd_all_serial": 240},
    qos={"normal": None, "boost_qos_dbg": 30, "boost_qos_lprod": 5760, "slow": 5760, "small": None, "huge": None},
    admitted={"boost_usr_prod": ["normal", "boost_qos_dbg", "boost_qos_lprod", "slow", "huge"]},
    lifting=["boost_qos_lprod"],
    default="lrd_all_serial",
)
RIGHT = Request(job="train_std of m 1", account="IscrC_a", partition="boost_usr_prod", qos="normal", minutes=60)


def changed(**parts) -> Request:
    return Request(**{**RIGHT.__dict__, **parts})


@pytest.fixture(scope="module")
def site():
    return read_site(str(ROOT / LEONARDO))


@pytest.fixture(scope="module")
def paper(site):
    study = load_study(read_configuration([ROOT / "config" / "paper.yaml"]))
    return WallTimes(study, site)


def test_no_site_is_this_machine():
    assert read_site(None) is None


def test_the_generic_profile_leaves_names_to_the_cluster():
    site = read_site(str(ROOT / "profiles/slurm/site.yaml"))
    assert site.gpu["partition"] is site.cpu["partition"] is site.qos(60) is None


def test_leonardos_profile_is_the_generic_one_with_a_site_of_its_own():
    generic, leonardo = (
        yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text()) for name in ("slurm", "leonardo")
    )
    assert leonardo.pop("config") == ["site=profiles/leonardo/site.yaml"]
    assert generic.pop("config") == ["site=profiles/slurm/site.yaml"]
    assert leonardo == generic


def test_one_gpu_bills_one_quarter_node(site):
    # The charge is max(cores, 8 · GPUs, share of memory · 32) · time; a node has 32 cores, four GPUs, 494000 MB.
    assert site.gpu["cores"] == 8
    assert site.gpu["memory_mb"] * 4 <= 494_000


def test_a_job_without_a_gpu_starts_beside_the_controller(site):
    """A user has 4 cores and 30800 MB on the partition where both run."""
    readme = (ROOT / "profiles/leonardo/README.md").read_text()
    controllers = re.findall(r"-p lrd_all_serial -t 4:00:00 -c (\d+) --mem (\d+)", readme)
    assert len(controllers) == 2
    for cores, memory_mb in controllers:
        assert site.cpu["cores"] + int(cores) <= 4
        for own in (site.cpu["memory_mb"], judge.memory_mb(site.cpu["cores"])):
            assert own + int(memory_mb) <= 30_800


def test_the_choice_of_precision_is_short(paper):
    """A GPU is not measured at all, and a CPU for half a minute: no job of hours."""
    for model in ("qwen2.5-0.5b", "qwen2.5-72b"):
        loading = cost.load_seconds(paper.study.models[model])
        assert paper.precision(model) == paper.site.minutes(loading + 60) < 30


def test_judging_asks_for_what_its_programs_may_use():
    """Each has two interpreters of 1 GiB; the rest is the judge's."""
    rest = [judge.memory_mb(workers) - workers * 2 * 1024 for workers in (1, 3, 64)]
    assert rest == [judge.JUDGE_MB] * 3


@pytest.mark.slow
def test_a_controller_on_one_core_gives_jobs_the_threads_of_the_site(tmp_path):
    """As it plans them, and as each job does that it submits, which parses the same rules with --cores 1."""
    folder = copy_project(tmp_path / "project")
    study = ["--configfile", "tests/study/config.yaml", "--config", f"site={LEONARDO}"]
    done = snakemake(folder, "-n", "-p", "--cores", "1", *study)
    assert done.returncode == 0, said(done)
    asked = [
        int(mb) for mb in re.findall(r"rule score_code:.*?resources: .*?mem_mb=(\d+)", said(done), flags=re.DOTALL)
    ]
    assert set(asked) == {judge.memory_mb(3)}
    threads = re.findall(r"(train|evaluate_run|score_code)\.py\S? .*--(?:threads|workers) (\d+)", said(done))
    assert {step: int(number) for step, number in threads} == {"train": 8, "evaluate_run": 8, "score_code": 3}
    assert len(set(threads)) == 3


def test_a_later_try_gets_more_memory_up_to_a_nodes(site):
    assert [site.memory_mb(1, attempt) for attempt in (1, 2, 9)] == [123_500, 247_000, 494_000]
    assert [site.memory_mb(4, attempt) for attempt in (1, 2)] == [494_000, 494_000]


def test_quality_of_service_goes_by_length(site):
    assert [site.qos(minutes) for minutes in (1, 1440, 1441, 5760, 9999)] == [
        "normal",
        "normal",
        "boost_qos_lprod",
        "boost_qos_lprod",
        "boost_qos_lprod",
    ]


def test_a_later_try_may_need_a_longer_quality_of_service(site):
    assert [site.qos(800, attempt) for attempt in (1, 2)] == ["normal", "boost_qos_lprod"]


def test_qualities_of_service_out_of_order_are_one_sentence(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "gpu: {cores: 8, memory_mb: 1, node_memory_mb: 1, qos: [{minutes: 60}, {minutes: 30}]}\n"
        "cpu: {cores: 1, memory_mb: 1, minutes: 1}\n"
    )
    with pytest.raises(UserError, match=r"gpu\.qos: expected the shortest .* first, found 60 min, 30 min"):
        read_site(str(path))


def test_a_first_try_beyond_a_nodes_memory_is_one_sentence(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "gpu: {cores: 8, memory_mb: 2, node_memory_mb: 1, qos: [{minutes: 60}]}\n"
        "cpu: {cores: 1, memory_mb: 1, minutes: 1}\n"
    )
    with pytest.raises(
        UserError, match=r"line 1: gpu\.node_memory_mb: expected at least gpu\.memory_mb \(2\), .* found 1$"
    ):
        read_site(str(path))


def test_wall_times_have_a_margin_and_a_limit(site):
    assert site.minutes(600) == 5 + 20
    assert site.minutes(None) == 240
    assert site.minutes(1e6) == 5 + 33_334  # the check before submission names it


def test_a_later_try_gets_more_and_the_allocation_stays_within_the_longest(site):
    assert site.minutes_of_attempt(100, 1, 200) == 100
    assert site.minutes_of_attempt(100, 2, 200) == 200
    assert site.minutes_of_attempt(3000, 2, 4000) == 4320  # 4000 minutes together may grow to 5760
    assert site.minutes_of_attempt(6000, 2, 6000) == 6000  # beyond it from the start: the first check names it


def test_the_papers_allocations_follow_from_the_registry(paper):
    # 200 steps of 0.7875 s, a probe of 5 batches of half a step, three selections; table 2's Qwen2.5-7B.
    model, seed = "qwen2.5-7b", 42
    runs = [run for run in paper.study.runs.values() if (run.model, run.seed) == (model, seed)]
    assert [run.arm for run in runs] == ["std", "ale", "cm", "ale_asym"]
    std, ale, cm, asym = (paper.training(run.model, run.arm, run.seed) for run in runs)
    assert std < cm
    assert paper.allocation(model, seed) == 4 * paper.small() + paper.probe(model) + std + ale + cm + asym


def test_every_job_of_the_paper_fits_a_day(paper):
    for model in paper.study.used_models():
        assert 0 < paper.evaluation(model) <= 1440, model
    for model, seed in {(run.model, run.seed) for run in paper.study.runs.values()}:
        assert paper.site.qos(paper.allocation(model, seed)) == "normal", (model, seed)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("24:00:00", 1440),
        ("4-00:00:00", 5760),
        ("1-12", 2160),
        ("30:00", 30),
        ("90", 90),
        ("UNLIMITED", None),
        ("", None),
    ],
)
def test_slurms_time_limits(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize(("kept", "warned"), [("180 sec", True), ("240 sec", False), ("300 sec", False)])
def test_a_cluster_that_forgets_jobs_between_two_looks_is_a_warning(kept, warned, monkeypatch, capsys):
    """In scontrol's own form; the executor looks every 180 s at the most."""
    monkeypatch.setattr(limits, "answer", lambda _command: f"MaxJobCount             = 10000\nMinJobAge = {kept}\n")
    assert limits._settings()["MaxJobCount"] == "10000"
    said = capsys.readouterr().err
    assert said.startswith(f"this cluster forgets ended jobs after {kept.split()[0]} s (MinJobAge; ") is warned
    assert ("expected at least 240" in said) is warned


def test_what_the_cluster_takes_is_no_sentence():
    assert (
        refusals(
            [
                RIGHT,
                changed(minutes=1440),
                changed(account="iscrc_A"),
                changed(qos="Normal"),
                changed(partition=None, qos=None, minutes=None),
            ],
            CLUSTER,
        )
        == []
    )


def test_a_long_quality_of_service_lifts_the_partitions_limit():
    assert refusals([changed(qos="boost_qos_lprod", minutes=2000)], CLUSTER) == []


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"account": None}, "account: expected one of yours (IscrC_a, IscrC_b), found none; set ALETHEIA_ACCOUNT"),
        ({"account": "other"}, "found 'other'; set ALETHEIA_ACCOUNT"),
        ({"partition": "boost"}, "expected one of this cluster (boost_usr_prod, lrd_all_serial), found 'boost'"),
        (
            {"qos": "long"},
            "qos: expected one of this cluster (boost_qos_dbg, boost_qos_lprod, huge, normal, slow, small), found",
        ),
        ({"qos": "small"}, "qos: expected one that partition boost_usr_prod takes (normal, boost_qos_dbg, "),
        ({"qos": "huge"}, "qos: expected one that account IscrC_a may use (normal, boost_qos_dbg, "),
        ({"minutes": 1441}, "train_std of m 1: needs 1441 minutes, and partition boost_usr_prod allows 1440"),
        ({"qos": "boost_qos_dbg", "minutes": 31}, "needs 31 minutes, and qos boost_qos_dbg allows 30"),
        ({"qos": "slow", "minutes": 2000}, "needs 2000 minutes, and partition boost_usr_prod allows 1440"),
        ({"partition": None, "minutes": 300}, "needs 300 minutes, and partition lrd_all_serial allows 240"),
        ({"qos": "boost_qos_lprod", "minutes": 6000, "longest": 5800}, "and qos boost_qos_lprod allows 5760"),
        ({"minutes": 1000, "longest": 900}, "needs 1000 minutes, and the site's file allows 900"),
    ],
)
def test_what_the_cluster_would_refuse_is_one_sentence(parts, sentence):
    found = refusals([changed(**parts), changed(**parts)], CLUSTER)
    assert len(found) == 1
    assert sentence in found[0]


def test_a_cluster_without_accounts_asks_for_none():
    free = Cluster(accounts=None, partitions=CLUSTER.partitions, qos={})
    assert refusals([changed(account=None, qos="any")], free) == []


def test_a_user_without_an_account_is_told_so():
    (sentence,) = refusals([RIGHT], dataclasses.replace(CLUSTER, accounts={}))
    assert sentence.startswith("account: you have none on this cluster")
