"""The comparisons that a study leaves open, and the n that would settle them: the last sentence of its findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.analysis import arms, verdicts
from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.effects import HELDOUT_LOSS, RETENTION_LOSS
from aletheia.analysis.stats import values_needed
from aletheia.analysis.time_to_loss import RATIO
from aletheia.report.finding_scopes import Scope, matched_scopes, telling_extras, time_share
from aletheia.report.implausible_text import implausible_bases
from aletheia.report.table_text import count_text
from aletheia.study.arms import STD

_MAX_VALUES = 1000  # largest n that is looked for
_MAX_NAMED = 6  # failed runs, or models at the floor, that are named
NOTHING = "No planned comparison is too wide or at the floor, no run failed and no pair was timed on a busy machine."


@dataclass(frozen=True)
class _Question:
    """A planned comparison: its name, whether it is open, whether it has one value only, and what would settle it."""

    name: str
    is_open: bool
    is_single: bool
    needs: str


def open_questions(summary: Mapping[str, Any], scopes: Sequence[Scope]) -> str:
    """Return the sentence on comparisons with too wide intervals, scores at the floor, lost pairs and busy machines.

    Parameters
    ----------
    summary
        The statistics.
    scopes
        The main arm of each campaign.
    """
    matched = matched_scopes(summary)
    several = len({scope.name for scope in (*scopes, *matched)}) > 1
    plan = summary["plan"]
    all_questions = []
    for scope in scopes:
        questions = [*_of_arm(scope, plan), *_of_other_arms(scope, matched, plan), *_of_extras(scope, plan)]
        all_questions += [(question, scope) for question in questions]
    all_questions += [(question, scope) for scope in matched for question in _of_compute_matched(scope, plan)]
    named = [(q, f"{q.name} ({scope.name})" if several else q.name) for q, scope in all_questions if q.is_open]
    single = [name for question, name in named if question.is_single]
    wide: dict[str, list[str]] = {}
    for question, name in named:
        if not question.is_single:
            wide.setdefault(question.needs, []).append(name)
    groups = "; ".join(f"{', '.join(names)} ({needs})" for needs, names in wide.items())
    parts = [f"Too wide to tell: {groups}."] if wide else []
    parts += [f"One value each, to which a second seed gives an interval: {', '.join(single)}."] if single else []
    parts += [
        *_floors(scopes),
        *implausible_bases(summary["campaigns"]),
        *_failed_runs(summary),
        *_resumed_pairs(scopes),
        *_busy_pairs(summary),
    ]
    return " ".join(parts) or NOTHING


def _of_result(name: str, result: Mapping[str, Any], unit: str, plan: Mapping[str, Any]) -> _Question:
    """Return the question that an effect's verdict answers, or leaves open."""
    verdict = result["verdict"]
    counted = ("model", result["n"]) if "over" not in result else ("round", result["n"])
    if result.get("over") != "rounds" and "over" in result:
        counted = ("seed", result["seeds"])
    needs = verdict["reason"] or ""
    if result["detectable"] is not None:
        size = f"{result['detectable']:.2g} {unit}"
        needs = f"such data find {size} with {100 * plan['power_wanted']:.0f} %; the margin is {verdict['margin']:g}"
    needs += f"; n = {count_text(counted[1], counted[0])} now"
    return _Question(name, verdict["verdict"] == verdicts.CANNOT_TELL, result["se"] is None, needs)


def _of_ratio(name: str, estimate: Mapping[str, Any], margin: float, unit: str, *, is_open: bool) -> _Question:
    """Return a question on a speedup, or on a share of the time less 1."""
    single = estimate["low"] is None
    return _Question(name, is_open, single, "" if single else _needs(estimate, margin, unit))


def _loss(arm: str, other: str, result: Mapping[str, Any], plan: Mapping[str, Any]) -> _Question:
    return _of_result(f"loss of {arm} against {other}", result, "nats", plan)


def _of_arm(scope: Scope, plan: Mapping[str, Any]) -> Iterator[_Question]:
    arm, percent = scope.arm, plan["margins"]["time_percent"]
    turns = scope.has(arms.TURNS)
    speed, same = scope.of(arms.TURNS if turns else arms.WALL_CLOCK), scope.of(arms.SAME_ARM, STD)
    if speed is not None and speed["n"]:
        verdict = verdicts.speed(speed, same if turns else None, percent)
        yield _of_ratio(f"speed of {arm} against std", speed, percent, "%", is_open=verdict.startswith("cannot"))
    if (loss := scope.effect(HELDOUT_LOSS)) is not None:
        yield _loss(arm, STD, loss, plan)
    for control in scope.controls():
        if (loss := scope.effect(HELDOUT_LOSS, reference=control)) is not None:
            yield _loss(arm, control, loss, plan)
    ratio = scope.of(RATIO)
    if ratio and ratio["n"]:
        difference = verdicts.from_one(ratio)
        word, _ = verdicts.of_estimate(difference, percent / 100, higher_is_better=False)
        name = f"time of {arm} to the loss that std ends at"
        is_open = word == verdicts.CANNOT_TELL
        yield _of_ratio(name, difference, percent / 100, "of the time of std", is_open=is_open)
    if (retention := scope.effect(RETENTION_LOSS)) is not None:
        yield _of_result(f"loss of {arm} on general text", retention, "nats", plan)


