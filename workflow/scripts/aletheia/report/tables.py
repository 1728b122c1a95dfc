"""Tables 1 to 5 of the study, each as numbers (CSV) and as a reader's table (Markdown, LaTeX)."""

from __future__ import annotations

from typing import Any

from aletheia.analysis import verdicts
from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.frontier import IN_TURNS
from aletheia.analysis.pairs import CM
from aletheia.analysis.speed import SPEEDS
from aletheia.provenance.machine_load import BUSY_RULE
from aletheia.report.score_tables import downstream_table, mmlu_table
from aletheia.report.speed_columns import (
    COSTS,
    SAME,
    WALL_CLOCK,
    costs_display,
    costs_of,
    turns_note,
    turns_numbers,
)
from aletheia.report.table_parts import (
    BUSY,
    SPREAD_NOTE,
    Published,
    flat,
    label,
    make_table,
    models_of,
    prefix_note,
    published_cells,
)
from aletheia.report.table_text import (
    DASH,
    Table,
    bounds,
    interval,
    marked,
    marks_of,
    mean_sd,
    number,
    p_value,
)
from aletheia.study.arms import STD
from aletheia.study.published import model_key


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
            | published_cells(paper, "family", "parameters_billions", "layers", "campaigns")
        )
        display.append(
            {
                "Model": label(model),
                "Family": model["family"],
                "Parameters (millions)": number(model["parameters"] and model["parameters"] / 1e6, 1),
                "Layers": number(model["layers_total"], 0),
                "Trained parameters (std)": number(facts["trainable_parameters_std"], 0),
                "Campaigns": ", ".join(row["campaigns"]),
                "Ledger rows that ended well": f"{row['ok']} of {row['runs']}",
                "Paper: family": paper.get("family", DASH),
                "Paper: parameters (billions)": f"{paper['parameters_billions']:g}" if paper else DASH,
                "Paper: layers": number(paper.get("layers"), 0),
                "Paper: campaigns": ", ".join(str(paper.get("campaigns", DASH)).split()),
            }
        )
    note = "A run that two campaigns share is a row in each."
    return make_table(1, "Models of the study.", note, numbers, display)


