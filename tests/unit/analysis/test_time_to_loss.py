"""Time to the standard arm's last loss: interpolated, with the probe's seconds, and empty where it says nothing."""

import pandas as pd
import pytest

from aletheia.analysis.ledger import KEY
from aletheia.analysis.time_to_loss import RATIO, SECONDS, add_times_to_loss, seconds_to_loss


@pytest.mark.parametrize(
    ("losses", "target", "seconds"),
    [
        ([4.0, 3.0, 2.0], 2.5, 15.0),
        ([4.0, 3.0, 2.0], 2.0, 20.0),
        ([4.0, 3.0, 2.0], 1.9, None),
        ([4.0, 3.0, 2.0], 5.0, 0.0),
        ([4.0, 2.0, 3.0], 3.0, 5.0),  # the first time counts
        ([4.0, None, 2.0], 3.0, 20.0),  # nothing to interpolate from
        ([None, None, None], 3.0, None),
    ],
)
def test_a_loss_is_reached_between_two_points(losses, target, seconds):
    assert seconds_to_loss(losses, [0.0, 10.0, 20.0], target) == (None if seconds is None else pytest.approx(seconds))


def envelope(losses, *, factor=1.0):
    curve = [{"step": 10 * i, "heldout_loss": loss} for i, loss in enumerate(losses)]
    return {"payload": {"curve": curve}, "observed": {"curve_seconds": [10.0 * i * factor for i in range(len(losses))]}}


def row(arm, *, seed=1, loss=2.0, status="ok", probe=0.0, comparable=True):
    return {
        **{"campaign": "c", "model": "m", "arm": arm, "seed": seed, "status": status, "eval_loss": loss},
        **{"comparable": comparable, "probe_seconds": probe},
    }


def test_an_arm_is_held_against_std_of_its_seed():
    rows = [
        row("std"),
        row("ale", probe=1.0, loss=1.8),
        row("slow", loss=2.5),
        row("failed", status="diverged", loss=None),
        row("resumed", comparable=False),
        row("ale", seed=2),
        row("std", seed=2, status="crashed", loss=None),
    ]
    runs = {
        ("m", "std", 1): envelope([4.0, 3.0, 2.0]),
        ("m", "ale", 1): envelope([4.0, 2.2, 1.8], factor=0.5),
        ("m", "slow", 1): envelope([4.0, 3.0, 2.5]),
        ("m", "failed", 1): envelope([4.0]),
        ("m", "resumed", 1): envelope([4.0, 1.0]),
        ("m", "ale", 2): envelope([4.0, 1.0]),
        ("m", "std", 2): envelope([4.0]),
    }
    found = add_times_to_loss(pd.DataFrame(rows), runs, KEY)
    assert found[SECONDS][:2].tolist() == pytest.approx([20.0, 8.5])
    assert found[RATIO][:2].tolist() == pytest.approx([1.0, 8.5 / 20.0])
    assert found.loc[2:, [SECONDS, RATIO]].isna().all(axis=None)


def test_a_study_without_curves_has_no_such_columns():
    rows = pd.DataFrame([row("std")])
    assert add_times_to_loss(rows, {("m", "std", 1): {"payload": {"curve": []}}}, KEY) is rows
