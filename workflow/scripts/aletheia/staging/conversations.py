"""Conversations as training rows have them: OpenAI's turns, ShareGPT's, lists of parts, and which turns are learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.staging import other_formats
from aletheia.staging.table_files import check_keys
from aletheia.staging.text_files import check_text, kind_of, short, shows
from aletheia.staging.tool_turns import read_calls, read_tools

ROLES = ("system", "user", "assistant", "tool")
# ShareGPT's roles, and those that LLaMA-Factory and Hermes add for tools; a function_call says a call in JSON.
SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "assistant", "bot", "model"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function", "function_response"), "tool"),
}
CALL = "function_call"
Turn = dict[str, Any]


def read_turns(turns: Any, where: str, *, column: str = "messages") -> list[Turn]:
    """Return turns as ``role`` and ``content``, whether they were written so or as ``from`` and ``value``.

    Parameters
    ----------
    turns
        A list of turns. A content may be a list of parts of type text, whose texts are joined without a space.
    where, column
        Where it stands, for sentences.

    Returns
    -------
    list of dict
        ``role`` (one of :data:`ROLES`) and ``content``, a text; where a turn has them, ``tool_calls`` (as
        :func:`aletheia.staging.tool_turns.read_calls` returns them), ``tool_call_id``, ``name`` of a tool, and
        ``train`` (False) of an assistant's turn that is marked as not to be learnt.

    Raises
    ------
    UserError
        For what is no turn, an unknown role, a content that is empty or no text, calls that are none.
    """
    if not isinstance(turns, list) or not turns:
        written = "; write it as a JSON list, not as text" if isinstance(turns, str) else ""
        raise UserError(f"{where}: expected {column} to be a list of turns, found {kind_of(turns)}{written}")
    return [_turn(turn, f"{where}, message {number}") for number, turn in enumerate(turns, start=1)]


def unlearnt(turns: Sequence[Turn]) -> list[Turn]:
    """Return turns of which none is learnt: those of a prompt, before the completion."""
    return [{**turn, "train": False} if turn["role"] == "assistant" else turn for turn in turns]


def conversation(turns: Sequence[Turn], where: str, *, tools: Any = None, system: Any = None) -> dict[str, Any]:
    """Return the row of a conversation; refuse one without a turn to learn from.

    Parameters
    ----------
    turns
        Of :func:`read_turns`.
    where
        Where the row stands, for sentences.
    tools
        What the model may call: descriptions, as a list or as JSON.
    system
        A text for a first turn, where the conversation does not begin with a system turn.

    Returns
    -------
    dict
        ``messages``, and ``tools``, as JSON, where there are any.

    Raises
    ------
    UserError
        For roles out of order, and descriptions that are none.
    """
    if isinstance(system, str) and shows(system) and turns[0]["role"] != "system":
        check_text(system, f"{where}: the system")
        turns = [{"role": "system", "content": system}, *turns]
    roles = [turn["role"] for turn in turns]
    if "assistant" not in roles or "user" not in roles[: roles.index("assistant")]:
        raise UserError(
            f"{where}: expected a user turn and then an assistant turn to learn from, found "
            f"{short(', '.join(roles))}{other_formats.turns_hint(roles)}"
        )
    if all(turn.get("train") is False for turn in turns if turn["role"] == "assistant"):
        raise UserError(
            f"{where}: expected an assistant turn to learn from, found each marked as none (weight, train); remove the "
            "row"
        )
    described = read_tools(tools, where)
    return {"messages": list(turns), **({"tools": described} if described else {})}


def _turn(message: Any, at: str) -> Turn:
    expected = f"{at}: expected a turn with role ({', '.join(ROLES)}) and content"
    if not isinstance(message, dict):
        raise UserError(f"{expected}, found {kind_of(message)}")
    check_keys(message, at)
    if message.get("role") is None and {"from", "value"} <= set(message):
        message = _of_sharegpt(message, at)
    role = "tool" if message.get("role") == "function" else message.get("role")
    if role not in ROLES:
        found = f"the role {short(role)!r}" if isinstance(role, str) else other_formats.column_names(message)
        raise UserError(f"{expected}, found {found}{other_formats.role_hint(message)}")
    calls = read_calls(message, at)
    if calls and role != "assistant":
        raise UserError(f"{at}: expected calls of tools in an assistant's turn, found one in a turn of the {role}")
    turn = {"role": role, "content": _content(message.get("content"), at, may_be_empty=bool(calls) or role == "tool")}
    if calls:
        turn["tool_calls"] = calls
    if role == "tool":
        turn |= {key: message[key] for key in ("name", "tool_call_id") if isinstance(message.get(key), str)}
    if role == "assistant" and (message.get("weight") == 0 or message.get("train") is False):
        turn["train"] = False
    return turn


def _of_sharegpt(message: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Return a turn of ShareGPT with role and content."""
    role, value = message["from"], message["value"]
    marks = {key: message[key] for key in ("weight", "train", "name") if key in message}
    if role == CALL:
        return {"role": "assistant", "content": "", "tool_calls": value, **marks}
    if not isinstance(role, str) or role not in SHAREGPT_ROLES:
        raise UserError(
            f"{at}: expected from to be human, gpt, system, tool, observation or {CALL}, found "
            f"{short(role) if isinstance(role, str) else kind_of(role)}"
        )
    return {"role": SHAREGPT_ROLES[role], "content": value, **marks}


def _content(content: Any, at: str, *, may_be_empty: bool) -> str:
    """Return the text of a turn."""
    if isinstance(content, list):
        content = "".join(_part(part, at) for part in content)
    if content is None and may_be_empty:
        return ""
    if not isinstance(content, str):
        raise UserError(
            f"{at}: expected text in content, found {kind_of(content)}{other_formats.content_hint(content)}"
        )
    if not may_be_empty and not shows(content):
        raise UserError(f"{at}: the content is empty; fill it in or remove the row")
    check_text(content, f"{at}: the content")
    return content


def _part(part: Any, at: str) -> str:
    """Return the text of one part of a content."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    found = f"one of type {short(repr(part.get('type', 'text')))}" if isinstance(part, dict) else kind_of(part)
    raise UserError(
        f"{at}: expected parts of type text in content, found {found}; only text is learnt: leave such rows out, or "
        "say in a part of type text what is seen or heard"
    )
