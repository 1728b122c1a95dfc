"""Was choosing layers worth it, and which adapter follows: rules over verdicts that the statistics have reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.analysis.effects import HELDOUT_LOSS, RETENTION_LOSS, TIME_WITH_PROBE
from aletheia.analysis.verdicts import BETTER, CANNOT_TELL, EQUIVALENT, ONE_RUN, WORSE
from aletheia.study.arms import STD

WORTH_IT, NOT_WORTH_IT = "worth it", "not worth it"
Verdict = tuple[str, str]  # the word, and why
_LOWER, _EQUAL = "its held-out loss is lower", "its held-out loss is equivalent"
_BY_LOSS_AND_TIME: dict[tuple[str, str], Verdict] = {
    (BETTER, BETTER): (WORTH_IT, f"{_LOWER}, and its time shorter"),
    (BETTER, EQUIVALENT): (WORTH_IT, f"{_LOWER}, in equivalent time"),
    (BETTER, CANNOT_TELL): (WORTH_IT, f"{_LOWER}; whether its time is shorter cannot be told"),
    (BETTER, WORSE): (CANNOT_TELL, f"{_LOWER} and it takes longer; what {STD} reaches in that time was not tried"),
    (EQUIVALENT, BETTER): (WORTH_IT, f"{_EQUAL}, and its time shorter"),
    (EQUIVALENT, EQUIVALENT): (NOT_WORTH_IT, f"{_EQUAL}, and so is its time"),
    (EQUIVALENT, WORSE): (NOT_WORTH_IT, f"{_EQUAL}, and its time longer"),
    (EQUIVALENT, CANNOT_TELL): (CANNOT_TELL, f"{_EQUAL}; whether it saves time cannot be told"),
}


def worth_it(against: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Return whether an arm was worth it against std, and why.

    Worth it: its held-out loss is lower and its time not longer, or its loss is equivalent and its time shorter. Not
    worth it: its held-out loss, or its loss on general text, is higher; or its loss is equivalent and no time that
    matters is saved. Each of these words is a verdict by the margins of the plan; where one that decides is "cannot
    tell", so is this.

    Parameters
    ----------
    against
        By measure: results with ``verdict`` and ``reason`` (:mod:`aletheia.analysis.fit_summary`); the time is that
        with the probe. Empty where there is no std beside the arm.
    """
    if HELDOUT_LOSS not in against:
        return CANNOT_TELL, f"there is no {STD} to hold it against"
    loss, retention, time = (_word(against, measure) for measure in (HELDOUT_LOSS, RETENTION_LOSS, TIME_WITH_PROBE))
    if loss is None:
        return CANNOT_TELL, f"no seed has a run of it and of {STD} that both ended well"
    if WORSE in (loss, retention):
        return NOT_WORTH_IT, f"its {'held-out loss' if loss == WORSE else 'loss on general text'} is higher"
    if loss == CANNOT_TELL:
        return CANNOT_TELL, "whether it gives loss away cannot be told" + _because(against[HELDOUT_LOSS])
    word, why = _BY_LOSS_AND_TIME[loss, time or CANNOT_TELL]
    if word == WORTH_IT and retention in (CANNOT_TELL, None):
        why += "; whether it unlearns more general text cannot be told"
    return word, why + (_because(against[TIME_WITH_PROBE]) if word == CANNOT_TELL and time else "")


def _word(against: Mapping[str, Mapping[str, Any]], measure: str) -> str | None:
    return against.get(measure, {}).get("verdict")


def reason_in_words(result: Mapping[str, Any]) -> str:
    """Return what hinders a verdict, for readers; empty where nothing does but the width of the interval."""
    return {ONE_RUN: "one seed says nothing of others", None: ""}.get(result["reason"], result["reason"])


def _because(result: Mapping[str, Any]) -> str:
    reason = reason_in_words(result)
    return f" ({reason})" if reason else ""


def recommended_arm(arms: Mapping[str, Mapping[str, Any]]) -> tuple[str | None, str]:
    """Return the arm whose adapter is recommended, and why; None where there is none to recommend.

    Of the arms that are worth it the one with the lowest held-out loss against std. Where none is, std; where std has
    no run that ended well, the arm with the lowest mean held-out loss. None where no run ended well, and where the loss
    of that arm is shown to be higher than the base model's.

    Parameters
    ----------
    arms
        Of the summary.
    """
    ended = {arm: own for arm, own in arms.items() if own["ok"]}
    if not ended:
        return None, "no run ended well"
    worth = [arm for arm, own in ended.items() if own["worth_it"]["verdict"] == WORTH_IT]
    if worth:
        chosen = min(worth, key=lambda arm: ended[arm]["against_std"][HELDOUT_LOSS]["mean"])
        why = "worth it" if len(worth) == 1 else f"of the {len(worth)} that were worth it the one with the lowest loss"
    elif STD in ended:
        chosen, why = STD, _why_std(ended)
    else:
        chosen = min(ended, key=lambda arm: (ended[arm]["heldout"]["mean"] is None, ended[arm]["heldout"]["mean"] or 0))
        why = f"there is no {STD} that ended well to hold it against"
    if ended[chosen]["heldout_from_base"]["verdict"] == WORSE:
        return None, f"{chosen}, which would be, has a higher held-out loss than the base model"
    return chosen, why


def _why_std(ended: Mapping[str, Mapping[str, Any]]) -> str:
    words = {own["worth_it"]["verdict"] for arm, own in ended.items() if arm != STD}
    if not words:
        return "nothing else was trained"
    return "no other arm is shown to be worth it" if CANNOT_TELL in words else "no other arm is worth it"
