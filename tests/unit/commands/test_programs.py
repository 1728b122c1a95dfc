"""Programs over a folder that `aletheia fit --search full` has made: two studies, each told by its configuration."""

import json

import pytest

from aletheia.fit.choices import choose
from aletheia.fit.study_files import study_files
from console_script import aletheia
from surveyed_rows import options, surveyed


@pytest.fixture
def two_studies(tmp_path):
    asked = options(search="full")
    for name, text in study_files(asked, surveyed(), choose(asked, surveyed())).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "results").mkdir()
    return tmp_path


def searched(folder):
    """Leave what a search ends with, and nothing else of its results."""
    recipe = folder / "results-search" / "search" / "model" / "recipe.yaml"
    recipe.parent.mkdir(parents=True)
    (recipe.parent / "decision.json").write_text("{}")
    recipe.write_text("layers: last\nbudget_percent: 50\nlearning_rate: 0.001\n", encoding="utf-8")


def test_the_search_is_verified_too_once_it_has_run(two_studies):
    alone = aletheia("verify", two_studies)
    assert (
        alone.stderr
        == "error: results-search/search/model/recipe.yaml: expected a configuration file here and found none\n"
    )
    searched(two_studies)
    both = aletheia("verify", two_studies)
    assert both.stdout.startswith("config.yaml:\n")
    assert both.stdout.count("artifacts checked") == 2
    assert "\nsearch_config.yaml:\n" in both.stdout
    assert (alone.returncode, both.returncode) == (2, 1)  # all that the studies ask for is missing


def test_as_json_two_studies_are_one_object(two_studies):
    searched(two_studies)
    done = aletheia("verify", two_studies, "--json")
    told = json.loads(done.stdout)
    assert list(told) == ["config.yaml", "search_config.yaml"]
    assert all(each["findings"] for each in told.values())
