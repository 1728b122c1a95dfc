"""export, merge and chat as commands: what they know without a study, and their mistakes in one sentence."""

import argparse

import pytest

from aletheia.commands import chat, export, merge
from aletheia.errors import UserError
from aletheia.exports.formats import WRITERS


def parsed(command, *words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_command_names_the_tools_that_there_are():
    assert set(export.TOOLS) == set(WRITERS)


def test_the_study_is_the_working_folder_unless_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^\.: expected a study with finished runs"):
        export.run(parsed(export, "--for", "peft"))
    with pytest.raises(UserError, match=r"^there: expected the folder of a study"):
        export.run(parsed(export, "there", "--for", "peft"))


@pytest.mark.parametrize(("command", "words"), [(merge, ("--out", "merged")), (chat, ())])
def test_an_adapter_that_is_not_there_is_one_sentence(command, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^there: expected the folder of a study, found none here"):
        command.run(parsed(command, "there", *words))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("temperature", ["-1", "nan", "inf"])
def test_a_temperature_is_a_number_from_0(temperature):
    with pytest.raises(UserError, match="--temperature: expected a number of at least 0, found"):
        chat.run(parsed(chat, "--temperature", temperature))
