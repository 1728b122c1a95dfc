"""Equal work gives equal bytes: a second complete run elsewhere, and reports made again from the same numbers."""

import shutil

import pandas as pd
import pytest

from conftest import STUDY, copy_project, run_tiny_study, said, snakemake
from hashes import REPORTED, payload_hashes, reported_bytes, same_precision

# Times, what follows from them, and in which order the machine came to the arms.
MEASURED = (
    *("seconds", "tokens_per_second", "peak_memory_bytes", "busy", "seconds_to_std_loss", "loss_ratio", "order"),
    "ended",
)


@pytest.mark.slow
def test_two_complete_runs_give_equal_payloads(finished, tmp_path):
    second = copy_project(tmp_path / "second")
    same_precision(finished, second)
    run_tiny_study(second)
    first, again = payload_hashes(finished), payload_hashes(second)
    assert len(first) > 50
    assert again == first
    ledgers = [pd.read_csv(folder / "results/aggregate/ledger.csv") for folder in (finished, second)]
    # The code's digest stands for the copy's, which is the same; what was measured of the machine may differ.
    unmeasured = [name for name in ledgers[0] if not name.endswith(MEASURED)]
    assert len(ledgers[0].columns) - len(unmeasured) == 12
    pd.testing.assert_frame_equal(ledgers[0][unmeasured], ledgers[1][unmeasured])


@pytest.mark.slow
def test_reports_made_again_from_the_same_numbers_have_the_same_bytes(study):
    before = reported_bytes(study)
    assert {path.rpartition(".")[2] for path in before} == {"csv", "parquet", "md", "tex", "pdf", "png", "svg"}
    for name in REPORTED:
        shutil.rmtree(study / "results" / name)
    done = snakemake(study, *STUDY)
    assert done.returncode == 0, said(done)[-2000:]
    assert {path for path, content in reported_bytes(study).items() if content != before.pop(path)} == set()
    assert before == {}