def speed_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 2: times of std and ale, speedup without and with the probe, ratio, paired test, and its cost."""
    numbers, display = [], []
    for campaign, model in models_of(summary, "speed"):
        speed, paper = model["speed"], published[2].get(model_key(model["model"]), {})
        if speed is None:
            continue
        first = {"campaign": campaign["name"], "model": model["model"], "headline": model["headline"]}
        estimates = [flat(k, speed[k]) for k in ("std_seconds", "ale_seconds", *SPEEDS)]
        first["busy_pairs"] = speed["busy"]
        costs = costs_of(model)
        row = _speed_numbers(first, estimates, speed["test"], speed["paired"], paper)
        numbers.append(row | costs | turns_numbers(speed))
        seconds = {"Std time (s)": speed["std_seconds"], "Ale time (s)": speed["ale_seconds"]}
        head = {"Campaign": campaign["name"], "Model": label(model)}
        head |= {name: mean_sd(value, 1) for name, value in seconds.items()}
        shown = _speed_display(speed, speed["test"]["p_holm"], f"{speed['paired']}", paper)
        display.append(head | shown | costs_display(costs) | {BUSY: _busy_pairs(speed)})
    for campaign in summary["campaigns"]:
        for unit, overall in (campaign["overall"] or {}).items():
            same = {model_key(m["model"]) for m in campaign["models"]} == set(published[2]) - {"overall"}
            paper = published[2]["overall"] if same else {}
            first = {"campaign": campaign["name"], "model": f"overall ({unit})", "headline": True}
            estimates = [flat(k, overall[k]) for k in SPEEDS]
            numbers.append(_speed_numbers(first, estimates, overall["test"], None, paper) | turns_numbers(overall))
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
    note += turns_note([model["speed"] for _, model in models_of(summary, "speed") if model["speed"]])
    note += prefix_note(summary)
    if any(model["speed"] and model["speed"]["busy"] for _, model in models_of(summary, "speed")):
        note = f"{note} {BUSY}: {BUSY_RULE}. Such pairs count; `make audit` says how to time them again."
    return make_table(2, "Training speedup of Aletheia against standard LoRA.", note, numbers, display)


def _busy_pairs(speed: dict[str, Any]) -> str:
    """Return "2 of 3" pairs, or a dash where all had the machine to themselves."""
    return f"{speed['busy']} of {speed['speedup_percent']['n']}" if speed["busy"] else DASH


def _speed_numbers(
    first: dict[str, Any],
    estimates: list[dict[str, Any]],
    test: dict[str, Any],
    paired: str | None,
    paper: dict[str, Any],
) -> dict[str, Any]:
    row = dict(first)
    for part in estimates:
        row |= part
    row |= {
        "t": test["t"],
        "p_value": test["p"],
        "p_holm": test.get("p_holm"),
        "cohen_d": test["d"],
        "paired": paired,
    }
    spread = [f"{name}_{part}" for name in ("std_seconds", "ale_seconds", "speedup_percent") for part in ("mean", "sd")]
    return row | published_cells(paper, *spread, "ratio", "p_relation", "p_value")


def _speed_display(block: dict[str, Any], p: float | None, paired: str, paper: dict[str, Any]) -> dict[str, str]:
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
        "Paper: std time (s)": _published_mean(paper, "std_seconds"),
        "Paper: ale time (s)": _published_mean(paper, "ale_seconds"),
        "Paper: speedup (%)": _published_mean(paper, "speedup_percent"),
        "Paper: ratio": number(paper.get("ratio"), 3),
        "Paper: p": _published_p(paper),
    }


def _published_mean(paper: dict[str, Any], name: str) -> str:
    return mean_sd({part: paper.get(f"{name}_{part}") for part in ("mean", "sd")}, 1)


def _published_p(paper: dict[str, Any]) -> str:
    """Return p as the paper prints it: to four digits, or below a bound."""
    return f"<{paper['p_value']:g}" if paper.get("p_relation") == "<" else number(paper.get("p_value"), 4)


def compute_matched_table(summary: dict[str, Any], published: Published) -> Table:
    """Return table 5: held-out loss of std and each compute-matched arm, its time, and whether benchmarks match."""
    numbers, display = [], []
    for campaign, model in models_of(summary, "compute_matched"):
        for arm, cm in model["compute_matched"].items():
            extra = model["extra"].get(arm, {})
            paper = published[5].get(model_key(model["model"]), {}) if arm == CM else {}
            numbers.append(
                _matched_numbers({"campaign": campaign["name"], "model": model["model"]}, arm, cm, extra, paper)
            )
            head = {"Campaign": campaign["name"], "Model": label(model), "Arm": arm}
            display.append(head | _matched_display(cm, extra, paper))
    note = f"{SPREAD_NOTE} The time counts the probe. Rules of the verdicts: COMPUTE_MATCHED_ANALYSIS.md."
    note += prefix_note(summary)
    note += " Margins set afterwards." if any(c["margins"] == "afterwards" for c in summary["campaigns"]) else ""
    return make_table(5, "Compute-matched Aletheia against standard LoRA.", note, numbers, display)


def _matched_numbers(
    first: dict[str, Any], arm: str, cm: dict[str, Any], extra: dict[str, Any], paper: dict[str, Any]
) -> dict[str, Any]:
    test, share = cm["eval_loss"], cm["time_share"]
    return (
        {**first, "arm": arm}
        | {**flat("std_eval_loss", cm["std_eval_loss"]), **flat("cm_eval_loss", cm["cm_eval_loss"])}
        | {**flat("difference_nats", test["difference"]), "p_value": test["p"], "p_holm": test["p_holm"]}
        | {"planned": test["planned"]}
        | {**flat("time_share", share), "time": cm["time_verdict"], "time_taken": cm["time_taken"]}
        | {"loss_verdict": cm["loss_verdict"], "downstream_verdict": _over_benchmarks(extra)}
        | published_cells(paper, "std_eval_loss", "cm_eval_loss", "downstream_match")
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
        "Benchmarks": marked(_over_benchmarks(extra), _marks_over(extra)),
        "Paper: loss, std / cm": losses if paper else DASH,
        "Paper: downstream": paper.get("downstream_match", DASH),
    }


def _over_benchmarks(extra: dict[str, Any]) -> str:
    told = {TITLES[name]: test["verdict"] for name, test in extra.items() if test["verdict"] is not None}
    return verdicts.over_benchmarks(told)


def _marks_over(extra: dict[str, Any]) -> str:
    """Return the marks that some benchmark has."""
    return "".join(dict.fromkeys("".join(map(marks_of, extra.values()))))


# The function of each table; aletheia.study.report_contents says which a study has.
TABLES = {
    1: models_table,
    2: speed_table,
    3: mmlu_table,
    4: downstream_table,
    5: compute_matched_table,
}
