"""The text of an exported file: where it came from and what the tool does otherwise, as comments, then the settings."""

from __future__ import annotations

import pprint
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from aletheia.exports.choice import Choice
from aletheia.exports.placement import described, placement

WIDTH = 118


def header(tool: str, choice: Choice, how: str, differences: Iterable[str]) -> str:
    """Return the comment that leads an exported file.

    Parameters
    ----------
    tool
        Its name.
    choice
        The run's.
    how
        What to do with the file, one sentence.
    differences
        What the tool does otherwise than the run, a sentence each.
    """
    lines = [
        f"Written by `aletheia export --for {tool}` from model {choice.model}, arm {choice.arm}, seed {choice.seed}:",
        *(f"  {name} (sha256 {sha256})" for name, sha256 in choice.sources.items()),
        described(choice, placement(choice)),
        how,
        "",
        f"What {tool} does otherwise than that run:",
    ]
    text = [f"# {line}".rstrip() for line in lines]
    for sentence in differences:
        text += textwrap.wrap(sentence, WIDTH, initial_indent="# - ", subsequent_indent="#   ")
    return "\n".join(text) + "\n"


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Return settings as YAML, in their order; numbers such as 1e-7 as YAML 1.1 reads them (1.0e-07)."""
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def as_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call with keyword arguments as Python, one a line."""
    lines = [f"    {key}={literal(value)}," for key, value in arguments.items()]
    return "\n".join([f"{name}(", *lines, ")"])


class Code(str):
    """An argument's value that is Python already, and not a text."""


def literal(value: Any) -> str:
    """Return a value as Python, broken into lines where it is long."""
    if isinstance(value, Code):
        return str(value)
    return textwrap.indent(pprint.pformat(value, width=WIDTH - 8, compact=True, sort_dicts=False), "    ").strip()
