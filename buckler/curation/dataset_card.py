"""The data set card of curated rows: Markdown under a front matter that the Hugging Face hub and `load_dataset` read.

For a folder that holds `curated.jsonl`, `rejected.jsonl` and the card as `README.md`. Rows and rejections are read once, as
they come; what is held of a row is a few numbers. The same rows give the same bytes. Text of others stands in the Markdown
as itself: nothing in it is read as Markdown, HTML or the end of its block.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, cast

import yaml

from buckler import __version__
from buckler.curation.record import REJECTED, Tally, ancestry, kind_of
from buckler.curation.settings import CurateSettings
from buckler.data import Chat, Json, features, is_plain
from buckler.data.reading import read_text

if TYPE_CHECKING:
    from jinja2 import Template


CURATED = "curated.jsonl"
LONGEST_EXAMPLE, WORDS_SHOWN, BINS = 600, 20, 12
"""Characters of a text in an example; seed words; bins of a histogram."""
LICENCES = frozenset(
    (
        "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 "
        "cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
        "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0 "
        "cdla-sharing-1.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl-3.0 mit mpl-2.0 odbl odc-by openrail pddl unlicense wtfpl zlib"
    ).split()
)
"""Licences that the hub knows by these names; any other is given to it as `other`, with its own name beside."""
ROLES = {
    "model": "is protected",
    "reviser": "rewrites",
    "measured_by": "measures perplexity",
    "judge": "rates helpfulness",
    "proxy": "is compromised",
}
BAR = 24
"""Characters of the longest bar."""
_TURNS = re.compile("[\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Line separators that few programs show, and marks that turn the direction of the text around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the rows themselves do not tell."""

    title: str
    source: str | None = None
    """Where the texts come from: a file, or a data set of the hub."""
    licence: str | None = None
    """Of those texts; None if nobody said."""
    languages: tuple[str, ...] = ()
    """ISO 639 codes."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Names by role (`ROLES`); their identities are in the rows."""
    seed: int = 0


def dataset_card(
    rows: Iterable[Chat],
    rejected: Iterable[Mapping[str, Json]],
    counts: Mapping[str, int],
    settings: CurateSettings,
    about: About,
    *,
    originals: Iterable[Chat] = (),
) -> str:
    """The card of a curation.

    Args:
        rows: The curated rows, each with its ancestry in `meta["curation"]`.
        rejected: What was rejected, each with its round and reason.
        counts: What the curation counted.
        settings: Its settings.
        about: What the rows do not tell.
        originals: The texts as they were given: for the examples, and for how much longer texts became.
    """
    tally, plain = Tally(settings.target), True
    for row in rows:
        tally.add(row)
        plain = plain and is_plain(row)
    tally.compare(originals)
    reasons = Counter((kind_of(str(one["reason"])), one["round"] == 0) for one in rejected)
    before, after = ([pair[side] for pair in tally.added] for side in (0, 1))
    published = cast("Mapping[str, Json]", _published(settings.model_dump(mode="json")))
    return _template().render(
        front_matter=_front_matter(about, tally.rows, bool(reasons), plain=plain),
        about=about,
        settings=settings,
        tally=tally,
        version=__version__,
        roles=_roles(about, tally),
        settings_yaml=yaml.safe_dump(
            {"seed": about.seed, **published}, sort_keys=False, allow_unicode=True, default_flow_style=None
        ).rstrip(),
        counts=_counts(tally, counts),
        reasons=_reasons(reasons),
        spreads=[
            _spread("Perplexity", tally.perplexity, tally.rows, logarithmic=True),
            _spread("Helpfulness", tally.helpfulness, tally.rows, logarithmic=False),
        ],
        rounds=_rounds(tally.rounds),
        added={"before": _median(before), "after": _median(after)},
        words=[(inline(word), n, tally.occurring[word]) for word, n in _first(tally.requested, WORDS_SHOWN)],
        examples=[_example(row, tally.before.get(str(ancestry(row)["source"]))) for row in tally.shown],
    )


def _front_matter(about: About, rows: int, rejected: bool, *, plain: bool) -> str:
    """What the hub reads (https://huggingface.co/docs/hub/datasets-cards, .../datasets-manual-configuration)."""
    source = about.source or ""
    on_hub = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", source) and not re.search(r"\.(jsonl?|[ct]sv|parquet|txt|gz)$", source)
    values: dict[str, object] = {"pretty_name": line(about.title), **_licence(line(about.licence or ""))}
    if about.languages:
        values["language"] = list(about.languages)
    values |= {
        "task_categories": ["text-generation"],
        "size_categories": [_size(rows)],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "source_datasets": [source] if on_hub else ["extended"],
        "tags": ["safety", "alignment", "fine-tuning", "synthetic", "data-curation", "buckler"],
        "configs": [_config("default", CURATED), *([_config("rejected", REJECTED)] if rejected else [])],
        "dataset_info": [{"config_name": "default", "features": features(plain=plain)}],
    }
    return "---\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True) + "---"


