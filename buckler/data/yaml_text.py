"""YAML as settings have it: what JSON can say too, of bounded depth and size, with the line of what has another meaning."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path

import yaml

from buckler.data.jsonl import HALF
from buckler.data.reading import DEEPEST, MOST_DIGITS, read_text
from buckler.errors import ConfigError, DataError

LARGEST_YAML = 4 << 20
"""Bytes of a file of settings."""
MOST_VALUES = 200_000
"""Values of a YAML file, those of anchors counted wherever they are used."""


def read_yaml(path: Path) -> object:
    """The value of a YAML file: texts, numbers, true, false, null, lists, and mappings with text keys, each once.

    Anchors and merges (`<<`) work. Tags, dates, NaN, numbers in base 8 and 60 and keys that are no texts are refused or texts.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds something else.
    """
    try:
        text = read_text(path, most=LARGEST_YAML)
    except DataError as fault:
        raise ConfigError(str(fault)) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> object:
    """The value of a YAML text, as `read_yaml` reads it; `where` names the file or option in errors.

    Raises:
        ConfigError: it is not YAML, or holds something else.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as fault:
        line = text.count("\n", 0, fault.position) + 1
        raise ConfigError(f"{where}:{line}: not YAML: the character U+{ord(text[fault.position]):04X}; remove it") from None
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None) or getattr(fault, "context_mark", None)
        line_of = f":{mark.line + 1}" if mark else ""
        parts = [str(getattr(fault, name, None) or "") for name in ("context", "problem")]
        reason = " ".join((parts if parts[1].startswith("but ") else parts[1:]) or [str(fault)])
        raise ConfigError(
            f"{where}{line_of}: {'' if isinstance(fault, _Odd) else 'not YAML: '}{' '.join(reason.split())}"
        ) from None


class _Odd(yaml.MarkedYAMLError):
    """YAML with a meaning that no setting has."""

    def __init__(self, problem: str, node: yaml.Node | yaml.Event) -> None:
        super().__init__(problem=problem, problem_mark=node.start_mark)  # type: ignore[arg-type]


_YAML = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """The safe loader for what JSON can say. A date, and the sign `=`, are texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the class above has it
        first: [(tag, pattern) for tag, pattern in known if tag not in (f"{_YAML}timestamp", f"{_YAML}value")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._open: list[int] = []
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node whose depth, size and kind are bounded before anything is made of it."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if len(self._open) > DEEPEST:
            raise _Odd(f"nested more than {DEEPEST} levels deep", event)
        if isinstance(event, yaml.AliasEvent):
            node = self.anchors.get(event.anchor)
            if node is not None and id(node) not in self._sizes:
                raise _Odd(f"`*{event.anchor}` stands within what it names", event)
        elif (tag := getattr(event, "tag", None)) is not None:
            raise _Odd(f"`{str(tag).replace(_YAML, '!!')}` is a tag; write the value alone, a text in quotes", event)
        self._open.append(1)
        node = super().compose_node(parent, index)
        size = self._open.pop()
        if node is not None:
            size = self._sizes.setdefault(id(node), size)
        if self._open:
            self._open[-1] += size
        if size > MOST_VALUES:
            raise _Odd(f"more than {MOST_VALUES:,} values, those of anchors counted where they are used", event)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        """A mapping whose keys are texts, each given once."""
        keys: set[str] = set()
        for key, _ in node.value:
            if key.tag == f"{_YAML}merge":
                continue
            if key.tag != f"{_YAML}str":
                shown = (
                    f"`{key.value}` is read as {key.tag.removeprefix(_YAML)}" if isinstance(key.value, str) else "a key is a list"
                )
                raise _Odd(f"{shown}, and a key is a text; put it in quotes", key)
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is given twice; remove one", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """A value that JSON can say too."""
        if isinstance(node, yaml.ScalarNode):
            text, kind = str(node.value), node.tag.removeprefix(_YAML)
            if HALF.search(text) or "\0" in text:
                raise _Odd("a text with half a character or a NUL character; remove it", node)
            plain = text.lstrip("+-").replace("_", "")
            if kind in ("int", "float") and (
                ":" in text or (kind == "int" and plain[:1] == "0" and plain.isdigit() and len(plain) > 1)
            ):
                raise _Odd(
                    f"`{text[:40]}` is a number in base {60 if ':' in text else 8}; write it in base 10, or in quotes", node
                )
            if kind in ("int", "float") and len(plain) > MOST_DIGITS:
                raise _Odd(f"a number of {len(plain)} digits; at most {MOST_DIGITS} are read", node)
        try:
            value: object = super().construct_object(node, deep)
        except (ValueError, OverflowError):
            raise _Odd(f"`{str(node.value)[:40]}` is no number; put it in quotes", node) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _Odd(f"`{node.value[:40]}` is no finite number; write one, or put it in quotes", node)
        return value
