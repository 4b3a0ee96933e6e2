"""Find words that the project no longer uses: `python -m tools.retired_words` prints `file:line: word -> term` and fails.

The words, their terms and where they may stand are in retired_words.txt.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[1]
FOLDERS = ("buckler", "tools", "benchmarks", "examples", "tests")
WORDS = Path(__file__).with_suffix(".txt")
_LINE = re.compile(r"(word|name|part) (.+) -> (.+)|keep (\S+)\s+(.+)")


Hits: TypeAlias = dict[tuple[bool, str], list[tuple[str, str]]]
"""By text (and whether it is an identifier): the words in it and what they should be; most texts come many times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A word that is no longer used."""

    kind: str
    pattern: re.Pattern[str]
    term: str

    def found_in(self, text: str) -> Iterator[re.Match[str]]:
        """Where it stands: in prose anywhere, in an identifier as the whole or as a part."""
        if self.kind == "word":
            yield from self.pattern.finditer(text)
        else:
            names = [text.strip("_")] if self.kind == "name" else text.split("_")
            yield from filter(None, map(self.pattern.fullmatch, names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Text that may stand in some files."""

    files: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A retired word at its place."""

    path: str
    line: int
    word: str
    term: str

    def __str__(self) -> str:
        """One line, as compilers print it."""
        return f"{self.path}:{self.line}: {self.word} -> {self.term}"


def read_words(text: str) -> tuple[list[Retired], list[Exemption]]:
    """The list of words: those that are retired, and what may stand nevertheless.

    Raises:
        ValueError: a line is none of the four kinds.
    """
    retired, exemptions = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"line {number} is no `word`, `name`, `part` or `keep`: {line}")
        kind, pattern, term, files, kept = match.groups()
        if kind is None:
            exemptions.append(Exemption(files=files, pattern=re.compile(kept)))
        else:
            bounds = r"\b(?:{})\b" if kind == "word" else "(?:{})"
            retired.append(Retired(kind=kind, pattern=re.compile(bounds.format(pattern), re.IGNORECASE), term=term))
    return retired, exemptions


def findings_in(
    path: str, source: str, retired: list[Retired], exemptions: list[Exemption], hits: Hits | None = None
) -> list[Finding]:
    """Every retired word of a Python file that no exemption covers; `hits` keeps what is known of a text for further files."""
    allowed = [one.pattern for one in exemptions if fnmatch(path, one.files)]
    docstrings = _docstrings(source)
    prose = {tokenize.COMMENT} if path.startswith("tests/") else {tokenize.COMMENT, tokenize.STRING}
    findings = []
    hits = {} if hits is None else hits
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_name = token.type == tokenize.NAME
        if not (is_name or token.type in prose or (token.type == tokenize.STRING and token.start in docstrings)):
            continue
        for number, line in enumerate(token.string.splitlines(), token.start[0]):
            text = line
            for pattern in allowed:
                text = pattern.sub(lambda match: " " * len(match[0]), text)
            if (is_name, text) not in hits:
                hits[is_name, text] = [
                    (match[0], word.term) for word in retired if (word.kind != "word") == is_name for match in word.found_in(text)
                ]
            findings += [Finding(path=path, line=number, word=word, term=term) for word, term in hits[is_name, text]]
    return findings


def _docstrings(source: str) -> set[tuple[int, int]]:
    """Where strings stand that are statements of their own: docstrings of modules, classes, functions and fields."""
    return {
        (node.value.lineno, node.value.col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def findings(root: Path = ROOT) -> list[Finding]:
    """Every retired word in the project's Python files."""
    retired, exemptions = read_words(WORDS.read_text(encoding="utf-8"))
    hits: Hits = {}
    return [
        finding
        for folder in FOLDERS
        for file in sorted((root / folder).rglob("*.py"))
        for finding in findings_in(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8"), retired, exemptions, hits)
    ]


def main() -> int:
    """Print every finding; 1 if there is one."""
    found = findings()
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
