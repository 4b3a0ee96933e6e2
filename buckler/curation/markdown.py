"""Text of others in Markdown: nothing in it is read as Markdown, HTML or the end of its block; tables and bars of characters."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

BAR = 24
"""Characters of the longest bar."""
_TURNS = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Line separators that few programs show, and marks that turn the direction of the text around them."""


def printable(text: str) -> str:
    """Without control characters, lone surrogates, and marks that hide or turn what stands beside them."""
    text = _TURNS.sub(" ", text.replace("\r\n", "\n"))
    return "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))


def line(text: object) -> str:
    """On one line."""
    return " ".join(printable(str(text)).split())


def inline(text: object) -> str:
    """On one line, in a sentence, a heading or a cell: what Markdown or HTML would read stands as itself."""
    return re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", html.escape(line(text), quote=False))


def code(text: object) -> str:
    """A short name in code, without what could end the code or the cell."""
    return f"`{re.sub(r'[`|]', '', line(text))}`"


def fenced(text: str, language: str = "text") -> str:
    """A code block that no run of backticks inside it closes."""
    text = printable(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def table(lines: Iterable[Sequence[object]], heads: Sequence[str], *, texts: int = 1) -> str:
    """A table; its first `texts` columns are set to the left, the numbers after them to the right."""
    rules = ["---" if at < texts else "---:" for at in range(len(heads))]
    return "\n".join("| " + " | ".join(str(cell) for cell in cells) + " |" for cells in (heads, rules, *lines))


def number(value: float) -> str:
    """Three significant digits, in at most eight characters."""
    return f"{value:.3g}" if abs(value) < 1e6 else f"{value:.1e}"


def bars(names: Sequence[str], columns: Sequence[Sequence[int]], heads: Sequence[str]) -> str:
    """Counts by name as bars of one scale, a column beside the other; all lines are equally wide."""
    top = max((count for column in columns for count in column), default=0) or 1
    digits = max(len(str(top)), 5)
    left = max(len(name) for name in names)
    lines = [[f"{'#' * math.ceil(BAR * count / top):<{BAR}} {count:>{digits}}" for count in column] for column in columns]
    head = [f"{name:<{BAR + 1 + digits}}" for name in heads]
    return "\n".join(
        "  ".join(cells) for cells in ((f"{'':{left}}", *head), *zip([f"{n:<{left}}" for n in names], *lines, strict=True))
    )
