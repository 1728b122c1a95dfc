"""Read YAML as a person reads it: text that YAML 1.1 takes otherwise than it looks is refused, with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

TAG = "tag:yaml.org,2002:"
# Whatever else YAML 1.1 takes for a number (042, 0x2a, 1_000, 1:30) reads otherwise to a person, or to YAML 1.2.
DECIMAL = {"int": re.compile(r"[-+]?(0|[1-9][0-9]*)"), "float": re.compile(r"[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?")}
# File names and UTF-8 cannot hold these characters, which a text in double quotes can write as escapes.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# More do not fit the 64 bits that libraries give a whole number.
MAX_DIGITS = 18
# Chosen by hand, each many times what a study needs. Snakemake, jsonschema and PyYAML recurse over what is nested.
MAX_LEVELS, MAX_VALUES = 50, 100_000
READ_AS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
KNOWN = ("str", "null", *READ_AS)
# Advice on some of PyYAML's errors.
REMEDIES = {
    r"'\t'": "; indent with spaces, not with tabs",
    "mapping values are not allowed": "; put text with a colon in quotes, and indent the keys of a mapping equally",
    "expected <block end>": "; indent the keys of a mapping equally",
    "unexpected end of stream": "; close the quote that opens in this line",
    "could not find expected ':'": "; put a colon and a space behind each key",
    "cannot start any token": "; put the text in quotes",
    "unknown escape character": "; put a path with backslashes in single quotes",
}


class MisreadError(Exception):
    """A text of YAML that is refused.

    Attributes
    ----------
    sentence
        What was expected, what came, what to write.
    line
        From 1; None where it is not known.
    """

    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.line = sentence, line


@dataclass(frozen=True)
class Position:
    """A value's position in a text: its line from 1, and the scalar as it is written there (None for others)."""

    line: int
    written: str | None = None
    quoted: bool = False


def parse(text: str) -> Any:
    """Return the content of one YAML document; None where there is none.

    Parameters
    ----------
    text
        Aliases and merge keys (``<<``) are allowed.

    Raises
    ------
    MisreadError
        For text that is no YAML; a key that stands twice or is no text; a number that is not written in decimal digits,
        is not finite or too long; a date; a tag; what is nested too deep, or holds itself.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _NodeCheck(loader).of_document(node)
        return loader.construct_document(node)
    except RecursionError:
        raise MisreadError(f"expected at most {MAX_LEVELS} levels of nesting, found more") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else None
        raise MisreadError(f"expected YAML, found the character {_shown_character(error)}; delete it", line) from None


def find_position(text: str, keys: Sequence[str | int]) -> Position | None:
    """Return the position of the value below some keys, or of the nearest one above it; None where a text is no YAML.

    Parameters
    ----------
    text
        As :func:`parse` takes it.
    keys
        Keys of mappings and indices of lists, from the top.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    if node is None:
        return None
    line = node.start_mark.line + 1
    for key in keys:
        child = _child(node, key)
        if child is None:
            return Position(line)
        name, node = child
        line = name.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        return Position(line)
    return Position(line, node.value, quoted=node.style in ("'", '"'))


def _child(node: yaml.Node, key: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the node that names a child (its key, or the list's entry itself), and the child.

    Where a mapping has no such key of its own, one that comes from a merge key (``<<``).
    """
    if isinstance(node, yaml.SequenceNode):
        within = isinstance(key, int) and key < len(node.value)
        return (node.value[key], node.value[key]) if within else None
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if name.tag != f"{TAG}merge" and name.value == key:
            return name, value
    merged = (_child(part, key) for name, value in node.value if name.tag == f"{TAG}merge" for part in _parts(value))
    return next(filter(None, merged), None)


def _parts(node: yaml.Node) -> Sequence[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node]


def _syntax_error(error: yaml.MarkedYAMLError) -> MisreadError:
    """Return PyYAML's error as a sentence, with advice where there is some."""
    mark, problem, context = error.problem_mark, str(error.problem), str(error.context)
    if "end of stream" in problem and error.context_mark:
        # Where the quote opens says more than where the file ends.
        mark = error.context_mark
    line = mark.line + 1 if mark else None
    if context.startswith("expected a single document"):
        return MisreadError("expected one document, found a second one; take the line --- out", line)
    if context.startswith("found duplicate anchor"):
        return MisreadError(f"expected each anchor (&) once, {context.partition(';')[0]}; give it another name", line)
    remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in problem), "")
    while_doing = f"{context}, " if "while scanning" in context else ""
    return MisreadError(f"expected YAML ({while_doing}{problem}){remedy}", line)


def _shown_character(error: yaml.reader.ReaderError) -> str:
    character = error.character if isinstance(error.character, int) else ord(error.character)
    return f"#x{character:04x}"


