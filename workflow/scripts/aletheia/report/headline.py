"""The result of a study in one sentence."""

from __future__ import annotations

from typing import Any


def headline(summary: dict[str, Any]) -> str:
    """Return one sentence: the measured speedup, its interval and n, without and with the probe.

    Parameters
    ----------
    summary
        What :func:`aletheia.analysis.summary.summarise` returned.
    """
    campaign = next((c for c in summary["campaigns"] if c["overall"]), None)
    if campaign is None:
        return "No speedup was measured: no campaign that reports speed has a pair of runs that both ended well."
    models, pairs_ = campaign["overall"]["models"], campaign["overall"]["pairs"]
    n, count = models["speedup_percent"]["n"], pairs_["speedup_percent"]["n"]
    # One model cannot give an interval over models; its seeds give one for that model alone.
    unit, best = ("models", models) if n > 1 else ("seeds of one model", pairs_)
    speed, probe = best["speedup_percent"], best["speedup_with_probe_percent"]
    counted = f"n = {speed['n']} {unit}" + (f", {count} pairs" if n > 1 else "")
    blocks = [model["speed"] for model in campaign["models"] if model["headline"] and model["speed"]]
    busy = sum(block["busy"] for block in blocks)
    company = f" {busy} of {count} pairs were timed on a busy machine; make audit says how to time them again."
    measured = f"Measured speedup ({campaign['name']}): {_interval(speed)}, {counted}"
    counting = f"with the probe counted {_interval(probe)}"
    if "turns" in best:
        over = " by bootstrap over rounds" if best["turns"]["interval"] == "rounds" else ""
        same, clock = (_interval(best["turns"][f"{name}_speedup_percent"]) for name in ("same", "wall_clock"))
        return f"{measured}, taken in turns{over}; {counting}; std against std {same}; by the wall clock {clock}."
    return f"{measured}; {counting}.{company if busy else ''}"


def _interval(value: dict[str, Any]) -> str:
    if value["mean"] is None:
        return "not measured"
    if value["low"] is None:
        return f"{value['mean']:.1f} % (one value, so no interval)"
    return f"{value['mean']:.1f} % (95 % interval {value['low']:.1f} to {value['high']:.1f})"
