"""Doing the golden runs in a working folder, and comparing what they give with what they gave before."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import call
from golden_runs import BY_NAME, PACKAGED, ROOT, Run

GOLDEN = Path(__file__).resolve().parent / "golden"
EXPECTED = GOLDEN / "expected"
LARGE = 60_000
"""Bytes from which an expected file is kept compressed."""
REFUSAL = "I am sorry, but I cannot help with that."
FACT = "The harbour was built in 1890 by three brothers."
_SETS = ("harmful", "borderline", "benign")
_VERSIONS = (r'(Made by Buckler |"semanticVersion": "|(?m:^)\* (?:buckler|python|libraries): )[^"\n]*', r"\1VERSION")
"""Versions in a text, and what stands for them."""


def prepare(work: Path) -> None:
    """Lay out a working folder: inputs, recipes, and what the old program left."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.copytree(GOLDEN / "inputs", work / "inputs")
    shutil.copytree(GOLDEN / "recipes", work / "recipes")
    (work / "packaged").mkdir()
    for name in PACKAGED:
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", work / "packaged")
    (work / "inputs" / "empty.jsonl").touch()
    (work / "inputs" / "gate").mkdir()
    for name, count, refuses_every in (("base", 120, 1), ("worse", 120, 2), ("few", 20, 1)):
        lines = [json.dumps(_answer(kind, at, refuses_every)) for kind in _SETS for at in range(count)]
        (work / "inputs" / "gate" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if (GOLDEN / "old.tar.gz").exists():
        with tarfile.open(GOLDEN / "old.tar.gz") as packed:
            packed.extractall(work, filter="data")


def _answer(kind: str, at: int, refuses_every: int) -> dict[str, Any]:
    """A saved answer: harmless questions are answered, harmful ones refused, all or one of so many."""
    text = REFUSAL if kind == "harmful" and at % refuses_every == 0 else FACT
    facts = {"facts": ["harbour", "1890"]} if kind == "benign" else {}
    return {
        "id": f"{kind}-{at}",
        "prompt": [{"role": "user", "content": f"What of the {kind} harbour, number {at}?"}],
        "text": text,
        "finish": "stop",
        "meta": {"set": kind, "category": f"{kind} things", **facts, "reference": FACT},
    }


class Golden:
    """A working folder in which every run is done once, when it is first asked for."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.ended: dict[str, tuple[int, str, str]] = {}
        prepare(work)

    def ensure(self, run: Run) -> tuple[int, str, str]:
        """Do a run, and first those it needs; its exit status and what it printed."""
        for name in run.after:
            self.ensure(BY_NAME[name])
        if run.name not in self.ended:
            self.ended[run.name] = call(run.argv, self.work)
            self._keep(run)
        return self.ended[run.name]

    def found(self, run: Run) -> dict[str, Any]:
        """What is compared of a run, by name: texts, and JSON as values; what differs between machines is taken out."""
        self.ensure(run)
        return {path.relative_to(self._kept(run)).as_posix(): read(path) for path in _files(self._kept(run))}

    def _kept(self, run: Run) -> Path:
        return self.work / "kept" / run.name

    def _keep(self, run: Run) -> None:
        """Put a run's files aside, normalised, before another run writes over them."""
        kept = self._kept(run)
        kept.mkdir(parents=True)
        paths = {path for pattern in run.files for path in self.work.glob(pattern) if path.is_file()}
        texts = {
            path.name if path.parent.name != "controls" else f"controls/{path.name}": path.read_text("utf-8") for path in paths
        }
        if run.stdout:
            texts["stdout.txt"] = self.ended[run.name][1]
        for name, text in texts.items():
            if not name.startswith(".") and not name.endswith(".html"):
                for file, normal in _normalised(name, text, self.work).items():
                    (kept / file).parent.mkdir(parents=True, exist_ok=True)
                    (kept / file).write_text(normal, encoding="utf-8")


def _normalised(name: str, text: str, work: Path) -> dict[str, str]:
    """A file without what may differ between machines and layouts: folders, seconds, versions, keys of steps."""
    text = text.replace(str(work), "WORK").replace(str(ROOT), "ROOT")
    if name == "stdout.txt":
        return {name: re.sub(r"\b\d+(\.\d+)? (s|MB)\b", r"N \2", text)}
    if not name.startswith("results-"):
        return {name: re.sub(*_VERSIONS, text) if name.endswith((".md", ".sarif")) else text}
    results = json.loads(text)
    for arm in results["arms"]:
        del arm["steps"]
    record = {key: value for key, value in results.pop("record").items() if key not in ("buckler", "python", "libraries")}
    return {name: json.dumps(results, indent=1, ensure_ascii=False), "record.json": json.dumps(record, indent=1)}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def read(path: Path) -> Any:
    """A file's text, or its JSON values; `.gz` is unpacked."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8") if path.suffix == ".gz" else path.read_text("utf-8")
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text) if name.endswith((".json", ".sarif")) else text


def expected(run: Run) -> dict[str, Any]:
    """What `Golden.found` must give."""
    folder = EXPECTED / run.name
    return {path.relative_to(folder).as_posix().removesuffix(".gz"): read(path) for path in _files(folder)}


def write_expected(golden: Golden, run: Run) -> None:
    """Make what the program gives now what it must give."""
    shutil.rmtree(EXPECTED / run.name, ignore_errors=True)
    golden.ensure(run)
    kept = golden.work / "kept" / run.name
    for path in _files(kept):
        place = EXPECTED / run.name / path.relative_to(kept)
        place.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        if len(content) > LARGE:
            place.with_name(f"{place.name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            place.write_bytes(content)


def differences(wanted: Any, found: Any, at: str = "", *, near: float = 1e-6) -> Iterator[str]:
    """Where two values differ, floats by more than `near` of them, losses by more than 1e-4."""
    if isinstance(wanted, float) or isinstance(found, float):
        most = 1e-4 if "/losses/" in at else 1e-9 + near * abs(wanted if isinstance(wanted, int | float) else 0)
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (wanted, found))
        if not numbers or not abs(wanted - found) <= most:
            yield f"{at}: {wanted!r} became {found!r}"
    elif isinstance(wanted, dict) and isinstance(found, dict):
        if ".jsonl/" in at and set(wanted) == set(found) and list(wanted) != list(found):
            yield f"{at}: the order of keys is another"
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            if key not in wanted or key not in found:
                yield f"{at}/{key}: {'is new' if key in found else 'is gone'}"
            else:
                yield from differences(wanted[key], found[key], f"{at}/{key}", near=near)
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{at}: {len(wanted)} entries became {len(found)}"
        for place, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from differences(one, other, f"{at}/{place}", near=near)
    elif isinstance(wanted, str) and isinstance(found, str) and "\n" in wanted + found:
        lines = (wanted.splitlines(), found.splitlines())
        if lines[0] != lines[1]:
            yield from differences(*lines, at, near=near)
        elif wanted != found:
            yield f"{at}: line ends differ"
    elif type(wanted) is not type(found) or wanted != found:
        yield f"{at}: {wanted!r} became {found!r}"