@dataclass
class _NodeCheck:
    """One pass over the nodes of a document, each once, however many aliases name it."""

    loader: yaml.SafeLoader
    # By id of a node: how many values it unfolds to, and how deep.
    done: dict[int, tuple[int, int]] = field(default_factory=dict)
    within: set[int] = field(default_factory=set)

    def of_document(self, root: yaml.Node) -> None:
        values, levels = self._examine(root)
        if levels > MAX_LEVELS:
            raise MisreadError(f"expected at most {MAX_LEVELS} levels of nesting, found {levels}")
        if values > MAX_VALUES:
            raise MisreadError(f"expected at most {MAX_VALUES:,} values, found {values:,} once every alias is unfolded")

    def _examine(self, node: yaml.Node) -> tuple[int, int]:
        if id(node) in self.within:
            raise MisreadError("expected values that end, found an alias (*) of what it stands in", _line(node))
        if id(node) not in self.done:
            self.within.add(id(node))
            if isinstance(node, yaml.ScalarNode):
                self._scalar(node)
            elif node.tag not in (f"{TAG}map", f"{TAG}seq"):
                raise _tag_error(node)
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
            sizes = [self._examine(child) for child in _children(node)]
            self.within.discard(id(node))
            self.done[id(node)] = 1 + sum(n for n, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
        return self.done[id(node)]

    def _scalar(self, node: yaml.ScalarNode) -> None:
        kind, text = node.tag.removeprefix(TAG), node.value
        unprintable = UNPRINTABLE.search(text)
        if unprintable:
            raise MisreadError(f"found the character #x{ord(unprintable[0]):04x} in a text; delete it", _line(node))
        if kind == "str":
            return
        # A tag of its own may claim what its text is not.
        if kind not in KNOWN or self.loader.resolve(yaml.ScalarNode, text, (True, False)) != node.tag:
            raise _tag_error(node)
        if kind == "timestamp":
            raise MisreadError(f"found {text}, which YAML reads as a date; put it in quotes: '{text}'", _line(node))
        if kind in DECIMAL:
            sentence = misread_number(text, kind)
            if sentence:
                raise MisreadError(sentence, _line(node))


def misread_number(text: str, kind: str) -> str | None:
    """Return the sentence about a number that is easily misread; None where everybody reads the same.

    Parameters
    ----------
    text
        As it is written.
    kind
        ``int`` or ``float``, as YAML 1.1 takes it.
    """
    shown = f"{text[:40]}…" if len(text) > 40 else text
    quoted = f"or put it in quotes where text is meant: '{shown}'"
    if not any(character.isdigit() for character in text) or (kind == "float" and not _finite(text)):
        return f"found {shown}, which is no finite number; write one"
    if kind == "int" and DECIMAL[kind].fullmatch(text) and len(text.lstrip("+-")) > MAX_DIGITS:
        return f"found a number of {len(text.lstrip('+-'))} digits; expected at most {MAX_DIGITS}, {quoted}"
    if not DECIMAL[kind].fullmatch(text):
        try:
            value = yaml.safe_load(text)
        except ValueError:
            return f"found {shown}; write it in decimal digits, {quoted}"
        bare = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", text)
        plain = bare if DECIMAL[kind].fullmatch(bare) else str(value)
        also = f" ({value} if that is meant)" if plain != str(value) else ""
        return f"found {shown}, which YAML reads as {value}; write {plain}{also}, {quoted}"
    return None


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace("_", "")))
    except ValueError:
        # 1:30.5, which is finite, and no decimal.
        return True


def _check_keys(node: yaml.MappingNode) -> None:
    """Check the keys of one mapping: text, and none twice."""
    seen: dict[str, int] = {}
    for name, value in node.value:
        kind = name.tag.removeprefix(TAG)
        if kind == "merge" and not all(isinstance(part, yaml.MappingNode) for part in _parts(value)):
            raise MisreadError("expected a mapping behind <<, or a list of them, found another value", _line(name))
        if not isinstance(name, yaml.ScalarNode):
            raise MisreadError("expected text as a key, found a list or a mapping", _line(name))
        if kind not in ("str", "merge"):
            as_what = f", which YAML reads as {READ_AS[kind]}" if kind in READ_AS else ""
            shown = name.value or "without a name"
            raise MisreadError(f"found the key {shown}{as_what}; {_key_remedy(name, value)}", _line(name))
        if name.value in seen:
            again = "write << once, with a list: <<: [*a, *b]" if kind == "merge" else "keep one of them"
            raise MisreadError(
                f"found the key {name.value!r} again, which stands in line {seen[name.value]}; {again}", _line(name)
            )
        seen[name.value] = _line(name)


def _key_remedy(name: yaml.ScalarNode, value: yaml.Node) -> str:
    if not name.value:
        return "give it one"
    # {rate: 0,5} has the entries rate: 0 and 5.
    lone = name.tag == f"{TAG}int" and isinstance(value, yaml.ScalarNode) and not value.value
    return "write decimals with a point, and lists in [ ]" if lone else f"put it in quotes: '{name.value}'"


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        # Keys are text by now, and no children of their own.
        yield from (value for _, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _tag_error(node: yaml.Node) -> MisreadError:
    if node.tag == f"{TAG}value":
        return MisreadError("found =, which means something else in YAML; put it in quotes: '='", _line(node))
    tag = node.tag.replace(TAG, "!!")
    return MisreadError(f"found the tag {tag}, which a configuration does not use; take it out", _line(node))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
