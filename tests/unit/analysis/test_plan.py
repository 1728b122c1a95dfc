"""The plan of the analysis: closed, whole, and dated by git where git can tell."""

import copy
import hashlib
import math
import os
import subprocess

import pytest
import yaml

from aletheia.analysis.plan import PLAN as STUDYS_PLAN
from aletheia.analysis.plan import PlanHistory, load_plan, margins_stated, plan_history
from aletheia.errors import UserError
from conftest import ROOT, copy_project, snakemake

OURS = ROOT / "config" / "analysis.yaml"
CONTENT = yaml.safe_load(OURS.read_text(encoding="utf-8"))


def leaves(content, above=()):
    """Return the keys that lead to each value that is no mapping."""
    for name, value in content.items():
        yield from leaves(value, (*above, name)) if isinstance(value, dict) else [(*above, name)]


def changed(path, keys, value):
    """Write the project's plan with one value changed; None takes the key out."""
    content = copy.deepcopy(CONTENT)
    section = content
    for name in keys[:-1]:
        section = section[name]
    section[keys[-1]] = value
    if value is None:
        del section[keys[-1]]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_projects_plan_has_every_value_of_its_file():
    plan = load_plan(OURS)
    for keys in leaves(CONTENT):
        found = plan
        for name in keys:
            found = getattr(found, name)
        expected = CONTENT
        for name in keys:
            expected = expected[name]
        assert found == (tuple(expected) if isinstance(expected, list) else expected)
    assert plan.path == OURS.as_posix()
    assert plan.sha256 == hashlib.sha256(OURS.read_bytes()).hexdigest()


def test_the_projects_margins_are_those_that_the_paper_claims():
    margins = load_plan(OURS).margins
    assert (margins.points, margins.verdict_points) == ((0.5, 1, 2), 2)


def test_a_margin_of_time_is_taken_on_the_scale_of_logarithms(tmp_path):
    plan = load_plan(changed(tmp_path / "a.yaml", ("margins", "time_percent"), 25))
    assert plan.margin_of("log_ratio") == pytest.approx(math.log(1.25))
    assert plan.margin_of("points") == 2
    assert plan.margin_of("nats") == 0.01


def test_margins_in_points_ascend_however_they_are_written(tmp_path):
    plan = load_plan(changed(tmp_path / "a.yaml", ("margins", "points"), [2, 0.25, 1]))
    assert plan.margins.points == (0.25, 1, 2)


@pytest.mark.parametrize("keys", list(leaves(CONTENT)), ids=".".join)
def test_nothing_is_filled_in_that_the_file_does_not_state(keys, tmp_path):
    with pytest.raises(UserError, match=f"expected the key '{keys[-1]}', which is missing"):
        load_plan(changed(tmp_path / "a.yaml", keys, None))


BAD = [
    (("margins", "verdict_points"), 1.5, r"expected one of the margins in points \(0.5, 1, 2\), found 1.5"),
    (("margins", "points"), [], "margins.points: expected at least 1 entry"),
    (("margins", "nats"), 0, "margins.nats: expected more than 0, found 0"),
    (("margins", "nats"), "0,01", "margins.nats: expected a value of type number, found '0,01'; write 0.01"),
    (("margins", "nat"), 1, "margins: unknown key 'nat'; did you mean 'nats'"),
    (("families", "primary"), ["time", "speed"], "expected measures, of time, heldout_loss, mmlu,.* found 'speed'"),
    (("families", "false_discovery_rate"), 5, "families.false_discovery_rate: expected less than 1, found 5"),
    (("power", "wanted"), 1, "power.wanted: expected less than 1, found 1"),
    (("power", "assumed", "discordance"), 10, "power.assumed.discordance: expected at most 1, found 10"),
    (("priors", "tau_over_margin"), -1, "priors.tau_over_margin: expected more than 0"),
    (("bootstrap", "draws"), 10, "bootstrap.draws: expected at least 100, found 10"),
    (("bootstrap", "seed"), 1.5, "bootstrap.seed: expected a value of type integer"),
]


@pytest.mark.parametrize(("keys", "value", "sentence"), BAD)
def test_a_mistake_in_the_plan_is_one_sentence_with_its_line(keys, value, sentence, tmp_path):
    path = changed(tmp_path / "a.yaml", keys, value)
    with pytest.raises(UserError, match=sentence) as error:
        load_plan(path)
    assert str(error.value).startswith(f"{path}, line ")
    assert "\n" not in str(error.value)


def test_another_file_in_the_plans_place_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="expected a plan of the analysis, found a study's configuration"):
        load_plan(ROOT / "config" / "config.yaml")
    with pytest.raises(UserError, match="expected a configuration file here and found none"):
        load_plan(tmp_path / "none.yaml")


