"""SEARCH.md: what a search found, what it cost, and what it cannot say, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.report.search_table import display_row, recipes_of
from aletheia.report.table_text import DASH, count_text, filled_table, number, p_value
from aletheia.search.confirmation import BOTH

RATIOS = {
    "a": "std as the campaign has it (the paper's shape and rate)",
    "b": "std in that shape at its own best rate",
    "c": "std in the shape of the recipe, at its own best rate",
}
_RULES = """## How to read this

- **Equal seconds.** Step costs are measured in turns with std before anything is compared; every recipe gets as many
  steps as take the seconds of std's. From then on budgets are steps, so that a repeated search decides alike. A
  recipe's probe is counted apart.
- **δ**, the indifference zone, is the larger of the margin and twice the SD of the difference of two runs of std that
  differ in their seed alone. Recipes within δ of the last one kept are kept too.
- **Losses of scan, full and push** are of one run each, on the rows that choose: the best of many such is better than
  it will be again. Only the confirmation, on fresh seeds and rows by which nothing was chosen, says how good a
  recipe is.
- **Ratios** are seconds of std over seconds of the chosen recipe to std's last loss, by a line through the recipe's
  complete runs at two lengths over the logarithm of steps, with Fieller's interval. (a) is against std as the campaign
  has it, and mostly about its rate; (b) against std in that shape at its own best rate; (c) against std in the recipe's
  shape at its own best rate, and so what the choice of layers or modules is worth alone.
- **The winner** is the cheapest cell of the confirmation that is better than tuned std and not worse than the best by
  δ.
"""


def search_text(summary: Mapping[str, Any]) -> str:
    """Return SEARCH.md.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.search_summary.summarise_searches`.
    """
    parts = ["# Search: which recipe is the cheapest way to tuned std's loss?"]
    parts += [f"**{model['model']}.** {verdict(model)}" for model in summary["models"]]
    for model in summary["models"]:
        parts += [f"## {model['model']}", *_model(model)]
    return "\n\n".join([*parts, _RULES.strip()]) + "\n"


def verdict(model: Mapping[str, Any]) -> str:
    """Return the verdict line of a search: its decision, all three ratios, its own cost, and when that is repaid."""
    decision = model["decision"]
    ratios = "; ".join(f"({name}) {_ratio(decision['ratios'][name])}" for name in RATIOS)
    parts = [decision["decision"]["reason"], *_chosen(model)]
    parts += [f"Seconds to std's loss, std over the chosen recipe: {ratios}.", _cost(model)]
    return " ".join(parts)


def _chosen(model: Mapping[str, Any]) -> list[str]:
    """Return what was confirmed, and what is recommended."""
    told = [
        f"Chosen and confirmed: {c['recipe']} at {c['rate']:g}." for c in model["push"]["cells"] if c["name"] == BOTH
    ]
    found = model["decision"]["recommended"]
    if found:
        told.append(f"recipe.yaml has {found['recipe']} at {found['keys']['learning_rate']:g}.")
    return told


def _ratio(ratio: Mapping[str, Any]) -> str:
    if ratio["value"] is None:
        return f"not known ({ratio['reason']})"
    beyond = ", beyond both lengths" if ratio["extrapolated"] else ""
    ends = f"[{number(ratio['low'], 2)}, {number(ratio['high'], 2)}]"
    return f"{number(ratio['value'], 2)} {ends} (n = {ratio['n']}{beyond})"


def _cost(model: Mapping[str, Any]) -> str:
    decision, spent = model["decision"], model["decision"]["spent"]
    seconds = "not known" if spent["total"] is None else f"{spent['total']:.0f} s"
    parts = f"probe {spent['probes']:.0f} s, step costs {spent['measuring']:.0f} s"
    told = f"The search took {count_text(spent['runs'], 'run')} and {seconds} by the measured costs ({parts})"
    if decision["confirmation_seconds"] is not None:
        told += f"; its confirmation {decision['confirmation_seconds']:.0f} s more"
    repaid = decision["repaid_after_runs"]
    later = "saves nothing that would repay it" if repaid is None else f"is repaid after {repaid:.1f} later runs"
    return f"{told}. It {later}."


def _model(model: Mapping[str, Any]) -> list[str]:
    floor = model["floor"]["floor"]
    sd = (
        DASH
        if floor["sd"] is None
        else f"{number(floor['sd'], 4)} [{number(floor['low'], 4)}, {number(floor['high'], 4)}]"
    )
    about = (
        f"Noise floor: two runs of std that differ in their seed differ by an SD of {sd} nats "
        f"({count_text(floor['n'], 'run')}), so δ = {number(floor['delta'], 4)}."
    )
    rows = [display_row({**model, "model": ""}, recipe) for recipe in recipes_of(model)]
    return [
        about,
        "### Recipes",
        *filled_table(rows, leave_out=("Model",)),
        "### Steps of the decision",
        "\n".join(f"- {line}" for line in _steps(model)),
        *_confirmation(model),
    ]


def _steps(model: Mapping[str, Any]) -> list[str]:
    lines = []
    for rung in ("scan", "full", "push"):
        payload = model[rung]
        for verdict_ in (*payload["kept"], *payload["dropped"]):
            rate = "" if verdict_["rate"] is None else f" at {verdict_['rate']:g}"
            edge = "; its best rate is at the edge of those tried" if verdict_["at_edge"] else ""
            lines.append(f"{rung}: {verdict_['recipe']}{rate} {verdict_['outcome']}: {verdict_['reason']}{edge}.")
        refused = payload.get("beyond_budget", [])
        if refused:
            lines.append(f"{rung}: {count_text(len(refused), 'run')} more would have been beyond the budget.")
        lines += [f"move {m['move']}: {m['reason']}." for m in payload.get("moves", []) if m["reason"]]
    if model["push"]["reason"]:
        lines.append(f"{model['push']['reason']}.")
    return lines


def _confirmation(model: Mapping[str, Any]) -> list[str]:
    cells, effects = model["factorial"]["cells"], model["factorial"]["effects"]
    if not cells or effects is None:
        return []
    main = [effects[key] for key in ("choice", "shape", "interaction") if effects[key]]
    rows = [
        {
            "Effect": effect["name"],
            "Loss (nats)": number(effect["value"], 4, "+"),
            "95 %": DASH if effect["low"] is None else f"{number(effect['low'], 4)} to {number(effect['high'], 4)}",
            "p": p_value(effect["p"]),
            "p, Holm": p_value(effect["p_holm"]),
            "Seeds": str(effect["n"]),
        }
        for effect in (*main, *effects["simple"])
    ]
    named = [{"Cell": c["name"], "Recipe": c["recipe"], "Rate": f"{c['rate']:g}", "Rate from": c["why"]} for c in cells]
    why = [f"- {each['name']}: {each['reason']}." for each in model["decision"]["decision"]["comparisons"]]
    return ["### Confirmation", *filled_table(named), *filled_table(rows), "\n".join(why)]