def _of_other_arms(scope: Scope, matched: Sequence[Scope], plan: Mapping[str, Any]) -> Iterator[_Question]:
    """Yield the questions on the losses of further arms with as many steps as std."""
    others = dict.fromkeys(arm for model in scope.models for arm in model["against_std"])
    spoken_of = {STD, scope.arm, *(other.arm for other in matched if other.campaign is scope.campaign)}
    for arm in others:
        steps, result = scope.of("steps_ratio", arm), scope.effect(HELDOUT_LOSS, arm=arm)
        if arm not in spoken_of and steps and steps["mean"] == 1 and result is not None:
            yield _loss(arm, STD, result, plan)


def _of_extras(scope: Scope, plan: Mapping[str, Any]) -> Iterator[_Question]:
    for name, result in telling_extras(scope).items():
        yield _of_result(f"{TITLES[name]} of {scope.arm}", result, "points", plan)


def _of_compute_matched(scope: Scope, plan: Mapping[str, Any]) -> Iterator[_Question]:
    """Yield the question on the loss where compute matches; where that is open, the one on time."""
    share, _ = time_share(scope)
    margin = plan["margins"]["time_percent"]
    verdict = verdicts.time(share, margin)
    result = scope.effect(HELDOUT_LOSS)
    if verdict == verdicts.MATCHED and result is not None:
        yield _loss(scope.arm, f"{STD} at equal compute", result, plan)
    elif verdict.startswith("cannot"):
        name = f"whether {scope.arm} matches std in compute"
        yield _of_ratio(name, verdicts.from_one(share), margin / 100, "of the time of std", is_open=True)


def _needs(estimate: Mapping[str, Any], margin: float, size_unit: str) -> str:
    """Return the n at which an interval has the margin as half-width, at the observed SD, as text."""
    unit = estimate["unit"]
    needed = values_needed(estimate, margin, most=_MAX_VALUES)
    now = f"n = {count_text(estimate['n'], unit)} now"
    if needed is not None and needed <= estimate["n"]:
        return f"narrower than the margin but across it, so more {unit}s; {now}"
    many = f"more than {_MAX_VALUES} {unit}s" if needed is None else f"about {count_text(needed, unit)}"
    return f"{many} for ±{margin:g} {size_unit}; {now}"


def _list_names(items: Sequence[str]) -> str:
    return ", ".join(items[:_MAX_NAMED]) + (f" and {len(items) - _MAX_NAMED} more" if len(items) > _MAX_NAMED else "")


def _floors(scopes: Sequence[Scope]) -> list[str]:
    """Return the sentence on benchmarks on which a base model only guesses, with the models."""
    guessed: dict[str, dict[str, None]] = {}
    for scope in scopes:
        for model in scope.models:
            for name, test in model["extra"].get(scope.arm, {}).items():
                if not test["base_above_floor"] and not test["implausible_base"]:
                    guessed.setdefault(TITLES[name], {})[model["model"]] = None
    if not guessed:
        return []
    names = "; ".join(f"{title} of {_list_names(list(models))}" for title, models in guessed.items())
    return [f"At the floor, so that only questions which the base model does not guess would settle it: {names}."]


def _failed_runs(summary: Mapping[str, Any]) -> list[str]:
    """Return the sentence on failed runs and lost pairs with std; runs that campaigns share count once."""
    runs, lost = {}, {}
    for campaign in summary["campaigns"]:
        for run in campaign["runs"]["failed"]:
            runs[run["model"], run["arm"], run["seed"]] = run["status"].replace("_", " ")
        for model in campaign["models"]:
            others = {arm: own for arm, own in model["against_std"].items() if arm != STD}
            lost |= {(model["model"], arm): own[arms.LOSS]["lost"] for arm, own in others.items()}
    if not runs:
        return []
    named = _list_names([f"{model}/{arm}/seed{seed} ({status})" for (model, arm, seed), status in runs.items()])
    return [f"{count_text(len(runs), 'run')} failed: {named}; {count_text(sum(lost.values()), 'pair')} with std lost."]


def _resumed_pairs(scopes: Sequence[Scope]) -> list[str]:
    all_measures = [measures for scope in scopes for measures in scope.by_model(arms.WALL_CLOCK)]
    without = sum(measures[arms.WALL_CLOCK]["lost"] - measures[arms.LOSS]["lost"] for measures in all_measures)
    return [f"{count_text(without, 'pair')} without comparable times (a run was resumed)."] if without > 0 else []


def _busy_pairs(summary: Mapping[str, Any]) -> list[str]:
    blocks = [model["speed"] for campaign in summary["campaigns"] for model in campaign["models"] if model["speed"]]
    busy, pairs = sum(block["busy"] for block in blocks), sum(block["std_seconds"]["n"] for block in blocks)
    if not busy:
        return []
    return [f"{busy} of {count_text(pairs, 'pair')} timed on a busy machine; make audit says how to time them again."]
