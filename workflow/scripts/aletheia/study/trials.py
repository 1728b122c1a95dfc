"""Arms whose learning rate is chosen among those of other arms, their trials, by the held-out loss of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.study.arms import MakeError, entries, error_of_arm
from aletheia.study.benchmarks import HELDOUT, TEST
from aletheia.study.recipes import RATE, SECTIONS, trials_of
from aletheia.study.schema_sentences import nearest
from aletheia.study.study import Run, Study


def settle_rates(study: Study) -> None:
    """Give each run whose rate is chosen the seed of its trials, once all campaigns are loaded.

    The trials of an arm run at the first seed of its campaign, so that all of its seeds have one rate. Until it is
    chosen, ``training.learning_rate`` is that of the first trial: arms that are timed in turns have it, and no time
    depends on it.

    Parameters
    ----------
    study
        Whose runs are changed.

    Raises
    ------
    UserError
        When a trial is no run of the study, has no rate of its own, or differs from the arm in more than the rate; and
        where the rows that choose would judge too.
    """
    for campaign in study.campaigns:
        for model in campaign["models"]:
            for arm, entry in entries(campaign, model).items():
                if trials_of(entry):
                    say = error_of_arm(Path(campaign["path"]), campaign, model, arm)
                    _check_judged_apart(study, model, arm, say)
                    first = campaign["seeds"][0]
                    trials = [_trial(study, study.run(model, arm, first), name, say) for name in trials_of(entry)]
                    for seed in campaign["seeds"]:
                        _settle(study.run(model, arm, seed), trials[0], say)


def _check_judged_apart(study: Study, model: str, arm: str, say: MakeError) -> None:
    """Refuse an arm that is judged by the held-out rows, by which its rate is chosen."""
    if HELDOUT not in study.benchmarks_of(model, arm):
        raise say(
            RATE,
            f"best_of chooses by the held-out rows, so that other rows must judge; add {HELDOUT} to the benchmarks of "
            f"{arm}, with evaluation: {{{HELDOUT}: {{split: {TEST}}}}}",
        )
    if study.shared[model]["evaluation"][HELDOUT]["split"] != TEST:
        raise say(
            RATE,
            "best_of chooses by the held-out rows, and rows that choose must not judge; write evaluation: "
            f"{{{HELDOUT}: {{split: {TEST}}}}}",
        )


def _trial(study: Study, run: Run, name: str, say: MakeError) -> Run:
    """Return a trial of a run, after checking that it differs in its rate alone."""
    trial = study.runs.get((run.model, name, run.seed))
    if trial is None:
        arms = [other.arm for other in study.runs.values() if (other.model, other.seed) == (run.model, run.seed)]
        raise say(
            RATE,
            f"best_of names {name!r}, and {run.model} has no arm of that name with seed {run.seed}, the first of the "
            f"campaign{nearest(name, [arm for arm in arms if arm != run.arm])}",
        )
    if trials_of(trial.arm_settings):
        raise say(RATE, f"best_of names {name}, whose own rate is chosen; name arms that state a number")
    own, others = _decisive(run), _decisive(trial)
    differing = [key for key in dict.fromkeys([*own, *others]) if own.get(key) != others.get(key)]
    if differing:
        raise say(
            RATE,
            f"best_of names {name}, which has another {differing[0]}: its rate is the best of another arm; make both "
            "equal in all but learning_rate",
        )
    return trial


def _decisive(run: Run) -> dict[str, Any]:
    """Return all settings of a run but its rate."""
    settings: Mapping[str, Any] = {key: value for section in SECTIONS for key, value in run.settings[section].items()}
    return {key: value for key, value in {**settings, **run.arm_settings}.items() if key != RATE}


def _settle(run: Run, first: Run, say: MakeError) -> None:
    if run.trial_seed not in (None, first.seed):
        raise say(
            RATE,
            f"best_of chooses at seed {first.seed}, the first of this campaign, and at seed {run.trial_seed} in an "
            "earlier one; begin both with the same seed, or give the arm another name in one of them",
        )
    run.trial_seed = first.seed
    training = {**run.settings["training"], RATE: first.settings["training"][RATE]}
    run.settings = {**run.settings, "training": training}