def _config(name: str, path: str) -> dict[str, object]:
    return {"config_name": name, "data_files": [{"split": "train", "path": path}]}


def _licence(name: str) -> dict[str, str]:
    if not name:
        return {"license": "unknown"}
    if name.lower() in LICENCES:
        return {"license": name.lower()}
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "other"
    return {"license": "other", "license_name": slug, "license_details": name}


def _size(rows: int) -> str:
    """The hub's name for a number of rows."""
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
    return names[min(max(len(str(rows)) - 3, 0), len(names) - 1)]


def _roles(about: About, tally: Tally) -> list[tuple[str, str, str]]:
    roles = []
    for role, does in ROLES.items():
        name, identities = about.models.get(role), sorted(tally.identities.get(role, ()))
        if name or identities:
            shown = inline(_public(name)) if name else ""
            roles.append((does, shown, ", ".join(code(identity) for identity in identities)))
    return roles


def _counts(tally: Tally, counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """What the rows say, then what the curation counted beside it; rejections have a table of their own."""
    rows = {"rows": tally.rows, "revised": tally.revised, "kept original": tally.rows - tally.revised}
    rows["candidates, over these rows"] = tally.candidates
    if tally.revised:
        rows["candidates a revised row"] = round(tally.candidates / tally.revised)
    more = {name: counts[name] for name in sorted(counts) if name not in rows and not name.startswith("rejected: ")}
    return [(inline(name), n) for name, n in (rows | more).items()]


def _reasons(reasons: Mapping[tuple[str, bool], int]) -> list[tuple[str, int, int]]:
    """Reasons by how often they were given: of texts at the start, and of revisions."""
    kinds = Counter[str]()
    for (kind, _), n in reasons.items():
        kinds[kind] += n
    return [(inline(kind), reasons.get((kind, True), 0), reasons.get((kind, False), 0)) for kind, _ in _first(kinds)]


def _spread(name: str, pairs: Sequence[tuple[float, float]], rows: int, *, logarithmic: bool) -> dict[str, object]:
    """Quantiles and histograms of a measure before and after; bins of equal width in the logarithm, or of half a point."""
    import numpy as np

    missing = rows - len(pairs)
    if not pairs:
        return {"name": name, "missing": missing}
    before, after = np.asarray(pairs, dtype=float).T
    levels = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    both = {"original": before, "chosen": after}
    least, most = min(before.min(), after.min()), max(before.max(), after.max())
    edges = np.geomspace(least, most, BINS + 1 if least < most else 2) if logarithmic else np.linspace(1.0, 5.0, 9)
    names = [f"{number(low):>8} - {number(high):<8}" for low, high in pairwise(edges)]
    rose, fell = int((after > before).sum()), int((after < before).sum())
    return {
        "name": name,
        "missing": missing,
        "quantiles": [
            (side, *(number(value) for value in (*np.quantile(values, levels), values.mean()))) for side, values in both.items()
        ],
        "rose": rose,
        "fell": fell,
        "stayed": len(pairs) - rose - fell,
        "bars": bars(names, [np.histogram(values, edges)[0].tolist() for values in both.values()], list(both)),
    }


def _rounds(rounds: Counter[int]) -> str:
    turns = range(max(rounds, default=0) + 1)
    return bars([f"round {turn}" for turn in turns], [[rounds[turn] for turn in turns]], ["rows"])


def _example(row: Chat, original: Chat | None) -> str:
    """A revised row, after what it was where that is known."""
    lines = [] if original is None else [f"Question: {_cut(original.query)}", f"Answer: {_cut(original.answer or '')}", ""]
    if original is None or row.query != original.query:
        lines.append(f"Revised question: {_cut(row.query)}" if original else f"Question: {_cut(row.query)}")
    return "\n".join([*lines, f"Revised answer: {_cut(row.answer or '')}"])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_EXAMPLE else text[:LONGEST_EXAMPLE] + " ..."


def _first(counts: Counter[str], n: int | None = None) -> list[tuple[str, int]]:
    """The commonest, those of one count by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]


def _median(values: Sequence[int]) -> int | None:
    return sorted(values)[len(values) // 2] if values else None


def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    # What is put in is made safe for Markdown by the filters that the template names: HTML escaping would break its code blocks.
    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"inline": inline, "line": line, "fenced": fenced, "table": table, "public": _public}
    return environment.from_string(read_text(Path(__file__).with_name("card.md.j2")))


def _published(value: Json) -> Json:
    """Settings without the folders of the machine they were used on."""
    if isinstance(value, str):
        return _public(value)
    if isinstance(value, Mapping):
        return {name: _published(one) for name, one in value.items()}
    return [_published(one) for one in value] if isinstance(value, Sequence) else value


def _public(name: str) -> str:
    """A file's name without its folder, a model's without its server; names of models and data sets stay."""
    name = re.sub(r"@https?://.*", "", name)
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(name).is_absolute():
            return kind(name).name
    return name


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
