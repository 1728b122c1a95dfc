"""A time becomes steps: by a short study of its own, once."""

from pathlib import Path

import pytest

from aletheia.fit.choices import choose
from aletheia.fit.folder import write_or_take_up
from aletheia.fit.runner import Machine
from aletheia.fit.study_files import DATA, MODELS, study_files
from aletheia.fit.timing import FOLDER, TIMED_STEPS, short_study, timed_choices, training_runs
from aletheia.study.configuration_files import read_configuration
from aletheia.study.load import load_study
from aletheia.study.results_tree import other_campaigns, record_campaigns
from surveyed_rows import options, surveyed


@pytest.mark.parametrize("search", ["none", "quick"])
def test_the_short_study_runs_the_standard_arm_and_makes_way_for_the_whole_one(tmp_path, monkeypatch, search):
    asked, found = options(search=search, seconds=600.0), surveyed()
    few = choose(asked, found, steps=TIMED_STEPS)
    files = study_files(asked, found, few)
    write_or_take_up(tmp_path, {name: files[name] for name in (MODELS, DATA)})
    (tmp_path / FOLDER).mkdir(parents=True)
    for name, text in short_study(asked, found, few).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    short = load_study(read_configuration([Path(FOLDER, "config.yaml")]))
    training = short.run("model", "std", 42).settings["training"]
    assert (training["steps"], training["timing_warmup_steps"]) == (TIMED_STEPS, 3)
    record_campaigns("results", short)
    # The registries stand where they will be, and the results tree does not hold another study.
    assert not write_or_take_up(tmp_path, study_files(asked, found, choose(asked, found, steps=40)))
    assert other_campaigns("results", load_study(read_configuration([Path("config.yaml")]))) is None


def test_a_time_that_was_turned_into_steps_is_not_timed_again(tmp_path):
    asked, found = options(seconds=600.0), surveyed()
    reason = "--time 600s: 2 runs at 5.2 s a step, timed here"
    files = study_files(asked, found, choose(asked, found, steps=57, steps_reason=reason))
    write_or_take_up(tmp_path, files)
    again = timed_choices(asked, found, tmp_path, Machine(profile="none that is there"))
    assert (again.steps, again.reasons["length"]) == (57, reason)
    assert write_or_take_up(tmp_path, study_files(asked, found, again))


def test_all_trainings_share_the_time():
    assert training_runs(options(arms=("last_half",), seeds=3)) == 9
    assert training_runs(options(search="quick")) == 2 * (3 + 2)
