"""Tables 1 to 5 of the study, each as numbers (CSV) and as a reader's table (Markdown, LaTeX)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from aletheia.analysis import verdicts
from aletheia.analysis.benchmarks import TITLES, questions_shown
from aletheia.analysis.frontier import IN_TURNS
from aletheia.analysis.pairs import ALE, CM
from aletheia.analysis.speed import SPEEDS
from aletheia.analysis.stats import estimate
from aletheia.provenance.machine_load import BUSY_RULE
from aletheia.report.speed_columns import COSTS, SAME, WALL_CLOCK, costs_display, costs_of, turns_note, turns_numbers
from aletheia.report.table_text import (
    DASH,
    FLOOR,
    FLOOR_NOTE,
    MARK,
    Table,
    bounds,
    interval,
    mark_floor,
    mean_sd,
    number,
    p_value,
)
from aletheia.study.arms import STD
from aletheia.study.published import model_key

SPREAD_NOTE = "Mean ± sample SD over n seeds."
BUSY = "Pairs on a busy machine"
OUTSIDE = f"{MARK} shown, but no part of the headline."
Published = dict[int, dict[str, dict[str, Any]]]


def _flat(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_{part}": value[part] for part in ("n", "mean", "sd", "low", "high")}


def _models(summary: dict[str, Any], report: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each campaign that makes ``report`` with each of its models."""
    for campaign in summary["campaigns"]:
        if report in campaign["reports"]:
            for model in campaign["models"]:
                yield campaign, model


def _label(model: dict[str, Any]) -> str:
    return model["model"] + ("" if model["headline"] else MARK)


def _table(index: int, title: str, note: str, numbers: list[dict], display: list[dict]) -> Table:
    """Return the table without the display columns that are empty or constant in this study."""
    shown = pd.DataFrame(display)
    if "Campaign" in shown and shown["Campaign"].nunique() == 1:
        shown = shown.drop(columns="Campaign")
    sparse = ("Paper", "Δ", BUSY, WALL_CLOCK, SAME)
    empty = [c for c in shown.columns if c.startswith(sparse) and (shown[c] == DASH).all()]
    if "Model" in shown and shown["Model"].str.contains(MARK).any():
        note = f"{note} {OUTSIDE}"
    if any(FLOOR in cell for row in display for cell in row.values()):
        note = f"{note} {FLOOR_NOTE}"
    return Table(index, title, note, pd.DataFrame(numbers), shown.drop(columns=empty))


