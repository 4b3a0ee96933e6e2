"""The size and shape of the package, measured against its limits.

    python -m tools.structure            a table: each measure, its value and its limit
    python -m tools.structure --details  below it, what the numbers are made of: long files, cycles, chains, files entered
    python -m tools.structure --json     the same as JSON, details included
    python -m tools.structure --check    status 1 where a limit is passed, or its known miss grows
    python -m tools.structure --no-trace without the traced command (which runs for about 20 seconds)
    python -m tools.structure --rights   who imports whom, as the table of `tests/test_layers.py` in an order that it accepts
    python -m tools.structure --root DIR another checkout

Imports are defined in `import_graph.py`, files entered and the chain of calls in `call_trace.py`. The traced command is
`buckler curate` on two texts with the embedded model.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.import_graph import Module, between_packages, components, cycles, edges, longest_chain, read_package

PACKAGE = "buckler"
FILE_LINES = 350
CAST_FREE = ("workflow", "experiments", "cli")
"""Packages where a parameter has a type of its own, so that nothing needs `cast`."""
TRACED = ("curate", "miniature:commonsense", "--limit", "2", "--model", "miniature", "--preset", "quick")


HELD = {
    "Python files": 222,
    "lines": 42_500,
    "curate: files entered": 69,
    "curate: longest call chain, in files": 12,
}
"""Limits that are missed (docs/decisions/0007-one-house.md says why): until they are met, the number may not grow past these."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number, the most it may be (None for a number without a limit), and what it is made of."""

    name: str
    value: int
    limit: int | None = None
    details: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """It is within its limit, or has none."""
        return self.limit is None or self.value <= self.limit

    @property
    def held(self) -> bool:
        """It is within its limit, or at least no worse than the limit's known miss."""
        return self.passed or self.value <= HELD.get(self.name, -1)


def measure(root: Path, *, trace: bool = True) -> list[Measure]:
    """Every measure of the checkout at `root`."""
    modules = read_package(root / PACKAGE)
    return [*sizes(modules), *imports(modules), *casts(modules), *(traced(root) if trace else [])]


def sizes(modules: Mapping[str, Module]) -> list[Measure]:
    """Files, packages and lines."""
    packages = sorted(
        module.package for module in modules.values() if module.path.name == "__init__.py" and module.name.count(".") == 1
    )
    long = sorted((module for module in modules.values() if module.lines > FILE_LINES), key=lambda module: -module.lines)
    return [
        Measure("Python files", len(modules), 160),
        Measure("top-level packages", len(packages), 15, packages),
        Measure("lines", sum(module.lines for module in modules.values()), 25_000),
        Measure(f"files over {FILE_LINES} lines", len(long), 0, [f"{module.name}: {module.lines}" for module in long]),
        Measure("lines of the longest file", max(module.lines for module in modules.values())),
    ]


def imports(modules: Mapping[str, Module]) -> list[Measure]:
    """Cycles and chains of imports, and the imports inside functions that hide them."""
    at_import, at_any_time = edges(modules, function_level=False), edges(modules)
    inside = sorted(
        {
            f"{module.name}:{one.line} {one.name}"
            for module in modules.values()
            for one in module.imports
            if one.in_function and one.name in modules
        }
    )
    statements = {text.partition(" ")[0] for text in inside}
    named = {
        node.value.partition(":")[0]
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.partition(":")[0] in modules
    } - {PACKAGE}
    rings, hidden = cycles(at_import), cycles(at_any_time)
    chain, longest = longest_chain(at_import), longest_chain(at_any_time)
    return [
        Measure("import cycles, module level", len(rings), 0, [" ".join(names) for names in rings]),
        Measure("import cycles, with function level", len(hidden), 0, [" ".join(names) for names in hidden]),
        Measure("modules in import cycles", sum(len(names) for names in hidden), 0),
        Measure(f"function-level imports of {PACKAGE}", len(statements), 25, inside),
        Measure("longest import chain, module level", len(chain), None, [" > ".join(chain)]),
        Measure("longest import chain, with function level", len(longest), None, [" > ".join(longest)]),
        Measure("import edges", sum(len(targets) for targets in at_any_time.values())),
        Measure("modules named in strings (registries)", len(named), None, sorted(named)),
    ]


