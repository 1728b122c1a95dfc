"""Tables: what a reader sees, the paper's values beside ours only where the model is the same."""

import pytest

from aletheia.analysis.paper_tables import load_published
from aletheia.errors import UserError
from aletheia.report import table_text
from aletheia.report.tables import TABLES
from aletheia.study import report_contents
from aletheia.study.published import model_key
from ledgers import TWO_MODELS, ledger_of
from reports import PUBLISHED, table


def test_numbers_as_text():
    assert table_text.number(-0.04, 1, "+") == "0.0"  # a rounded zero has no sign
    assert table_text.number(-1.25, 2, "+") == "−1.25"
    assert table_text.number(None, 1) == table_text.number(float("nan"), 1) == "–"
    assert table_text.mean_sd({"mean": 93.9, "sd": 1.5}, 1) == "93.9 ± 1.5"
    assert table_text.mean_sd({"mean": 93.9, "sd": None}, 1) == "93.9"
    assert table_text.p_value(1e-9) == "<0.0001"


def test_speed_table_states_n_units_and_overall():
    found = table(2, ledger_of())
    first = found.display.iloc[0]
    assert first["Model"] == "smollm2-135m"
    assert first["Std time (s)"] == "101.0 ± 1.0"
    assert first["Speedup (%)"] == "19.8 ± 0.2"
    assert first["n"] == "3"
    assert first["Paired"] == "device"
    assert list(found.display["Model"])[1:] == ["glasslm†", "Overall, unit: models", "Overall, unit: pairs"]
    assert "no part of the headline" in found.note
    assert not [c for c in found.display.columns if c.startswith("Paper")]
    assert found.numbers.loc[0, "speedup_percent_n"] == 3
    assert "std_seconds_mean" in found.numbers.columns


@pytest.mark.parametrize("number", [2, 5])
def test_tables_of_times_name_the_runs_that_kept_their_frozen_prefix(number):
    ledger = ledger_of()
    assert "computed each micro-batch once" not in table(number, ledger).note
    ledger["prefix_cache"] = None
    ledger.loc[(ledger["arm"] == "ale") & (ledger["model"] == "smollm2-135m"), "prefix_cache"] = "memory"
    assert "computed each micro-batch once and read the result afterwards: ale (3 runs)" in table(number, ledger).note


@pytest.mark.slow
def test_published_values_stand_beside_ours_where_names_match():
    models = {
        "qwen2.5-0.5b": {"family": "qwen2", "std": 100.0, "ale": 80.0},
        "other": TWO_MODELS["smollm2-135m"],
    }
    ledger = ledger_of(models)
    speed = table(2, ledger).display
    assert list(speed["Paper: speedup (%)"]) == ["26.1 ± 0.5", "–", "–", "–"]
    assert list(speed["Paper: ratio"])[:2] == ["1.353", "–"]
    assert list(speed["Paper: std time (s)"])[:2] == ["93.9 ± 1.5", "–"]
    assert list(speed["Paper: ale time (s)"])[:2] == ["69.4 ± 1.0", "–"]
    assert list(speed["Paper: p"])[:2] == ["0.0006", "–"]
    mmlu = table(3, ledger)
    assert list(mmlu.display["Paper: extra (pp)"]) == ["+0.5", "–"]
    assert mmlu.numbers["published_extra_pp"].isna().tolist() == [False, True]


@pytest.mark.slow
def test_the_papers_overall_stands_beside_ours_only_for_the_papers_ten_models():
    paper = load_published(PUBLISHED)[2]
    models = {key: {"family": "x", "std": 100.0, "ale": 80.0} for key in paper if key != "overall"}
    overall = table(2, ledger_of(models)).display.iloc[-1]
    assert (overall["Paper: speedup (%)"], overall["Paper: p"]) == ("23.1 ± 4.9", "<0.001")
    models.popitem()
    assert table(2, ledger_of(models)).display["Paper: speedup (%)"].iloc[-1] == "–"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "model"), [(1, "qwen2.5-7b"), (2, "qwen2.5-7b"), (3, "qwen2.5-7b"), (5, "qwen2.5-7b")]
)
def test_every_cell_that_the_paper_prints_of_a_model_stands_beside_ours(number, model):
    """But its name, and the key by which it is found; table 4 has a column a benchmark, of those of the study alone."""
    found = table(number, ledger_of({model: TWO_MODELS["smollm2-135m"]})).numbers.iloc[0]
    printed = {
        f"published_{k}": v for k, v in load_published(PUBLISHED)[number][model].items() if k not in ("key", "model")
    }
    assert printed == {name: found[name] for name in printed}


