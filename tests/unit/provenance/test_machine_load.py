"""What else a machine did while something was timed: what counts, what does not, and what the ledger says of it."""

import matplotlib as mpl
import pytest

from aletheia.analysis.ledger import build_ledger
from aletheia.analysis.pairs import pairs
from aletheia.analysis.paper_tables import load_published
from aletheia.provenance import machine_load
from aletheia.provenance.lineage import ROOT
from aletheia.provenance.machine_load import BUSY_RULE, LoadMeter, busy_reason, step_spread
from aletheia.report import plot_style
from aletheia.report.figures import FIGURES
from aletheia.report.findings import findings
from aletheia.report.tables import TABLES
from ledgers import SEEDS, study
from reports import summarise

QUIET = {"others_share": 0.01, "steal_share": 0.0, "step_spread": 1.2}


def shares(monkeypatch, *, work, idle, steal, own):
    """Return what the meter says of an interval, in seconds of the usable cores and of this process."""
    times = iter([(100.0, 50.0, 1.0), (100.0 + work, 50.0 + idle, 1.0 + steal)])
    monkeypatch.setattr(machine_load, "_core_times", lambda: next(times))
    used = iter([7.0, 7.0 + own])
    monkeypatch.setattr(machine_load, "_own_seconds", lambda: next(used))
    return LoadMeter().shares()


def test_own_threads_do_not_count(monkeypatch):
    assert shares(monkeypatch, work=20, idle=0, steal=0, own=20) == {"others_share": 0.0, "steal_share": 0.0}


def test_other_processes_and_the_hypervisor_count(monkeypatch):
    found = shares(monkeypatch, work=14, idle=4, steal=2, own=10)
    assert found == {"others_share": 0.2, "steal_share": 0.1}
    assert busy_reason(found) == "other processes took 20% of the cores; the hypervisor took 10% of the cores"


def test_this_machine_tells_its_load():
    meter = LoadMeter()
    sum(number * number for number in range(2_000_000))
    found = meter.shares()
    assert 0 <= found["others_share"] <= 1
    assert 0 <= found["steal_share"] <= 1


def test_where_the_system_tells_nothing_nothing_is_known(monkeypatch):
    monkeypatch.setattr(machine_load, "_core_times", lambda: None)
    found = LoadMeter().shares()
    assert found == {"others_share": None, "steal_share": None}
    assert busy_reason(found) is None
    assert busy_reason({}) is None


@pytest.mark.parametrize(
    ("seconds", "positions", "busy"),
    [
        ([1.0] * 20, [100] * 20, False),
        # Longer steps that have as many more positions are no sign of company.
        ([1.0, 3.0] * 10, [100, 300] * 10, False),
        # Nor is a device whose steps take as long whatever their size.
        ([1.0] * 20, [100, 300] * 10, False),
        ([1.0] * 17 + [3.0] * 3, [100] * 20, True),
        ([1.0] * 19 + [3.0], [100] * 20, False),
    ],
)
def test_steps_that_spread_are_busy(seconds, positions, busy):
    reason = busy_reason({"step_spread": step_spread(seconds, positions)})
    assert (reason is not None) is busy


def test_few_steps_have_no_spread():
    assert step_spread([1.0, 9.0], [1, 1]) is None


def test_the_probe_that_a_run_pays_for_counts():
    reason = busy_reason({**QUIET, "probe": {"others_share": 0.5, "steal_share": 0.0}})
    assert reason == "in the probe other processes took 50% of the cores"
    assert busy_reason({**QUIET, "probe": QUIET}) is None


BUSY = {**QUIET, "others_share": 0.3}


def ledger(load):
    """Return the ledger of one model and three seeds, of which the second's ale was timed under ``load``."""
    campaigns, runs, evaluations = study({"tiny": {"family": "llama", "std": 100.0, "ale": 80.0}}, benchmarks=())
    for envelope in runs.values():
        envelope["observed"]["load"] = QUIET
    runs["tiny", "ale", SEEDS[1]]["observed"]["load"] = load
    return build_ledger(campaigns, runs, evaluations)


def test_a_busy_time_is_flagged_in_the_ledger_and_never_left_out():
    frame = ledger(BUSY).set_index(["arm", "seed"])
    assert frame.loc[("ale", SEEDS[1]), "busy"] == "other processes took 30% of the cores"
    assert frame["busy"].notna().sum() == 1
    pair = pairs(ledger(BUSY)).set_index("seed")
    assert list(pair["busy"]) == [False, True, False]
    assert pair["speedup_percent"].notna().all()


def test_table_figure_and_findings_say_how_many_pairs_were_busy():
    for load, busy in ((QUIET, 0), (BUSY, 1)):
        found = ledger(load)
        summary = summarise(found)
        table = TABLES[2](summary, load_published(ROOT / "config" / "published"))
        assert table.numbers["busy_pairs"].iloc[0] == busy
        assert ("Pairs on a busy machine" in table.display) is bool(busy)
        assert (BUSY_RULE in table.note) is bool(busy)
        with mpl.rc_context(plot_style.rc(plot_style.STYLE)):
            figure = FIGURES["fig1"](found, summary, plot_style.STYLE)
        crosses = [len(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() == "x"]
        assert sum(crosses) == busy
        notes = " ".join(text.get_text() for text in figure.texts)
        assert ("Crosses: 1 of 3 pairs" in notes) is bool(busy)
        assert ("1 of 3 pairs timed on a busy machine" in findings(summary)[5]) is bool(busy)
