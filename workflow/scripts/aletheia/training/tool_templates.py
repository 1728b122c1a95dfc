"""Chat templates and tools: whether a template writes what a conversation's calls, results and descriptions say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aletheia.errors import UserError

Turn = Mapping[str, Any]


def refuse_lost_tools(
    messages: Sequence[Turn], write: Callable[..., str], *, tools: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Refuse a conversation with tools where the template leaves them out: its text is then the same without them.

    Parameters
    ----------
    messages
        Turns, as the template takes them.
    write
        From turns (and ``tools``) to the template's text.
    tools
        Descriptions of tools.

    Raises
    ------
    UserError
        For calls, results or descriptions that the template leaves out.
    """
    given = {} if tools is None else {"tools": tools}
    changed: dict[str, tuple[Sequence[Turn], dict[str, Any]]] = {}
    if any("tool_calls" in turn for turn in messages):
        without = [{key: value for key, value in turn.items() if key != "tool_calls"} for turn in messages]
        changed["calls of tools"] = without, given
    if any("tool_calls" in turn and turn["content"] for turn in messages):
        changed["texts beside calls of tools"] = _longer(messages, lambda turn: "tool_calls" in turn), given
    if any(turn["role"] == "tool" for turn in messages):
        changed["results of tools"] = _longer(messages, lambda turn: turn["role"] == "tool"), given
    if tools is not None:
        changed["descriptions of tools"] = messages, {}
    if not changed:
        return
    text = write(messages, **given)
    for what, (turns, options) in changed.items():
        if _text(turns, write, **options) == text:
            raise UserError(
                f"the tokenizer's chat template has no place for {what}, and would leave them out; choose a model that "
                "was made for tools (Qwen2.5, Llama 3.1), or write them as text of the user's and the assistant's turns"
            )


def _longer(messages: Sequence[Turn], which: Callable[[Turn], bool]) -> list[Turn]:
    """Return turns of which some say a little more."""
    return [{**turn, "content": f"{turn['content']}…"} if which(turn) else turn for turn in messages]


def _text(turns: Sequence[Turn], write: Callable[..., str], **options: Any) -> str | None:
    """Return the template's text; None where it refuses such turns, of which it then reads what was changed."""
    try:
        return write(turns, **options)
    except UserError:
        return None