# When it was stated


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return git in a new repository, without this machine's settings; ``date`` is that of a commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)

    def git(*arguments, date="2026-03-01T12:00:00+02:00", cwd=folder):
        who = {f"GIT_{role}_{part}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        when = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, env={**os.environ, **who, **when}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git.folder = folder
    return git


@pytest.fixture
def committed(repository):
    """Return the path of a plan that a first commit has."""
    path = repository.folder / "config" / "analysis.yaml"
    path.parent.mkdir()
    path.write_text("a: 1\n")
    repository("add", ".")
    repository("commit", "--quiet", "-m", "plan")
    return path


def test_a_plan_was_stated_with_the_last_commit_that_changed_it(repository, committed):
    first = repository("rev-parse", "HEAD")
    assert plan_history(committed) == PlanHistory(first, "2026-03-01T10:00:00+00:00", modified=False)
    (repository.folder / "other").write_text("x")
    repository("add", ".")
    repository("commit", "--quiet", "-m", "other", date="2026-03-02T00:00:00+00:00")
    assert plan_history(committed).commit == first
    committed.write_text("a: 2\n")
    repository("commit", "--quiet", "-am", "margins", date="2026-03-03T00:00:00-01:00")
    changed_in = repository("rev-parse", "HEAD")
    assert plan_history(committed) == PlanHistory(changed_in, "2026-03-03T01:00:00+00:00", modified=False)


@pytest.mark.parametrize("hide", [[], ["add"], ["update-index", "--assume-unchanged"]])
def test_an_edit_after_the_commit_is_seen(repository, committed, hide):
    if hide == ["update-index", "--assume-unchanged"]:
        repository(*hide, "config/analysis.yaml")
    committed.write_text("a: 2\n")
    if hide == ["add"]:
        repository(*hide, ".")
    assert plan_history(committed).modified
    committed.write_text("a: 1\n")
    assert not plan_history(committed).modified


def test_a_plan_that_git_does_not_know_has_no_history(repository, committed, tmp_path, monkeypatch):
    untracked = committed.with_name("mine.yaml")
    untracked.write_text("a: 1\n")
    outside = tmp_path / "analysis.yaml"
    outside.write_text("a: 1\n")
    assert [plan_history(path) for path in (untracked, outside, committed.with_name("none"))] == [None] * 3
    assert plan_history(tmp_path / "no" / "folder.yaml") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert plan_history(committed) is None


def test_a_plan_in_a_repository_without_a_commit_has_no_history(repository):
    path = repository.folder / "analysis.yaml"
    path.write_text("a: 1\n")
    assert plan_history(path) is None


def test_a_plan_that_was_taken_out_and_lies_there_again_has_no_history(repository, committed):
    repository("rm", "--quiet", "--cached", "config/analysis.yaml")
    repository("commit", "--quiet", "-m", "out")
    assert plan_history(committed) is None


def test_a_shallow_clone_tells_what_it_holds_alone(repository, committed, tmp_path):
    for number in (2, 3):
        (repository.folder / "other").write_text(str(number))
        repository("add", ".")
        repository("commit", "--quiet", "-m", "other", date=f"2026-04-0{number}T00:00:00+00:00")
    origin = f"file://{repository.folder}"
    repository("clone", "--quiet", "--depth", "1", origin, str(tmp_path / "shallow"))
    repository("clone", "--quiet", origin, str(tmp_path / "whole"))
    assert plan_history(tmp_path / "shallow" / "config" / "analysis.yaml") is None
    assert plan_history(tmp_path / "whole" / "config" / "analysis.yaml") == plan_history(committed)


STATED = PlanHistory("c", "2026-03-01T10:00:00+00:00", modified=False)


@pytest.mark.parametrize(
    ("history", "measured", "expected"),
    [
        (STATED, "2026-03-01T10:00:01+00:00", "beforehand"),
        (STATED, "2026-03-01T09:59:59+00:00", "afterwards"),
        # Of other offsets: these are 11:30 and 09:30 in UTC.
        (STATED, "2026-03-01T09:30:00-02:00", "beforehand"),
        (STATED, "2026-03-01T11:30:00+02:00", "afterwards"),
        (PlanHistory("c", STATED.committed_at, modified=True), "2026-03-02T00:00:00+00:00", "afterwards"),
        (STATED, None, "unknown"),
        (None, "2026-03-02T00:00:00+00:00", "unknown"),
    ],
)
def test_margins_are_stated_beforehand_where_their_commit_is_older_than_every_result(history, measured, expected):
    assert margins_stated(history, measured) == expected


@pytest.mark.slow
def test_a_mistake_in_the_plan_ends_a_study_before_its_first_job(tmp_path):
    folder = copy_project(tmp_path / "project")
    plan = folder / STUDYS_PLAN
    plan.write_text(plan.read_text(encoding="utf-8").replace("nats: 0.01", "nats: much"), encoding="utf-8")
    done = snakemake(folder, "--dry-run", "--quiet", "all")
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "config/analysis.yaml, line 6: margins.nats: expected a value of type number, found 'much'" in text
    assert "Traceback" not in text
