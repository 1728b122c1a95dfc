"""A schema's errors about a configuration as one sentence, which says what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aletheia.study.strict_yaml import Position

# jsonschema's rules, in words.
EXPECTED = {
    "type": "a value of type {}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "enum": "one of {}",
    "const": "{}",
    "minItems": "at least {} entry",
    "minProperties": "at least {} entry",
    "minLength": "at least {} character",
    "maxLength": "at most {} characters",
    "uniqueItems": "entries without repetition",
    "required": "the keys {}",
    "additionalProperties": "no other keys",
}
MAX_SHOWN_CHARACTERS = 100
SWITCHES = ("yes", "no", "on", "off", "true", "false")
NUMBER = re.compile(r"(?P<digits>[-+]?[0-9]+)([.,](?P<decimals>[0-9]+))?([eE](?P<exponent>[-+]?[0-9]+))?")


def sentence(
    errors: Iterable[Any], find: Callable[[Sequence[str | int]], Position | None]
) -> tuple[Position | None, str]:
    """Return the position of the mistake that explains most, and the sentence about it.

    Parameters
    ----------
    errors
        jsonschema's, all of one value; at least one.
    find
        Returns the position of the value below some keys in its file; None where that is not known.

    Returns
    -------
    tuple
        The position, and the sentence without it, which begins with the keys.
    """
    error = _clearest(list(errors))
    keys = list(error.absolute_path)
    # An unknown key, or one with a bad name, is below the mapping that the error is about.
    named = error.instance if "propertyNames" in list(error.absolute_schema_path)[-2:] else _unknown_key(error)
    position = find(keys if named is None else [*keys, named])
    at = f"{'.'.join(map(str, keys))}: " if keys else ""
    return position, at + _sentence(error, position)


def _clearest(errors: list[Any]) -> Any:
    """Return the error to speak of: an unknown key explains more than the required key that is missed because of it."""
    from jsonschema.exceptions import relevance

    unknown = [error for error in errors if error.validator == "additionalProperties"]
    below = [error for error in errors if not error.context]
    best = max(unknown or below or errors, key=relevance)
    meant = _meant_choice(best) if best.context else []
    return _clearest(meant) if meant else best


def _meant_choice(error: Any) -> list[Any]:
    """Return the errors of the one choice that a value was meant for, by its kind; none where no choice stands out."""
    choices: dict[Any, list[Any]] = {}
    for mistake in error.context:
        choices.setdefault(mistake.schema_path[0], []).append(mistake)
    # A list where a word or a list may stand is a list with a mistake; a source of a type is one of that type.
    fitting = [mistakes for mistakes in choices.values() if not any(map(_another_kind, mistakes))]
    return fitting[0] if len(fitting) == 1 else []


def _another_kind(error: Any) -> bool:
    return (not error.path and error.validator in ("type", "enum", "const")) or (
        list(error.path) == ["type"] and error.validator == "const"
    )


def _unknown_key(error: Any) -> str | None:
    if error.validator != "additionalProperties":
        return None
    known = error.schema.get("properties", {})
    return next((key for key in error.instance if key not in known), None)


def _sentence(error: Any, position: Position | None) -> str:
    unknown = _unknown_key(error)
    if unknown is not None:
        return f"unknown key {unknown!r}{nearest(unknown, list(error.schema.get('properties', {})))}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"expected the key {missing[0]!r}, which is missing"
    if error.validator in ("anyOf", "oneOf"):
        choices = "; or ".join(dict.fromkeys(_expectation(choice) for choice in error.context if not choice.path))
        expected = choices or error.schema.get("description", "another value")
        rule = next((choice for choice in error.context if choice.validator_value == "integer"), error)
    else:
        expected, rule = _expectation(error), error
    return f"expected {expected}, found {_value_in_words(error, position)}{_remedy(rule, position)}"


def _expectation(error: Any) -> str:
    value = error.validator_value
    if value == "object" and "$comment" in error.schema:
        return error.schema["$comment"]
    if error.validator == "pattern":
        return error.schema.get("$comment", f"a name like {value}")
    shown = " or ".join(map(str, value)) if error.validator == "type" and isinstance(value, list) else value
    if error.validator in ("enum", "required"):
        shown = ", ".join("null" if v is None else str(v) for v in value)
    return EXPECTED.get(error.validator, error.message).format(shown)


def _value_in_words(error: Any, position: Position | None) -> str:
    value = error.instance
    if error.validator == "uniqueItems":
        return next(f"{entry!r} twice" for i, entry in enumerate(value) if entry in value[:i])
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        plain = str(value).lower()
        written = position.written if position and position.written else plain
        return plain if written.lower() == plain else f"{written}, which YAML reads as {plain}"
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN_CHARACTERS else f"{shown[:MAX_SHOWN_CHARACTERS]}…"


def _remedy(error: Any, position: Position | None) -> str:
    """Return advice on what to write, where the value shows what was meant; else an empty text."""
    value, wanted = error.instance, error.validator_value
    wanted = ([wanted] if isinstance(wanted, str) else wanted) if error.validator == "type" else []
    if "string" in wanted and isinstance(value, bool | int | float):
        return f"; put it in quotes: '{position.written if position and position.written else value}'"
    if "array" in wanted and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"; write [{value}]"
    if "boolean" in wanted and (value in (0, 1) or str(value).strip().lower() in SWITCHES):
        return "; write true or false, without quotes"
    if "object" in wanted and not isinstance(value, dict) and value is not None:
        return "; write a mapping, key: value"
    if {"integer", "number"} & set(wanted):
        percent = str(error.absolute_path[-1]).endswith("percent")
        quoted = bool(position and position.quoted)
        return _number_meant(value, whole="number" not in wanted, percent=percent, quoted=quoted)
    return ""


def _number_meant(value: Any, *, whole: bool, percent: bool, quoted: bool) -> str:
    """Return advice on how to write the number that a value means; an empty text where it means none."""
    if isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    text = value.strip() if isinstance(value, str) else ""
    plain = _decimal(text.removesuffix("%").rstrip() if percent else text, whole=whole)
    if plain is None:
        return ""
    return f"; write {plain} without quotes" if quoted else f"; write {plain}, for YAML reads {value} as text"


def _decimal(text: str, *, whole: bool) -> str | None:
    """Return the number that a text means, as YAML 1.1 reads it; None where it means none."""
    if re.fullmatch(r"0o[0-7]+", text):
        return str(int(text, 8))
    if re.fullmatch(r"[-+]?[0-9]{1,3}([,_ ][0-9]{3})+", text):
        return re.sub("[,_ ]", "", text)
    number = NUMBER.fullmatch(text)
    if not number:
        return None
    digits = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", number["digits"])
    if number["exponent"] is None:
        return digits if number["decimals"] is None else f"{digits}.{number['decimals']}"
    sign = "" if number["exponent"][0] in "+-" else "+"
    plain = f"{digits}.{number['decimals'] or 0}e{sign}{number['exponent']}"
    return f"{float(plain):.0f}" if whole and float(plain).is_integer() else plain


def nearest(key: str, known: list[str]) -> str:
    """Return "; did you mean …?" with the closest known word, or the list of the known words."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""
