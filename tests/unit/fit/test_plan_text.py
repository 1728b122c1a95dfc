"""What `aletheia fit` says that it will do."""

from pathlib import Path

from aletheia.fit.choices import choose
from aletheia.fit.plan_text import plan_text
from surveyed_rows import options, surveyed


def length(asked, **chosen):
    found = surveyed(100)
    lines = plan_text(asked, found, choose(asked, found, **chosen), Path("mine"), again=False).splitlines()
    return next(line for line in lines if line.startswith("length"))


def test_a_time_says_how_often_it_goes_through_the_rows():
    # 85 of 100 rows are trained on.
    assert length(options(seconds=600.0), steps=340, steps_reason="--time 600s") == (
        "length  340 steps of 4 rows, 16 passes over the rows (--time 600s)"
    )


def test_epochs_say_their_steps():
    assert length(options(epochs=2.0)) == "length  epochs 2: 42 steps of 4 rows (--epochs)"
