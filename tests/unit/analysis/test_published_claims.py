"""The table of claims has a closed schema; what is not of it is refused in one sentence."""

import shutil

import pytest

from aletheia.analysis.published_claims import COLUMNS, load_claims
from aletheia.analysis.published_numbers import published_numbers
from aletheia.errors import UserError
from aletheia.provenance.lineage import ROOT

PUBLISHED = ROOT / "config" / "published"
GOOD = {
    "id": "mean",
    "section": "abstract",
    "quote": "mean 23.1%",
    "models": "Qwen2.5-7B; Mixtral-8×7B",
    "quantity": "speedup_percent",
    "relation": "between",
    "threshold": "15;28",
    "unit": "percent",
    "rule": "every_model",
}


def table(path, *rows, columns=COLUMNS):
    lines = [",".join(columns), *(",".join(row[name] for name in COLUMNS) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_row_becomes_a_claim_with_models_by_their_keys(tmp_path):
    (claim,) = load_claims(table(tmp_path / "claims.csv", GOOD))
    assert (claim.models, claim.threshold) == (("qwen2.5-7b", "mixtral-8x7b"), ("15", "28"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"quantity": "speed"}, "expected a quantity among speedup_percent, .*, found 'speed'"),
        ({"relation": "above"}, "expected a relation among at_least, .*, found 'above'"),
        ({"section": "9"}, "expected a section .*, found '9'"),
        ({"rule": "all"}, "expected a rule among every_model, .*, found 'all'"),
        ({"threshold": "15"}, "between expected 2 numbers, separated by ';', as threshold, found '15'"),
        ({"threshold": "15;nan"}, "between expected 2 numbers"),
        ({"threshold": "15;x"}, "between expected 2 numbers"),
        ({"threshold": "28;15"}, "expected the lower number first, found '28;15'"),
        ({"relation": "states_no_bound"}, "states_no_bound expected 0 numbers"),
        ({"unit": "points"}, "expected the unit percent for this quantity and relation, found 'points'"),
        ({"quote": ""}, "expected words under quote, found an empty cell"),
        ({"models": " "}, "expected words under models, found an empty cell"),
        (
            {"relation": "significant", "threshold": "0.05", "unit": "p", "rule": "every_run"},
            "significant expected a rule among every_model, mean_over_models, found every_run",
        ),
        ({"quote": "one, two"}, "expected 9 cells, found another number"),
    ],
)
def test_a_row_that_is_not_of_the_schema_is_refused_with_its_line(tmp_path, change, sentence):
    path = table(tmp_path / "claims.csv", GOOD, {**GOOD, "id": "second"} | change)
    with pytest.raises(UserError, match=f"claims.csv, line 3: .*{sentence}"):
        load_claims(path)


def test_a_table_that_is_missing_or_has_other_columns_or_an_id_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected the paper's claims here, found none"):
        load_claims(tmp_path / "claims.csv")
    with pytest.raises(UserError, match="expected the columns id, section"):
        load_claims(table(tmp_path / "other.csv", GOOD, columns=COLUMNS[::-1]))
    with pytest.raises(UserError, match="expected each id once, found mean twice"):
        load_claims(table(tmp_path / "twice.csv", GOOD, GOOD))


def test_numbers_without_the_recipe_search_are_refused(tmp_path):
    folder = shutil.copytree(PUBLISHED, tmp_path / "published")
    (folder / "autoresearch.csv").unlink()
    with pytest.raises(UserError, match=r"expected the numbers of the paper's section 3.5 here, found none"):
        published_numbers(folder)
