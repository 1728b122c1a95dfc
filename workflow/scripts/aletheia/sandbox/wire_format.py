"""Values as plain data: all that passes between a generated program and its test.

Standard library only; a bare interpreter in the sandbox gets this file as text.
"""

import decimal
import fractions
from collections.abc import Iterable, Iterator


class OtherIterable:
    """An iterable that is no plain container, such as a dictionary's view; equal to itself alone."""

    def __init__(self, items):
        self._items = items

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


def encode(value):  # noqa: PLR0911 — one line a type
    """Return a value as JSON data; instances of subclasses become their base type, other objects the name of theirs."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return value if -(2**53) < value < 2**53 else {"int": hex(value)}
    if isinstance(value, list):
        return [encode(item) for item in value]
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [encode(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, fractions.Fraction):
        return {"fraction": [encode(value.numerator), encode(value.denominator)]}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, Iterable):
        items = [encode(item) for item in value]
        return {"iterator" if isinstance(value, Iterator) else "iterable": items}
    return {"other": type(value).__name__}


_DECODERS = {
    "int": lambda text: int(text, 16),
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*map(decode, parts)),
    "fraction": lambda parts: fractions.Fraction(*map(decode, parts)),
    "decimal": decimal.Decimal,
    "iterator": lambda items: iter(list(map(decode, items))),
    "iterable": lambda items: OtherIterable(list(map(decode, items))),
    "other": lambda name: object(),
}


def decode(data):
    """Return the value that ``encode`` wrote: builtin and number types alone, whatever the data are."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if isinstance(data, dict):
        ((kind, content),) = data.items()
        return _DECODERS[kind](content)
    return data