def casts(modules: Mapping[str, Module]) -> list[Measure]:
    """Calls of `cast`, in the packages that are to have none and in all."""
    places = [
        (module.package, f"{module.name}:{node.lineno}")
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("cast", "typing.cast")
    ]
    free = [place for package, place in places if package in CAST_FREE]
    return [Measure(f"cast( in {', '.join(CAST_FREE)}", len(free), 0, free), Measure("cast( in all", len(places))]


def traced(root: Path) -> list[Measure]:
    """What one `buckler curate` of two texts goes through, in a fresh process."""
    seen = trace_command(root, *TRACED)
    files, chain = [str(name) for name in seen["files"]], [str(name) for name in seen["chain"]]
    return [
        Measure("curate: files entered", len(files), 35, files),
        Measure("curate: longest call chain, in files", len(chain), 9, [" > ".join(chain)]),
        Measure("curate: functions called", seen["functions"]),
        Measure("curate: file-to-file calls", seen["file_calls"]),
        Measure("curate: modules loaded", seen["modules"]),
    ]


def trace_command(root: Path, *arguments: str) -> dict[str, Any]:
    """The trace of `buckler ARGUMENTS --out FOLDER` with the package of `root`, in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = str(Path(__file__).with_name("call_trace.py"))
        command = [sys.executable, script, str(folder / "trace.json"), *arguments, "--out", str(folder / "out")]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the traced command ended with status {done.returncode}:\n{done.stderr}")
        seen: dict[str, Any] = json.loads((folder / "trace.json").read_text(encoding="utf-8"))
        if seen["status"]:
            raise SystemExit(f"the traced command ended with status {seen['status']}:\n{done.stderr}")
        return seen


def table(measures: list[Measure]) -> str:
    """A Markdown table."""
    lines = ["| measure | value | limit | |", "|---|---:|---:|---|"]
    for one in measures:
        limit = "" if one.limit is None else f"{one.limit:,}"
        held = f"over, held at {HELD[one.name]:,}" if one.held and not one.passed else "over"
        lines.append(f"| {one.name} | {one.value:,} | {limit} | {'' if one.passed else held} |")
    return "\n".join(lines)


def details(measures: list[Measure]) -> str:
    """What the numbers are made of, measure by measure."""
    return "\n\n".join("\n".join([f"{one.name}:", *(f"  {line}" for line in one.details)]) for one in measures if one.details)


def rights(modules: Mapping[str, Module]) -> str:
    """Each package with those it imports, every package after the ones it needs."""
    graph = between_packages(modules)
    order = [name for component in components(graph) for name in sorted(component)]
    lines = []
    for name in order:
        first, *more = textwrap.wrap(" ".join(sorted(graph[name], key=order.index)), 100) or [""]
        lines.append(' "\n    "'.join([f'    "{name}": "{first}', *more]) + '",')
    return "\n".join(lines)


def main() -> int:
    """Print the measures; the status is 1 with `--check` where a limit is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="checkout to measure")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--details", action="store_true", help="also print what the numbers are made of")
    parser.add_argument("--check", action="store_true", help="status 1 where a limit is passed")
    parser.add_argument("--no-trace", action="store_true", help="without the traced command")
    parser.add_argument("--rights", action="store_true", help="print who imports whom and stop")
    options = parser.parse_args()
    if options.rights:
        print(rights(read_package(options.root.resolve() / PACKAGE)))
        return 0
    measures = measure(options.root.resolve(), trace=not options.no_trace)
    if options.json:
        rows = [
            {"name": m.name, "value": m.value, "limit": m.limit, "passed": m.passed, "held": m.held, "details": m.details}
            for m in measures
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(table(measures))
        if options.details:
            print(f"\n{details(measures)}")
    return int(options.check and not all(one.held for one in measures))


if __name__ == "__main__":
    sys.exit(main())