def test_the_papers_sizes_and_scores_have_columns_of_their_own():
    ledger = ledger_of({"mixtral-8x7b": TWO_MODELS["smollm2-135m"], "qwen2.5-7b": TWO_MODELS["glasslm"]})
    sizes = table(1, ledger).display
    assert list(sizes["Paper: parameters (billions)"]) == ["46", "7"]
    assert (list(sizes["Paper: family"]), list(sizes["Paper: campaigns"])) == (["Mistral", "Qwen"], ["2", "1, 2"])
    scores = table(3, ledger).display.iloc[1]
    heads = [name for name in scores.index if name.startswith("Paper")]
    assert [scores[name] for name in heads] == ["49.0", "50.3", "+1.3", "48.2", "−0.8", "−2.2"]


def test_a_published_name_is_matched_through_its_key():
    assert model_key("Mixtral-8×7B") == "mixtral-8x7b"
    assert all(
        model_key(row["model"]) == key for rows in load_published(PUBLISHED).values() for key, row in rows.items()
    )


def test_downstream_table_shows_the_benchmarks_of_the_study():
    found = table(4, ledger_of())
    assert list(found.display.columns) == ["Model", "ΔMMLU (pp)", "ΔHumanEval (pp)"]
    assert found.display.iloc[0, 1] == "+0.67 [−0.77, +2.10] (n = 3)"
    assert found.numbers["gsm8k_extra_pp_n"].tolist() == [0, 0]


@pytest.mark.slow
def test_compute_matched_table_and_none_without_cm():
    found = table(5, ledger_of())
    assert found.display.iloc[0]["Held-out loss, std (nats)"] == "1.990 ± 0.010"
    assert found.display.iloc[0]["Wall-clock, cm / std"] == "1.02 [1.02, 1.02]"
    assert found.numbers["arm"].tolist() == ["cm", "cm"]
    assert table(5, ledger_of(arms=("std", "ale"))).display.empty


@pytest.mark.slow
def test_several_campaigns_are_told_apart():
    from aletheia.analysis.ledger import build_ledger
    from ledgers import study

    (one,), runs, asked = study(TWO_MODELS, name="one")
    (two,), *_ = study(TWO_MODELS, name="two")
    both = build_ledger([one, two], runs, asked)
    assert set(table(2, both).display["Campaign"]) == {"one", "two"}
    assert "Campaign" not in table(2, ledger_of()).display
    assert list(table(1, both).display["Campaigns"]) == ["one, two"] * 2


def test_the_models_table_says_what_std_trains():
    assert list(table(1, ledger_of()).display["Trained parameters (std)"]) == ["12000", "12000"]
    assert "Trained parameters (std)" in table(1, ledger_of(arms=("ale",))).display


def test_reports_name_the_tables_and_analyses_that_can_be_made():
    assert report_contents.tables_of(report_contents.REPORTS) == sorted(TABLES)
    assert report_contents.tables_of([]) == [1]
    assert report_contents.tables_of(["speed"], compared=True) == [1, 2, 3, "S1"]
    assert report_contents.analyses_of(["speed", "downstream"]) == {"downstream": "FORGETTING_DELTAS_ANALYSIS.md"}


@pytest.mark.slow
@pytest.mark.parametrize("number", TABLES)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"seeds": (42,)},
        {"benchmarks": ()},
        {"arms": ("std", "ale")},
        {"arms": ("ale",)},
        {"benchmarks": ("heldout",), "arms": ("std", "ale")},
    ],
)
def test_every_table_renders_for_every_shape_of_study(number, how):
    found = table(number, ledger_of(**how))
    text = table_text.markdown(found) + table_text.latex(found)
    assert "nan" not in text.lower()
    assert "None" not in text


def test_latex_escapes_and_closes():
    text = table_text.latex(table(2, ledger_of()))
    assert r"Speedup (\%)" in text
    assert r"101.0 $\pm$ 1.0" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert table_text.tex_text("a_b & 5 % − \\") == r"a\_b \& 5 \% $-$ \textbackslash{}"


def test_a_missing_published_table_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="table 1"):
        load_published(tmp_path)
