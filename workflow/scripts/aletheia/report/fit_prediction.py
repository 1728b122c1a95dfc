"""What is said before training: what each choice of layers saves by the cost model, and how long all will take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.report.table_text import count_text
from aletheia.study.arms import STD
from aletheia.timing.predicted_saving import PredictedRun, Share, is_measured, predicted_run

NAMES = ("target_modules", "target_parameters")  # of a selection: what has adapters
MOST_NAMED_LAYERS = 12  # more are told by their number and ends
Selections = Mapping[str, Mapping[str, Any] | None]


def predicted_saving(
    selections: Selections,
    *,
    epochs: float = 1.0,
    steps: int | None = None,
    seeds: int = 1,
    step_seconds: float | None = None,
    probe_seconds: float | None = None,
    further_runs: int = 0,
    attribution: Mapping[str, Any] | None = None,
    recomputed: bool = False,
    prefix_cache: bool = True,
    modules_total: int | None = None,
) -> str:
    """Return what the cost model predicts, in lines for a terminal.

    Parameters
    ----------
    selections
        By arm the payload of its selection at one seed; None for an arm that adapts all of all layers, such as std.
        Of an arm with fewer modules in all layers what its selection would be.
    epochs
        Passes over the rows; below 1 for a part of them.
    steps
        Optimiser steps of a run.
    seeds
        Of each arm.
    step_seconds
        Seconds of a step of std, where they are known; without them, or without ``steps``, no seconds are predicted.
    probe_seconds
        Of one probe, where it is known.
    further_runs
        Runs beside these, such as trials of rates; each counts as one of std.
    attribution
        Payload of the model's attribution, where there is one: its measured parts then give numbers in place of ranges.
    recomputed, prefix_cache, modules_total
        As of :func:`aletheia.timing.predicted_saving.predicted_run`.
    """
    settings = {"epochs": epochs, "recomputed": recomputed, "prefix_cache": prefix_cache, "attribution": attribution}
    settings["modules_total"] = modules_total
    runs = {
        arm: predicted_run(selection, **settings)
        for arm, selection in selections.items()
        if selection is not None and selection["status"] == "ok"
    }
    lines = ["Predicted by the cost model, before training:"]
    for arm, selection in selections.items():
        if arm in runs:
            lines += _arm(arm, selection, runs[arm], epochs=epochs, prefix_cache=prefix_cache)
        elif selection is not None:
            lines.append(f"  {arm}: no layers could be chosen ({selection['reason'] or selection['status']})")
        elif arm != STD:
            lines.append(f"  {arm}: adapters in all layers, so nothing is cut short or left out")
    if steps is not None and step_seconds is not None:
        shares = [runs[arm].run if arm in runs else Share(1.0, 1.0) for arm in selections]
        lines.append(_total(shares, seeds * steps * step_seconds, further_runs * steps * step_seconds))
    if probe_seconds is not None and runs:
        lines.append(_probe(probe_seconds, None if None in (steps, step_seconds) else steps * step_seconds))
    return "\n".join([*lines, *_cannot_tell(runs, measured=is_measured(attribution))])


def _arm(arm: str, selection: Mapping[str, Any], run: PredictedRun, *, epochs: float, prefix_cache: bool) -> list[str]:
    shape, layers = run.shape, selection["layers"]
    if len(layers) == shape.layers_total:
        return _all_layers(arm, selection, run)
    absent = shape.layers_total - len(layers)
    lines = [f"  {arm}: {_layers(layers)} of {shape.layers_total}; the lowest is layer {shape.lowest}"]
    if shape.lowest:
        percent = 100 * shape.lowest / shape.layers_total
        lines.append(f"    the backward pass stops there: {percent:.0f} % of it is cut")
    else:
        lines.append(
            "    layer 0 is among them, so nothing of the backward pass is cut: only absent adapters are saved"
        )
    without = f"{count_text(absent, 'layer')} without adapters"
    lines.append(f"    {without}; a step takes {_share(run.step)} of standard LoRA's time")
    if epochs > 1:
        lines.append(f"    {_again(run, prefix_cache=prefix_cache)}")
    if epochs > 1 and shape.lowest and prefix_cache:
        lines.append(f"    over {epochs:g} epochs together {_share(run.run)}")
    return lines


def _all_layers(arm: str, selection: Mapping[str, Any], run: PredictedRun) -> list[str]:
    """Return what is said of adapters in all layers, in some of their modules."""
    kinds = dict.fromkeys(name.rpartition(".")[2] for key in NAMES for name in selection[key])
    return [
        f"  {arm}: {', '.join(kinds)} of all {run.shape.layers_total} layers, so nothing of the backward pass is cut",
        f"    the other modules have no adapters; a step takes {_share(run.step)} of standard LoRA's time",
    ]


def _layers(layers: list[int]) -> str:
    if len(layers) <= MOST_NAMED_LAYERS:
        return f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}"
    return f"{len(layers)} layers from {layers[0]} to {layers[-1]}"


def _share(share: Share) -> str:
    """Return a share of std's time in percent: "64 to 78 %", "81 %" where it is known."""
    low, high = (f"{100 * value:.0f}" for value in (share.low, share.high))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _again(run: PredictedRun, *, prefix_cache: bool) -> str:
    if not run.shape.lowest:
        return "from the second epoch on nothing more: below layer 0 there is nothing that could be kept"
    if not prefix_cache:
        return "from the second epoch on nothing more: prefix_cache is off"
    return (
        f"from the second epoch on the {count_text(run.shape.lowest, 'layer')} below are read back, not computed: "
        f"{_share(run.later)}"
    )


def _total(shares: list[Share], seconds_of_std: float, further: float) -> str:
    low, high = (sum(getattr(share, end) for share in shares) * seconds_of_std + further for end in ("low", "high"))
    return f"  all trainings: {_duration(low, high)}, loading, staging and evaluating not counted"


def _duration(low: float, high: float) -> str:
    """Return a range of seconds as text, in seconds below two minutes, in hours from two hours on."""
    unit, name = (1, "s") if high < 120 else (60, "minutes") if high < 7200 else (3600, "hours")
    ends = [f"{value / unit:.1f}" if value / unit < 10 else f"{value / unit:.0f}" for value in (low, high)]
    return f"about {ends[0]} {name}" if ends[0] == ends[1] else f"about {ends[0]} to {ends[1]} {name}"


def _probe(seconds: float, of_run: float | None) -> str:
    share = "" if not of_run else f", {100 * seconds / of_run:.1f} % of a standard run, which it has to save first"
    return f"  the probe took {seconds:.1f} s{share}"


def _cannot_tell(runs: Mapping[str, PredictedRun], *, measured: bool) -> list[str]:
    if not runs:
        return []
    told = "  Step costs are those measured on this machine."
    if not measured:
        told = (
            "  These are ranges, since what adapters and head weigh on this machine is not known; "
            "`snakemake attribution` measures it."
        )
    return [told, "  Nothing here says what choosing layers does to the loss: only the runs tell."]
