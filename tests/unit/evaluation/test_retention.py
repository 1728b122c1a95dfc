"""The retention loss: passages of text are staged, read token by token, and stand in the ledger where one asks them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from tokenizers.processors import TemplateProcessing
from torch.nn.functional import cross_entropy

from aletheia.cluster import cost
from aletheia.errors import UserError
from aletheia.evaluation import row_losses
from aletheia.evaluation.evaluate import LoadedModel
from aletheia.staging import build
from aletheia.staging.passages import read_passages
from aletheia.study.load import load_study
from aletheia.study.outputs import study_files
from aletheia.study.registry_entries import check_source
from conftest import ROOT
from evaluations import CONFIG, PASSAGES, ROWS, data_lock, evaluate
from ledgers import ledger_of

LIMIT = CONFIG["evaluation"]["retention"]["max_tokens"]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Staging


def test_passages_are_read_once_each_and_empty_ones_left_out(tmp_path):
    texts = ["One.", " ", "Two. ", "One.\n", ""]
    rows = [{"passage": text, "question": "q"} for text in texts]
    found, dropped = read_passages(lines(tmp_path / "boolq.jsonl", rows))
    assert [(row["id"], row["text"], row["source_row"]) for row in found] == [
        ("passage/0", "One.", 0),
        ("passage/2", "Two.", 2),
    ]
    assert dropped == {"empty": 2, "duplicate": 1}
    own, _ = read_passages(lines(tmp_path / "own.jsonl", [{"text": text} for text in texts]))
    assert own == found


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"question": "x"}], r"line 1: expected a passage in the column text or passage, found the columns question"),
        ([{"text": "x"}, {"text": 3}], r"line 2: expected text in the column text, found the number 3"),
        ([{"text": " "}], r"expected passages of text, found none that is not empty"),
        (["x"], r"line 1: expected one passage as an object"),
    ],
)
def test_what_is_no_passage_is_one_sentence(tmp_path, rows, sentence):
    with pytest.raises(UserError, match=sentence):
        read_passages(lines(tmp_path / "a.jsonl", rows))


def test_an_entry_of_the_registry_becomes_passages_drawn_by_its_seed(tmp_path):
    file = lines(tmp_path / "a.jsonl", [{"text": f"Passage {i % 8}."} for i in range(9)])
    entry = {"source": {"type": "local", "path": str(file), "format": "retention"}, "rows": 3, "seed": 1}
    made = build.build_data(entry, tmp_path / "out", tmp_path)
    assert (made["rows"], made["dropped"]) == ({"passages.jsonl": 3}, {"duplicate": 1})
    rows = [json.loads(line) for line in (tmp_path / "out" / "passages.jsonl").read_text().splitlines()]
    assert all(row["id"] == f"passage/{row['source_row']}" for row in rows)
    with pytest.raises(UserError, match=r"found it beside source\.format: retention, whose passages are not trained"):
        check_source("data", "mine", {**entry, "held_out": 3})
    with pytest.raises(UserError, match="fewshot goes with source"):
        check_source("data", "mine", {**entry, "fewshot": {"file": "x"}})


# The loss


def test_each_token_of_a_passage_counts_and_no_end_behind_it(loaded, staged):
    outcome = evaluate(loaded, "retention", staged)
    assert (outcome.n, outcome.score, outcome.degenerate) == (len(PASSAGES), None, None)
    for row, passage in zip(outcome.rows, PASSAGES, strict=True):
        tokens = loaded.tokenizer(passage["text"], add_special_tokens=False)["input_ids"][:LIMIT]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([tokens])).logits[0, :-1]
        expected = cross_entropy(logits, torch.tensor(tokens[1:])).item()
        assert (row["id"], row["tokens"]) == (passage["id"], len(tokens) - 1)
        assert row["loss"] == pytest.approx(expected, abs=1e-5)
    totals = np.array([(row["tokens"], row["tokens"] * row["loss"]) for row in outcome.rows])
    assert outcome.loss == pytest.approx(totals[:, 1].sum() / totals[:, 0].sum())
    assert outcome.stderr == pytest.approx(row_losses.ratio_stderr(totals[:, 0].tolist(), totals[:, 1].tolist()))
    lengths = [row["tokens"] for row in outcome.rows]
    assert max(lengths) == LIMIT - 1 > min(lengths)


def test_a_beginning_of_sequence_is_read_where_the_tokenizer_has_one(loaded):
    tokenizer = loaded.tokenizer
    texts = [{"text": "ab"}, {"text": "x"}]
    # Without one, nothing stands before the token of the second.
    assert [example["input_ids"] for example in row_losses.encode_passages(texts, tokenizer, 24)] == [[64, 65]]
    begin = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{begin[0]} $0", special_tokens=[begin])
    both = row_losses.encode_passages(texts, tokenizer, 24)
    assert [example["input_ids"] for example in both] == [
        [begin[1], 64, 65],
        [begin[1], *tokenizer("x")["input_ids"][1:]],
    ]
    assert [example["labels"][1:] for example in both] == [example["input_ids"][1:] for example in both]


def test_fewer_passages_than_asked_for_are_noted(loaded, staged, capsys):
    evaluate(loaded, "retention", staged, retention={"passages": "retention", "rows": 9, "max_tokens": 8})
    said = capsys.readouterr().out
    assert "note: retention loss over 5 passages, fewer than evaluation.retention.rows=9" in said
    assert "5 of 5 passages, each up to 8 tokens" in said


def test_the_window_bounds_the_passages(loaded, staged):
    with pytest.raises(UserError, match=r"max_tokens is 4096, and the model's context has 1024 tokens"):
        evaluate(loaded, "retention", staged, retention={"passages": "retention", "rows": 5, "max_tokens": 4096})


def test_held_out_rows_in_the_place_of_passages_are_one_sentence(tmp_path):
    from aletheia.evaluation.evaluated_run import EvaluationInputs, evaluations
    from evaluations import model_lock

    docs = data_lock(tmp_path, "docs", train=ROWS, heldout=ROWS)
    settings = {**CONFIG["evaluation"], "benchmarks": ["retention"]}
    settings["retention"] = {**settings["retention"], "passages": "docs"}
    inputs = EvaluationInputs(model_lock(tmp_path), docs, [docs])
    with pytest.raises(UserError, match=r"expected passages\.jsonl for retention, found heldout\.jsonl, train\.jsonl"):
        next(evaluations(inputs, {**CONFIG, "evaluation": settings}, tmp_path))


# In a study


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that loads the tiny study with the retention loss, whose section is given."""
    monkeypatch.chdir(ROOT)
    campaign = yaml.safe_load((ROOT / "tests/study/campaign.yaml").read_text())
    data = yaml.safe_load((ROOT / "tests/study/data.yaml").read_text())
    data["retention"] = {"source": {"type": "local", "path": "passages.jsonl", "format": "retention"}, "rows": 64}

    def load(benchmarks=("heldout", "retention"), reports=("speed",), **section):
        evaluation = {**campaign["evaluation"], "retention": section}
        changed = {**campaign, "benchmarks": [*benchmarks], "reports": [*reports], "evaluation": evaluation}
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(changed))
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
        config = {"campaigns": [str(tmp_path / "campaign.yaml")], "data": str(tmp_path / "data.yaml")}
        return load_study({**config, "models": "tests/study/models.yaml"})

    return load