def models_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 1: the models, their sizes, the campaigns they are in and how many runs ended well."""
    by_model: dict[str, dict[str, Any]] = {}
    for campaign in summary["campaigns"]:
        for model in campaign["models"]:
            row = by_model.setdefault(model["model"], {"model": model, "campaigns": [], "runs": 0, "ok": 0})
            row["campaigns"].append(campaign["name"])
            row["runs"] += sum(arm["runs"] for arm in model["arms"].values())
            row["ok"] += sum(arm["ok"] for arm in model["arms"].values())
    numbers, display = [], []
    for row in by_model.values():
        model, paper = row["model"], published[1].get(model_key(row["model"]["model"]), {})
        facts = {"parameters": model["parameters"], "layers_total": model["layers_total"]}
        facts["trainable_parameters_std"] = model["arms"].get(STD, {}).get("trainable_parameters")
        numbers.append(
            {"model": model["model"], "family": model["family"], **facts, "headline": model["headline"]}
            | {"campaigns": " ".join(row["campaigns"]), "rows": row["runs"], "rows_ok": row["ok"]}
            | {f"published_{k}": paper.get(k) for k in ("parameters_billions", "layers", "campaigns")}
        )
        display.append(
            {
                "Model": _label(model),
                "Family": model["family"],
                "Parameters (millions)": number(model["parameters"] and model["parameters"] / 1e6, 1),
                "Layers": number(model["layers_total"], 0),
                "Trained parameters (std)": number(facts["trainable_parameters_std"], 0),
                "Campaigns": ", ".join(row["campaigns"]),
                "Ledger rows that ended well": f"{row['ok']} of {row['runs']}",
                "Paper: layers": number(paper.get("layers"), 0),
            }
        )
    note = "A run that two campaigns share is a row in each."
    return _table(1, "Models of the study.", note, numbers, display)


def speed_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 2: times of std and ale, speedup without and with the probe, ratio, paired test, and its cost."""
    numbers, display = [], []
    for campaign, model in _models(summary, "speed"):
        speed, paper = model["speed"], published[2].get(model_key(model["model"]), {})
        if speed is None:
            continue
        first = {"campaign": campaign["name"], "model": model["model"], "headline": model["headline"]}
        flat = [_flat(k, speed[k]) for k in ("std_seconds", "ale_seconds", *SPEEDS)]
        first["busy_pairs"] = speed["busy"]
        costs = costs_of(model)
        row = _speed_numbers(first, flat, speed["test"], speed["paired"], paper)
        numbers.append(row | costs | turns_numbers(speed))
        seconds = {"Std time (s)": speed["std_seconds"], "Ale time (s)": speed["ale_seconds"]}
        head = {"Campaign": campaign["name"], "Model": _label(model)}
        head |= {name: mean_sd(value, 1) for name, value in seconds.items()}
        shown = _speed_display(speed, speed["test"]["p_holm"], f"{speed['paired']}", paper)
        display.append(head | shown | costs_display(costs) | {BUSY: _busy_pairs(speed)})
    for campaign in summary["campaigns"]:
        for unit, overall in (campaign["overall"] or {}).items():
            same = {model_key(m["model"]) for m in campaign["models"]} == set(published[2]) - {"overall"}
            paper = published[2]["overall"] if same else {}
            first = {"campaign": campaign["name"], "model": f"overall ({unit})", "headline": True}
            flat = [_flat(k, overall[k]) for k in SPEEDS]
            numbers.append(_speed_numbers(first, flat, overall["test"], None, paper) | turns_numbers(overall))
            head = {"Campaign": campaign["name"], "Model": f"Overall, unit: {unit}"}
            head |= {"Std time (s)": DASH, "Ale time (s)": DASH}
            wins = f"{overall['wins']} of {overall['speedup_percent']['n']}"
            shown = _speed_display(overall, overall["test"]["p"], DASH, paper)
            display.append(head | shown | dict.fromkeys(COSTS, DASH) | {"Faster": wins, BUSY: DASH})
    note = (
        f"{SPREAD_NOTE} Speedup = 100·(1 − t_ale / t_std) %, ratio = t_std / t_ale, over warm-up and training "
        "steps; with the probe, t_ale includes it. p: paired t-test of the log ratio, Holm-adjusted over the "
        "headline models. Paired: whether both arms ran on one device of one host, on a cluster in one allocation. "
        "Faster: in how many of the planned pairs ale took less time; one that failed is none. Peak memory, and the "
        "probe's share of ale's whole time, are of the runs. The overall rows take each model's mean as one value, or"
        " each pair as in the paper; seeds of one model are no independent models, so only the first speaks of models"
        " to come."
    )
    note += turns_note([model["speed"] for _, model in _models(summary, "speed") if model["speed"]])
    if any(model["speed"] and model["speed"]["busy"] for _, model in _models(summary, "speed")):
        note = f"{note} {BUSY}: {BUSY_RULE}. Such pairs count; `make audit` says how to time them again."
    return _table(2, "Training speedup of Aletheia against standard LoRA.", note, numbers, display)


def _busy_pairs(speed: dict[str, Any]) -> str:
    """Return "2 of 3" pairs, or a dash where all had the machine to themselves."""
    return f"{speed['busy']} of {speed['speedup_percent']['n']}" if speed["busy"] else DASH


def _speed_numbers(
    first: dict[str, Any],
    flat: list[dict[str, Any]],
    test: dict[str, Any],
    paired: str | None,
    paper: dict[str, Any],
) -> dict[str, Any]:
    row = dict(first)
    for part in flat:
        row |= part
    row |= {
        "t": test["t"],
        "p_value": test["p"],
        "p_holm": test.get("p_holm"),
        "cohen_d": test["d"],
        "paired": paired,
    }
    names = (
        "std_seconds_mean",
        "ale_seconds_mean",
        "speedup_percent_mean",
        "speedup_percent_sd",
        "ratio",
        "p_value",
    )
    return row | {f"published_{name}": paper.get(name) for name in names}


