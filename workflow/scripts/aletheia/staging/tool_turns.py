"""Calls and descriptions of tools in conversations, checked; kept as JSON, whose keys have the user's order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.staging.table_files import check_keys, parse_json
from aletheia.staging.text_files import check_text, kind_of, short

CALL = '{"name": …, "arguments": {…}}'
TOOL = '{"type": "function", "function": {"name": …, "description": …, "parameters": {…}}}'


def read_calls(message: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    """Return the calls of a turn.

    Parameters
    ----------
    message
        The turn; ``tool_calls`` is a list of calls or such a list as JSON, ``function_call`` (OpenAI's older form) one
        call. A call is ``name`` and ``arguments``, bare or under ``function``.
    at
        Where it stands, for sentences.

    Returns
    -------
    list of dict
        ``type``, ``function`` with ``name`` and ``arguments`` (an object as JSON), and ``id`` where it has one.

    Raises
    ------
    UserError
        For malformed JSON, or a call without a name or with other arguments than an object.
    """
    found = message.get("tool_calls") or message.get("function_call") or []
    found = _parsed(found, f"{at}: the call")
    calls = found if isinstance(found, list) else [found]
    return [_call(call, f"{at}, call {number}") for number, call in enumerate(calls, start=1)]


def _call(call: Any, at: str) -> dict[str, Any]:
    function = call.get("function") or call if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise UserError(f"{at}: expected a call such as {CALL}, found {_shown(call)}")
    for each in (call, function):
        check_keys(each, at)
    arguments = _parsed(function.get("arguments") or {}, f"{at}: the arguments")
    if not isinstance(arguments, dict):
        raise UserError(f"{at}: expected arguments to be an object, found {kind_of(arguments)}")
    check_keys(arguments, at)
    check_text(function["name"], f"{at}: the name")
    made = {"name": function["name"], "arguments": _json(arguments, f"{at}: the arguments")}
    identifier = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {"type": "function", "function": made, **identifier}


def read_tools(tools: Any, where: str) -> str | None:
    """Return the descriptions of a row's tools as JSON; None where it has none.

    Parameters
    ----------
    tools
        A list of descriptions, or such a list as JSON; each bare or under ``function``.
    where
        Where it stands, for sentences.

    Raises
    ------
    UserError
        For malformed JSON, or a description without a name.
    """
    tools = _parsed(tools, f"{where}: the tools")
    if not tools:
        return None
    if not isinstance(tools, list):
        raise UserError(f"{where}: expected tools to be a list such as [{TOOL}], found {kind_of(tools)}")
    described = []
    for number, tool in enumerate(tools, start=1):
        at = f"{where}, tool {number}"
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError(f"{at}: expected a tool such as {TOOL}, found {_shown(tool)}")
        for each in (tool, function):
            check_keys(each, at)
        described.append(tool if "function" in tool else {"type": "function", "function": function})
    return _json(described, f"{where}: the tools")


def _parsed(value: Any, what: str) -> Any:
    """Return what a JSON text holds, and anything else as it is; nothing where the text is empty."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return parse_json(value, what)
    except json.JSONDecodeError as error:
        raise UserError(f"{what}: expected JSON, found {short(repr(value))} ({error.msg})") from None


def _json(value: Any, what: str) -> str:
    """Return JSON that reads as what was written, keys in its order."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise UserError(f"{what}: expected values that can be written, found some nested too deep") from None
    except TypeError as error:  # bytes, dates and the like of a Parquet file
        raise UserError(f"{what}: expected values that JSON has, found others ({error}); write them as text") from None
    check_text(text, what)
    return text


def _shown(value: Any) -> str:
    """Return an object's keys, or the kind of anything else."""
    return f"the keys {short(', '.join(map(str, value)))}" if isinstance(value, dict) and value else kind_of(value)