def test_a_campaign_asks_it_by_its_name_and_says_how_much_is_read(study):
    asked = study()
    section = {"passages": "retention", "rows": 48, "max_tokens": 128}
    assert asked.shared["tiny-llama"]["evaluation"]["retention"] == section
    assert "retention" in asked.used_data()
    assert study_files(asked)["results/evaluate/tiny-llama/base/retention.json"] == "evaluate_heldout_retention"
    assert cost.questions_of(asked, "tiny-llama") == {"retention": 48}
    entry = {"parameters": 10**9, "layers": 4, "quantization": None, "time": {"seconds_per_step": 3.0}}
    settings = asked.runs["tiny-llama", "std", 1].settings
    evaluation, per_row = asked.shared["tiny-llama"]["evaluation"], 0.5 / 4 * 3.0
    longer = cost.evaluation_seconds(entry, settings, evaluation, {"retention": 48})
    assert longer - cost.evaluation_seconds(entry, settings, evaluation, {}) == pytest.approx(48 * 128 / 150 * per_row)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"rows": 65}, r"evaluation\.retention\.rows is 65, and retention has 64 passages .*; lower it, or raise rows"),
        ({"passages": "mmlu"}, r"mmlu has mmlu questions .*, and this needs retention passages"),
        ({"passages": "rows"}, r"rows has training rows .*, and this needs retention passages"),
        ({"questions": "retention"}, r"evaluation\.retention: unknown key 'questions'"),
        ({"max_tokens": 1}, r"evaluation\.retention\.max_tokens: expected at least 2, found 1"),
        ({"reports": ["downstream"]}, r"downstream is about benchmarks with questions, and benchmarks names none"),
    ],
)
def test_mistakes_are_one_sentence(study, given, sentence):
    with pytest.raises(UserError, match=sentence):
        study(**given)


def test_the_ledger_has_its_columns_where_a_campaign_asks_it():
    own = ["retention_loss_base", "retention_loss", "retention_n", "retention_status"]
    ledger = ledger_of(benchmarks=("heldout", "retention"))
    assert list(ledger.columns)[-4:] == own
    assert ledger["retention_loss"].notna().all()
    assert not set(own) & set(ledger_of().columns)


def test_a_loss_that_is_not_a_number_fails(loaded, staged):
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(float("nan"))
    outcome = evaluate(LoadedModel(loaded.model, loaded.tokenizer, 2), "retention", staged)
    assert (outcome.status, outcome.loss) == ("failed", None)
    assert outcome.reason == "the loss of 5 of 5 passages is not finite"