def _speed_display(block: dict[str, Any], p: float | None, paired: str, paper: dict[str, Any]) -> dict[str, str]:
    published = {"mean": paper.get("speedup_percent_mean"), "sd": paper.get("speedup_percent_sd")}
    return {
        "Speedup (%)": mean_sd(block["speedup_percent"], 1),
        "95 % interval": bounds(block["speedup_percent"], 1),
        SAME: interval(block["turns"]["same_speedup_percent"], 1, "+") if "turns" in block else DASH,
        WALL_CLOCK: mean_sd(block["turns"]["wall_clock_speedup_percent"], 1) if "turns" in block else DASH,
        "With probe (%)": mean_sd(block["speedup_with_probe_percent"], 1),
        "Ratio": number(block["ratio"]["mean"], 3) + "×" * (block["ratio"]["mean"] is not None),
        "n": str(block["speedup_percent"]["n"]),
        "p": p_value(p),
        "Paired": paired,
        "Paper: speedup (%)": mean_sd(published, 1),
        "Paper: ratio": number(paper.get("ratio"), 3),
    }


def mmlu_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 3: MMLU of base, std and ale, their deltas and the extra, with its interval."""
    numbers, display = [], []
    for campaign, model in _models(summary, "speed"):
        paper = published[3].get(model_key(model["model"]), {})
        scores = {arm: model["arms"].get(arm, {}).get("benchmarks", {}).get("mmlu") for arm in ("std", "ale")}
        base = next((s["base"] for s in scores.values() if s and s["base"] is not None), None)
        questions = next((s["questions"] for s in scores.values() if s and s["questions"]), None)
        test = model["extra"].get(ALE, {}).get("mmlu")
        extra = test["difference"] if test else estimate([])
        row = {"campaign": campaign["name"], "model": model["model"], "base_percent": base and 100 * base}
        shown = {"Campaign": campaign["name"], "Model": _label(model)}
        of_base = any(score["base_flagged"] for score in scores.values() if score)
        shown["Base (%)"] = mark_floor(number(base and 100 * base, 1), of_base)
        for arm, score in scores.items():
            mean = score["score"]["mean"] if score else None
            percent = None if mean is None else 100 * mean
            delta = score["delta"] if score else estimate([])
            row |= {f"{arm}_percent": percent, **_flat(f"{arm}_delta_pp", delta)}
            shown |= {
                f"{arm.title()} (%)": mark_floor(number(percent, 1), bool(score and score["flagged"])),
                f"{arm.title()} Δ (pp)": mark_floor(mean_sd(delta, 1, "+"), bool(score and score["flagged"])),
            }
        tested = {"p_value": test["p"] if test else None, "p_holm": test["p_holm"] if test else None}
        numbers.append(
            row
            | {**_flat("extra_pp", extra), **tested, "questions": questions, "flagged": test and test["flagged"]}
            | {f"published_{k}": paper.get(k) for k in ("std_delta_pp", "ale_delta_pp", "extra_pp")}
        )
        marked = mark_floor(interval(extra, 1, "+"), bool(test and test["flagged"]))
        shown |= {"Extra (pp) [95 % interval]": marked, "Seeds": str(extra["n"])}
        display.append(
            shown | {"Questions": number(questions, 0), "Paper: extra (pp)": number(paper.get("extra_pp"), 1, "+")}
        )
    note = (
        "Δ = fine-tuned − base (mean ± sample SD over the seeds); extra = ale Δ − std Δ, paired by seed; a "
        "negative extra is more forgetting. The interval is over seeds, on the same questions."
    )
    return _table(3, "MMLU before and after fine-tuning.", note, numbers, display)


def downstream_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 4: the extra (ale − std) on each question benchmark."""
    numbers, display = [], []
    models = list(_models(summary, "downstream"))
    benchmarks = questions_shown(name for _, model in models for name in model["extra"].get(ALE, {}))
    for campaign, model in models:
        paper = published[4].get(model_key(model["model"]), {})
        row = {"campaign": campaign["name"], "model": model["model"]}
        shown = {"Campaign": campaign["name"], "Model": _label(model)}
        for name in benchmarks:
            test = model["extra"].get(ALE, {}).get(name)
            extra = test["difference"] if test else estimate([])
            row |= _flat(f"{name}_extra_pp", extra)
            row |= {f"{name}_p_value": test and test["p"], f"{name}_p_holm": test and test["p_holm"]}
            row |= {f"{name}_{part}": test and test[part] for part in ("questions", "flagged")}
            row[f"published_{name}_extra_pp"] = paper.get(f"{name}_extra_pp")
            seeds = f" (n = {extra['n']})" if extra["n"] else ""
            shown[f"Δ{TITLES[name]} (pp)"] = mark_floor(interval(extra, 2, "+"), bool(test and test["flagged"])) + seeds
            shown[f"Paper: Δ{TITLES[name]} (pp)"] = number(paper.get(f"{name}_extra_pp"), 2, "+")
        numbers.append(row)
        display.append(shown)
    note = (
        "Aletheia − standard, mean [95 % t-interval over n seeds], paired by seed, on the same questions. "
        "Verdicts, over questions too: FORGETTING_DELTAS_ANALYSIS.md."
    )
    return _table(4, "Downstream differences, Aletheia − standard LoRA.", note, numbers, display)


