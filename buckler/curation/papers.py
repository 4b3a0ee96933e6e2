"""Papers as sentences: the text, Markdown and PDF files of a folder, without running heads, markup and references."""

from __future__ import annotations

import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from buckler.data.reading import decoded, read_bytes
from buckler.errors import ConfigError, DataError
from buckler.progress import ProgressCallback, no_progress

TEXTS = (".txt", ".md", ".markdown")
SUFFIXES = (*TEXTS, ".pdf")
LARGEST = 32 * 2**20
"""Bytes of the largest file that is taken for a paper."""

EXTRA = ("nltk", "pypdf", "rapidfuzz", "simplemma", "wordfreq")
REPEATED = 3
"""A line that stands on so many pages of a PDF is a running head, not text."""

RARE = 1e-7
"""Frequency of a word up to which it counts as a slip of the pen, such as "wellknown"."""

_REFERENCES = re.compile(
    r"^[\s#*\d.]*(?:references|bibliography|works cited|literature cited)[\s*:]*$", re.IGNORECASE | re.MULTILINE
)
_CONTENTS = 0.1
"""A heading in the first tenth of a paper is a line of its table of contents."""

_BROKEN = re.compile(r"([^\W\d_]+)-[ \t]*\n[ \t]*([a-z]+)")
_FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|<!--.*?-->", re.DOTALL)
_HEADING = re.compile(r"^[ \t]*#+[ \t]*([^\n]*)$", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*(?:[-+*|]|\d+[.)])[ \t]+", re.MULTILINE)
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
_PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2010": "-", "\u2011": "-", "\u00ad": None})
_ABBREVIATIONS = "al approx appx cf dr e.g eq eqs etc fig figs i.e no prof resp sec st tab vs w.r.t"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One readable paper."""

    name: str
    """Its path inside the folder, with forward slashes."""
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that is no readable paper, and why."""

    name: str
    reason: str


def require_extra() -> None:
    """Make sure that the libraries of the extra `seeds` are there.

    Raises:
        ConfigError: one is missing.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(f"extracting seed words needs {', '.join(missing)}: pip install 'buckler[seeds]'")


def read_papers(place: Path, progress: ProgressCallback = no_progress) -> tuple[list[Paper], list[Skipped]]:
    """Every paper of a folder (and of the folders in it) or one file, in the order of their names; and what was skipped.

    Raises:
        ConfigError: a library of the extra `seeds` is missing.
        DataError: there is no such place, it holds no file, or none of its files can be read.
    """
    require_extra()
    if not place.exists():
        raise DataError(f"{place}: no such file or folder")
    root = place.parent if place.is_file() else place
    inside = (path.relative_to(root) for path in ([place] if place.is_file() else place.rglob("*")) if path.is_file())
    files = sorted(path.as_posix() for path in inside if not any(part.startswith(".") for part in path.parts))
    if not files:
        raise DataError(f"{place}: the folder is empty; papers are {', '.join(SUFFIXES)} files")
    papers: list[Paper] = []
    skipped: list[Skipped] = []
    names: dict[tuple[str, ...], str] = {}
    for at, name in enumerate(files, start=1):
        try:
            text = tuple(sentences(paper_text(root / name)))
            # A copy under another name would let one paper pass for two.
            if names.setdefault(text, name) != name:
                raise DataError(f"duplicate of {names[text]}")
            papers.append(Paper(name=name, sentences=text))
        except DataError as fault:
            skipped.append(Skipped(name=name, reason=str(fault)))
        progress("papers read", at, len(files))
    if not papers:
        raise DataError(f"{place}: none of its {len(files)} files can be read; the first, {skipped[0].name}: {skipped[0].reason}")
    return papers, skipped


def paper_text(path: Path) -> str:
    """The text of one file up to its references; words broken at line ends are joined, ligatures and quotes made plain.

    Raises:
        DataError: why it cannot be read (the file is not named: the caller knows it).
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"not a {', '.join(SUFFIXES)} file")
    try:
        raw = read_bytes(path, most=LARGEST)
        text = _pdf_text(raw) if suffix == ".pdf" else decoded(raw, path)
    except DataError as fault:
        raise DataError(str(fault).removeprefix(f"{path}: ")) from None
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    text = _joined(_without_references(text))
    text = text if suffix == ".pdf" else _without_markup(text)
    if not re.search(r"[^\W\d_]", text):
        raise DataError("contains no text" + (" (a scan?)" if suffix == ".pdf" else ""))
    return text


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, each on one line; a blank line ends one too."""
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(_ABBREVIATIONS.split())
    splitter = PunktSentenceTokenizer(parameters)
    for block in re.split(r"\n\s*\n", _ADDRESS.sub(" ", text)):
        yield from splitter.tokenize(" ".join(block.split()))


def _pdf_text(raw: bytes) -> str:
    from pypdf import PdfReader

    try:
        with _silenced("pypdf"):
            reader = PdfReader(io.BytesIO(raw))
            if reader.is_encrypted and not reader.decrypt(""):
                raise DataError("encrypted; save it without a password")
            pages = [page.extract_text() for page in reader.pages]
    except DataError:
        raise
    except Exception as fault:  # noqa: BLE001 - pypdf raises whatever a broken file leads it into: KeyError, RecursionError, ...
        raise DataError(f"damaged PDF: {type(fault).__name__}: {' '.join(str(fault).split())[:80]}") from None
    return "\n".join(_without_heads([page.splitlines() for page in pages]))


def _without_heads(pages: Sequence[Sequence[str]]) -> Iterator[str]:
    """All lines but page numbers and running heads."""
    standing = Counter(line.strip() for page in pages for line in set(page))
    for page in pages:
        for line in page:
            if not line.strip().isdecimal() and (not line.strip() or standing[line.strip()] < REPEATED):
                yield line


def _without_markup(text: str) -> str:
    """Plain paragraphs: headings and items of lists become paragraphs of their own, code goes."""
    text = _ITEM.sub("\n\n", _HEADING.sub(r"\n\n\1\n\n", text))
    return _MARKS.sub("", _LINK.sub(r"\1", _FENCED.sub("", text)))


def _without_references(text: str) -> str:
    for heading in _REFERENCES.finditer(text):
        if heading.start() >= _CONTENTS * len(text):
            return text[: heading.start()]
    return text


def _joined(text: str) -> str:
    """Join words that a line end broke. The hyphen stays where the same paper writes the word with one inside a line, and
    where both halves are English words and the joined word is hardly one ("well-known")."""
    from wordfreq import word_frequency

    hyphened = set(re.findall(r"\b(?=([^\W\d_]+-[^\W\d_]+))", text.lower()))

    def known(word: str) -> bool:
        return word_frequency(word, "en") > RARE

    def join(match: re.Match[str]) -> str:
        left, right = match.groups()
        if f"{left}-{right}".lower() in hyphened or (known(left) and known(right) and not known(left + right)):
            return f"{left}-{right}"
        return left + right

    return _BROKEN.sub(join, text)


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    """A library's own warnings off: what is wrong with a file is reported in one line."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
