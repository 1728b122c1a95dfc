"""What the rules of a search read: what is declared at once, and the rest once the rung before has decided."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from aletheia.controller import search_inputs
from aletheia.controller.binding import Binder
from aletheia.controller.search_inputs import SearchInputs
from aletheia.errors import UserError
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.schema import read_yaml
from conftest import ROOT

OF_MODEL = SimpleNamespace(model="tiny-neox")
SPELLED = Paths("<results>", "<resources>")


class Undecided(Exception):
    """What Snakemake raises for a checkpoint that is not done."""


@pytest.fixture
def study(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    return load_study(read_yaml(Path("tests/study/search.yaml")))


def inputs_of(study, results, *, whole=False):
    """The inputs of rules where no checkpoint is done."""

    def undecided(**wildcards):
        raise Undecided

    checkpoints = SimpleNamespace(**{f"search_{rung}": SimpleNamespace(get=undecided) for rung in ("scan", "full")})
    return SearchInputs(Binder(study, SPELLED), checkpoints, str(results), lambda: whole)


def test_floor_and_scan_read_what_is_declared(study, tmp_path):
    given = inputs_of(study, tmp_path)
    assert len(given(search_inputs.runs, "floor")(OF_MODEL)) == 3
    scanned = given(search_inputs.runs, "scan")(OF_MODEL)
    assert "<results>/train/tiny-neox/s_mlp_r4em3/seed7/run.json" in scanned
    assert len(scanned) == 6
    assert given(search_inputs.turns, "cost")(OF_MODEL) == [
        f"<results>/paired/tiny-neox/t_{recipe}/seed7.json" for recipe in ("last_half", "mlp")
    ]
    assert given(search_inputs.evaluations, "scan")(OF_MODEL) == []


@pytest.mark.parametrize("files", [search_inputs.runs, search_inputs.turns, search_inputs.evaluations])
def test_a_later_rung_waits_for_the_one_that_decides_it(study, tmp_path, files):
    with pytest.raises(Undecided):
        inputs_of(study, tmp_path)(files, "full")(OF_MODEL)


def test_a_dry_run_of_everything_waits_where_nothing_is_decided_yet(study, tmp_path):
    """Where the artifact stands it reads that: tests/workflow/test_search.py."""
    with pytest.raises(Undecided):
        inputs_of(study, tmp_path, whole=True)(search_inputs.runs, "full")(OF_MODEL)


def test_a_rung_reads_the_artifacts_before_it(study):
    bound = Binder(study, SPELLED)(partial(search_inputs.before, rung="factorial"))
    assert [Path(path).stem for path in bound(OF_MODEL)] == ["floor", "cost", "push"]


def test_a_study_without_a_search_has_no_report_of_one(study):
    assert len(search_inputs.report_inputs(study, SPELLED)) == 7
    study.searches.clear()
    with pytest.raises(UserError, match="expected a campaign with a section search"):
        search_inputs.report_inputs(study, SPELLED)