def compute_matched_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 5: held-out loss of std and each compute-matched arm, its time, and whether benchmarks match."""
    numbers, display = [], []
    for campaign, model in _models(summary, "compute_matched"):
        for arm, cm in model["compute_matched"].items():
            extra = model["extra"].get(arm, {})
            paper = published[5].get(model_key(model["model"]), {}) if arm == CM else {}
            numbers.append(
                _matched_numbers({"campaign": campaign["name"], "model": model["model"]}, arm, cm, extra, paper)
            )
            head = {"Campaign": campaign["name"], "Model": _label(model), "Arm": arm}
            display.append(head | _matched_display(cm, extra, paper))
    note = f"{SPREAD_NOTE} The time counts the probe. Rules of the verdicts: COMPUTE_MATCHED_ANALYSIS.md."
    note += " Margins set afterwards." if any(c["margins"] == "afterwards" for c in summary["campaigns"]) else ""
    return _table(5, "Compute-matched Aletheia against standard LoRA.", note, numbers, display)


def _matched_numbers(
    first: dict[str, Any], arm: str, cm: dict[str, Any], extra: dict[str, Any], paper: dict[str, Any]
) -> dict[str, Any]:
    test, share = cm["eval_loss"], cm["time_share"]
    return (
        {**first, "arm": arm}
        | {**_flat("std_eval_loss", cm["std_eval_loss"]), **_flat("cm_eval_loss", cm["cm_eval_loss"])}
        | {**_flat("difference_nats", test["difference"]), "p_value": test["p"], "p_holm": test["p_holm"]}
        | {"planned": test["planned"]}
        | {**_flat("time_share", share), "time": cm["time_verdict"], "time_taken": cm["time_taken"]}
        | {"loss_verdict": cm["loss_verdict"], "downstream_verdict": _over_benchmarks(extra)}
        | {f"published_{k}": paper.get(k) for k in ("std_eval_loss", "cm_eval_loss", "downstream_match")}
    )


def _matched_display(cm: dict[str, Any], extra: dict[str, Any], paper: dict[str, Any]) -> dict[str, str]:
    test, share = cm["eval_loss"], cm["time_share"]
    losses = f"{number(paper.get('std_eval_loss'), 3)} / {number(paper.get('cm_eval_loss'), 3)}"
    return {
        "Held-out loss, std (nats)": mean_sd(cm["std_eval_loss"], 3),
        "Held-out loss, cm (nats)": mean_sd(cm["cm_eval_loss"], 3),
        "cm − std [95 % interval]": interval(test["difference"], 3, "+"),
        "n": f"{test['difference']['n']} of {test['planned']}",
        "Wall-clock, cm / std": interval(share, 2) + (" (in turns)" if cm["time_taken"] == IN_TURNS else ""),
        "Compute": cm["time_verdict"],
        "Loss": cm["loss_verdict"],
        "Benchmarks": mark_floor(_over_benchmarks(extra), any(own["flagged"] for own in extra.values())),
        "Paper: loss, std / cm": losses if paper else DASH,
        "Paper: downstream": paper.get("downstream_match", DASH),
    }


def _over_benchmarks(extra: dict[str, Any]) -> str:
    told = {TITLES[name]: test["verdict"] for name, test in extra.items() if test["verdict"] is not None}
    return verdicts.over_benchmarks(told)


# The function of each table; aletheia.study.report_contents says which a study has.
TABLES = {
    1: models_table,
    2: speed_table,
    3: mmlu_table,
    4: downstream_table,
    5: compute_matched_table,
}
