"""What the written analyses and the findings say of effects that are not pooled, left out, or of several campaigns."""

import copy
import itertools

from aletheia.analysis.ledger import build_ledger
from aletheia.report import analyses
from aletheia.report.findings import findings_text
from ledgers import SEEDS, TEN_MODELS, TWO_MODELS, ledger_of, pair, run, study
from reports import summarise

THREE = dict(itertools.islice(TEN_MODELS.items(), 3))


def first_paragraph(text):
    return text.split("\n\n")[1]


def time_of(summary, arm="ale"):
    (one,) = [b for b in summary["campaigns"][0]["effects"] if (b["arm"], b["measure"]) == (arm, "time")]
    return one


def in_turns(models, *, same):
    """A ledger whose arms take nine tenths of std's time in turns, and std over itself ``same``."""
    (campaign,), runs, evaluations = study(models, arms=("std", "ale"), benchmarks=())
    campaign["speed"] = "turns"
    known = {"low": same - 0.01, "high": same + 0.01, "rounds": 6, "steps": 6}
    turns = {}
    for number, key in enumerate(key for key in runs if key[1] != "std"):
        ratio = {"value": same + 0.001 * (number % 4), **known}
        turns[key] = pair(*key, std=1.0, seconds=0.9 + 0.001 * (number % 5), probe_seconds=2.0, same_ratio=ratio)
    return build_ledger([campaign], runs, evaluations, turns=turns)


def test_over_models_too_an_arm_is_faster_only_beyond_what_std_differs_from_itself():
    noisy, quiet = (summarise(in_turns(THREE, same=same)) for same in (1.3, 1.001))
    verdict = time_of(noisy)["pooled"]["verdict"]
    assert (verdict["verdict"], verdict["reason"]) == ("cannot tell", "std differs as much from itself")
    assert time_of(quiet)["pooled"]["verdict"]["verdict"] == "better"
    # The width of the interval is not what hinders, so no difference is named that would be found.
    lines = [line for line in analyses.inference(noisy).splitlines() if line.startswith("- synthetic, 3 models: train")]
    assert lines
    assert all(line.endswith(": std differs as much from itself.") for line in lines)


def test_equal_values_show_nothing_over_models_either():
    found = summarise(ledger_of(TEN_MODELS, arms=("std", "cm"), benchmarks=("heldout",)))
    (loss,) = [b for b in found["campaigns"][0]["effects"] if (b["arm"], b["measure"]) == ("cm", "heldout_loss")]
    assert loss["pooled"]["se"] == 0
    assert loss["pooled"]["verdict"]["verdict"] == "cannot tell"


def test_findings_say_in_how_many_models_a_loss_or_a_benchmark_is_known_where_they_are_too_few():
    campaigns, runs, evaluations = study(THREE, arms=("std", "ale"), benchmarks=("mmlu",))
    for seed in SEEDS:
        runs["model-0", "ale", seed] = run("model-0", "ale", seed, status="diverged", eval_loss=None)
    text = findings_text(summarise(build_ledger(campaigns, runs, evaluations)))
    assert "The held-out loss of ale and std is known in 2 of 3 models only, too few for a mean over models." in text
    assert "MMLU tells something in 2 of 3 models only" in text
    assert "at the floor: MMLU" not in text


def test_a_floor_is_named_only_where_the_base_model_is_at_it():
    models = {"smollm2-135m": {**TWO_MODELS["smollm2-135m"], "mmlu": 0.25}}
    ledger = ledger_of(models, arms=("std", "ale"), benchmarks=("mmlu",))
    assert "was measured (base at the floor: MMLU)." in findings_text(summarise(ledger))
    above = ledger.assign(mmlu_base=0.5, status="diverged")
    assert "was measured." in findings_text(summarise(above))


def test_the_first_paragraph_counts_what_is_left_out_and_what_is_not_pooled():
    models = {name: {**law, "mmlu": 0.25 if name == "model-0" else 0.5} for name, law in THREE.items()}
    said = first_paragraph(analyses.forgetting_deltas(summarise(ledger_of(models, arms=("std", "ale")))))
    # HumanEval over three models; MMLU of the two above guessing.
    assert "Of 3 comparisons with std (arm × benchmark, each of one model or pooled over models)" in said
    assert "1 result of a single model is left out: the base model only guesses there" in said


def test_without_a_headline_model_it_is_not_said_that_nothing_was_measured():
    text = analyses.inference(summarise(ledger_of({"glasslm": TWO_MODELS["glasslm"]})))
    assert "No model of the headline has a result of the primary family." in text


def test_sentences_of_several_campaigns_name_theirs():
    (campaign,), runs, evaluations = study(THREE, arms=("std", "ale"), benchmarks=())
    second = copy.deepcopy(campaign) | {"name": "second"}
    said = first_paragraph(analyses.inference(summarise(build_ledger([campaign, second], runs, evaluations))))
    assert "synthetic, over 3 models: training time" in said
    assert "second, over 3 models: training time" in said
    alone = first_paragraph(analyses.inference(summarise(ledger_of(THREE, arms=("std", "ale"), benchmarks=()))))
    assert "Over 3 models: training time" in alone
