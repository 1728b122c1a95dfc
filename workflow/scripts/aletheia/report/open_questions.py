"""The comparisons that a study leaves open, and the n that would settle them: the last sentence of its findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.analysis import arms, verdicts
from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.stats import values_needed
from aletheia.analysis.time_to_loss import RATIO
from aletheia.report.finding_scopes import Scope, count_text, matched_scopes, telling_extras, time_share
from aletheia.study.arms import STD

_MAX_VALUES = 1000  # largest n that is looked for
_MAX_NAMED = 6  # failed runs, or models at the floor, that are named
_PERCENT = 100 * verdicts.MARGIN_TIME
NOTHING = "No planned comparison is too wide or at the floor, no run failed and no pair was timed on a busy machine."


@dataclass(frozen=True)
class _Question:
    """A planned comparison: its name, its estimate as a difference from 0, and the margin that counts as 0."""

    name: str
    estimate: Mapping[str, Any]
    margin: float
    unit: str
    is_open: bool


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
    all_questions = []
    for scope in scopes:
        questions = [*_of_arm(scope), *_of_other_arms(scope, matched), *_of_extras(scope)]
        all_questions += [(question, scope) for question in questions]
    all_questions += [(question, scope) for scope in matched for question in _of_compute_matched(scope)]
    named = [(q, f"{q.name} ({scope.name})" if several else q.name) for q, scope in all_questions if q.is_open]
    single = [name for question, name in named if question.estimate["low"] is None]
    wide: dict[str, list[str]] = {}
    for question, name in named:
        if question.estimate["low"] is not None:
            wide.setdefault(_needs(question), []).append(name)
    groups = "; ".join(f"{', '.join(names)} ({needs})" for needs, names in wide.items())
    parts = [f"Too wide to tell: {groups}."] if wide else []
    parts += [f"One value each, to which a second seed gives an interval: {', '.join(single)}."] if single else []
    parts += [*_floors(scopes), *_failed_runs(summary), *_resumed_pairs(scopes), *_busy_pairs(summary)]
    return " ".join(parts) or NOTHING


def _question(name: str, estimate: Mapping[str, Any], margin: float, unit: str, *, is_ratio: bool = False) -> _Question:
    """Return the question whether a difference is 0, or a ratio 1."""
    difference = verdicts.from_one(estimate) if is_ratio else estimate
    return _Question(name, difference, margin, unit, verdicts.position(difference, margin) in ("open", "single"))


def _loss(arm: str, other: str, difference: Mapping[str, Any]) -> _Question:
    return _question(f"loss of {arm} against {other}", difference, verdicts.MARGIN_NATS, "nats")


def _of_arm(scope: Scope) -> Iterator[_Question]:
    arm = scope.arm
    turns = scope.has(arms.TURNS)
    speed, same = scope.of(arms.TURNS if turns else arms.WALL_CLOCK), scope.of(arms.SAME_ARM, STD)
    undecided = verdicts.speed(speed, same if turns else None).startswith("cannot")
    yield _Question(f"speed of {arm} against std", speed, _PERCENT, "%", undecided)
    yield _loss(arm, STD, scope.of(arms.LOSS))
    for control, measures in scope.controls().items():
        yield _loss(arm, control, measures[arms.LOSS])
    if scope.of(RATIO):
        name = f"time of {arm} to the loss that std ends at"
        yield _question(name, scope.of(RATIO), verdicts.MARGIN_TIME, "of the time of std", is_ratio=True)
    if scope.of(arms.RETENTION_LOSS):
        yield _question(f"loss of {arm} on general text", scope.of(arms.RETENTION_LOSS), verdicts.MARGIN_NATS, "nats")


def _of_other_arms(scope: Scope, matched: Sequence[Scope]) -> Iterator[_Question]:
    """Yield the questions on the losses of further arms with as many steps as std."""
    others = dict.fromkeys(arm for model in scope.models for arm in model["against_std"])
    spoken_of = {STD, scope.arm, *(other.arm for other in matched if other.campaign is scope.campaign)}
    for arm in others:
        steps = scope.of("steps_ratio", arm)
        if arm not in spoken_of and steps and steps["mean"] == 1:
            yield _loss(arm, STD, scope.of(arms.LOSS, arm))


def _of_extras(scope: Scope) -> Iterator[_Question]:
    for name, test in telling_extras(scope).items():
        yield _question(f"{TITLES[name]} of {scope.arm}", test["difference"], verdicts.MARGIN_PP, "points")


def _of_compute_matched(scope: Scope) -> Iterator[_Question]:
    """Yield the question on the loss where compute matches; where that is open, the one on time."""
    share, _ = time_share(scope)
    verdict = verdicts.time(share)
    if verdict == "matched":
        yield _loss(scope.arm, f"{STD} at equal compute", scope.of(arms.LOSS))
    elif verdict.startswith("cannot"):
        name = f"whether {scope.arm} matches std in compute"
        question = _question(name, share, verdicts.MARGIN_TIME, "of the time of std", is_ratio=True)
        yield _Question(name, question.estimate, question.margin, question.unit, is_open=True)


def _needs(question: _Question) -> str:
    """Return the n at which a question's interval has the margin as half-width, at the observed SD, as text."""
    estimate, unit = question.estimate, question.estimate["unit"]
    needed = values_needed(estimate, question.margin, most=_MAX_VALUES)
    now = f"n = {count_text(estimate['n'], unit)} now"
    if needed is not None and needed <= estimate["n"]:
        return f"narrower than the margin but across it, so more {unit}s; {now}"
    many = f"more than {_MAX_VALUES} {unit}s" if needed is None else f"about {count_text(needed, unit)}"
    return f"{many} for ±{question.margin:g} {question.unit}; {now}"


def _list_names(items: Sequence[str]) -> str:
    return ", ".join(items[:_MAX_NAMED]) + (f" and {len(items) - _MAX_NAMED} more" if len(items) > _MAX_NAMED else "")


def _floors(scopes: Sequence[Scope]) -> list[str]:
    """Return the sentence on benchmarks on which a base model only guesses, with the models."""
    guessed: dict[str, dict[str, None]] = {}
    for scope in scopes:
        for model in scope.models:
            for name, test in model["extra"].get(scope.arm, {}).items():
                if not test["base_above_floor"]:
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
