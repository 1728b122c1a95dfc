"""What cannot be asked, each in one sentence."""

import json
import os
import subprocess
import sys

import pytest

from aletheia.errors import UserError
from aletheia.fit.options import Options, checked, seconds_of
from aletheia.fit.survey import survey
from aletheia.staging.convert import byte_tokenizer
from conftest import SCRIPTS
from hub_server import Hub


@pytest.fixture
def place(tmp_path):
    """Return a folder with something like a model, and three rows."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 64}))
    rows = [{"instruction": "Say it.", "output": f"It is {i}."} for i in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def asked(place, **given):
    return Options(**{"model": str(place / "model"), "data": str(place / "rows.jsonl"), **given})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"model": "no/such/folder"}, "MODEL: expected a folder or an id on the hub"),
        ({"model": "{}/rows.jsonl"}, "MODEL: expected a folder .*, found the file"),
        ({"model": "{}"}, "MODEL: expected a folder with a model, found no config.json"),
        (
            {"model": "here/mdoel"},
            "MODEL: expected a folder or an id on the hub .*, found nothing at here/mdoel; check",
        ),
        ({"data": "here/rows"}, "DATA: expected a file of rows .*, found nothing at here/rows"),
        ({"data": "nowhere/rows.csv"}, "DATA: expected a file of rows .*, found nothing at nowhere/rows.csv"),
        ({"data": "{}/none.jsonl"}, "DATA: expected a file of rows .*, found nothing at"),
        ({"data": "{}/model"}, "DATA: expected a file of rows .*, found the folder"),
        ({"epochs": 2.0, "seconds": 60.0}, "--epochs and --time: expected one of both"),
        ({"rate": 1e-3, "search": "quick"}, "--rate: expected none beside --search quick"),
        ({"arms": ("lsat_half",)}, "--arms: expected presets .*, found 'lsat_half'; did you mean 'last_half'"),
        (
            {"arms": ("nope",)},
            "--arms: expected presets .*, found 'nope'; known are accumulation_1, attention, .*v_o_down",
        ),
        ({"arms": ("gradient_half",)}, r"--arms: gradient_half is part of every such study \(as ale\)"),
        ({"retention": "{}/none.txt"}, "--retention: expected a file of passages, or the word none"),
        (
            {"columns": (("frage", "instruction"),)},
            "--columns: expected our name .*'frage'; known are",
        ),
        ({"columns": (("output", "a"), ("output", "b"))}, "--columns: expected output once, found it 2 times"),
        ({"seconds": 600.0, "search": "full"}, "--time: expected --search none or quick"),
    ],
)
def test_a_mistake_is_one_sentence(place, monkeypatch, given, sentence):
    (place / "here").mkdir()
    monkeypatch.chdir(place)
    given = {key: value.format(place) if isinstance(value, str) else value for key, value in given.items()}
    with pytest.raises(UserError, match=sentence):
        checked(asked(place, **given))


def test_what_can_be_asked_is_returned_as_it_is(place):
    options = asked(place, arms=("last_half",), seconds=60.0)
    assert checked(options) is options
    assert checked(asked(place, model="owner/name")).model == "owner/name"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_a_time_has_a_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "0m", "-5m", "1:30", "10 m"])
def test_no_time(text):
    with pytest.raises(UserError, match=r"--time: expected a time such as 90s, 10m or 1\.5h"):
        seconds_of(text)


def test_seeds_follow_from_the_search_or_are_asked():
    assert [Options("m", "d", search=search).run_seeds for search in ("none", "quick", "full")] == [
        (42,),
        (42, 123),
        (42, 123),
    ]
    assert Options("m", "d", seeds=3).run_seeds == (42, 123, 999)


def test_three_rows_are_too_few(place):
    with pytest.raises(UserError, match=r"rows\.jsonl: expected at least 20 rows, .* found 3; add rows"):
        survey(asked(place))


def test_a_look_at_rows_and_model_says_their_lengths_and_form(place):
    rows = [{"instruction": "Say it.", "output": "x" * number} for number in range(1, 31)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"MODEL: expected a folder with a tokenizer beside config\.json"):
        survey(asked(place))
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(place / "model")
    found = survey(asked(place, retention="none"))
    assert (len(found.rows), found.prompt, found.context, found.passages) == (30, "chat", 64, 0)
    with pytest.raises(UserError, match=r"--max-tokens: expected at most 64, the positions that .*, found 65"):
        survey(asked(place, max_tokens=65))
    # A byte is a token; the longest row's output has one more than the next one's.
    assert found.lengths[-1] - found.lengths[-2] == 1
    tokenizer.chat_template = None
    (place / "model" / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(place / "model")
    assert survey(asked(place)).prompt == "alpaca"


def test_passages_are_counted_once_each_and_a_file_of_another_form_is_refused(place):
    byte_tokenizer().save_pretrained(place / "model")
    rows = "".join(json.dumps({"instruction": f"{i}?", "output": f"it is {i}"}) + "\n" for i in range(25))
    (place / "rows.jsonl").write_text(rows)
    general = place / "general.csv"
    general.write_text("text\nThe sea is wide.\nThe sea is wide.\nThe sun is far.\n")
    assert survey(asked(place, retention=str(general))).passages == 2
    with pytest.raises(UserError, match=r"rows\.jsonl, line 1: expected a passage in the column text or passage"):
        survey(asked(place, retention=str(place / "rows.jsonl")))


def test_columns_of_other_names_are_looked_at_as_ours(place):
    byte_tokenizer().save_pretrained(place / "model")
    (place / "faq.csv").write_text("frage;antwort\n" + "".join(f"{i}?;es ist {i}\n" for i in range(25)))
    named = asked(place, data=str(place / "faq.csv"), columns=(("instruction", "frage"), ("output", "antwort")))
    last = survey(checked(named)).rows[24]
    assert last == {
        "instruction": "24?",
        "input": "",
        "output": "es ist 24",
        "source_row": 24,
    }


# A process of its own: the hub's library reads its address when it is imported.
LOOK = """
import sys
from aletheia.fit.options import Options, checked
from aletheia.fit.survey import survey
found = survey(checked(Options(model=sys.argv[1], data="them/rows", retention="none")))
print(len(found.rows), found.rows[-1]["output"], found.prompt)
"""


@pytest.mark.slow
def test_rows_of_the_hub_are_looked_at_before_they_are_staged(place):
    byte_tokenizer().save_pretrained(place / "model")
    rows = "".join(json.dumps({"prompt": f"{i}?", "completion": f"it is {i}"}) + "\n" for i in range(25))
    with Hub({"them/rows": {"train.jsonl": rows.encode(), "README.md": b"no"}}) as server:
        environment = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
        done = subprocess.run(
            [sys.executable, "-c", LOOK, place / "model"],
            env={**environment, "PYTHONPATH": str(SCRIPTS), "HF_HOME": str(place / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.splitlines()[-1:] == ["25 it is 24 chat"], done.stderr
