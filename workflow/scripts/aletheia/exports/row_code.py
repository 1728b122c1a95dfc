"""Python that turns a staged row into a prompt and its completion, as the run's own encoding worded it."""

from __future__ import annotations

from aletheia.exports.choice import Choice
from aletheia.training.prompts import ALPACA_BARE, ALPACA_INPUT

ALPACA = '''WITH_INPUT = {with_input!r}
WITHOUT_INPUT = {without_input!r}


def example(row):
    """Return a row's prompt and its completion."""
    wording = WITH_INPUT if row.get("input") else WITHOUT_INPUT
    return {{"prompt": wording.format_map(row), "completion": row["output"]}}
'''
PLAIN = '''def example(row):
    """Return a row's prompt and its completion."""
    prompt = "".join(f"{row[key]}\\n" for key in ("instruction", "input") if row.get(key))
    return {"prompt": prompt, "completion": row["output"]}
'''
TEXT = '''def example(row):
    """Return a row's text."""
    return {"text": row["output"]}
'''
MESSAGES = '''def example(row):
    """Return a conversation without its last answer, and that answer."""
    return {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
'''
CHAT = '''def example(row):
    """Return a row as a conversation of one question and its answer."""
    question = "\\n\\n".join(row[key] for key in ("instruction", "input") if row.get(key))
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": row["output"]}],
    }
'''


def example_code(choice: Choice) -> str:
    """Return the code of ``example(row)``, whose result TRL's ``SFTTrainer`` takes as a row."""
    if choice.chat:
        return MESSAGES  # whatever the prompt says, as in aletheia.training.prompts
    if choice.prompt == "alpaca":
        return ALPACA.format(with_input=ALPACA_INPUT, without_input=ALPACA_BARE)
    return {"plain": PLAIN, "text": TEXT, "chat": CHAT}[choice.prompt]


def differences(choice: Choice) -> list[str]:
    """Return a sentence on what these rows leave out."""
    if not choice.chat or choice.loss_on == "all":
        return []
    return ["Of a conversation it learns the last answer alone; the run learnt every answer of the assistant."]
