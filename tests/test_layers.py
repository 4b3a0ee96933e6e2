"""The layers of the house: who may import whom, and that nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "buckler"
GROUND = {
    "errors",
    "data",
    "settings",
    "cutting",
    "formats",
    "mixture",
    "overlap",
    "stats",
    "metrics",
    "calibration",
    "language",
    "store",
    "execute",
    "stages",
}
MODELS = {"lm", "miniature"}
DOMAIN = {"curate", "crosstask", "defenses", "attacks", "probes", "judges", "utility"}
HEAVY = {"training", "answer"}
COMPOSITION = {"attacker", "sources", "config", "steps", "plan", "results"}
SURFACE = {"report", "gate", "export", "progress", "commands", "cli", "doctor"}
# The sets of the miniature speak the product's own prompts, so that only the model's name changes.
SPEAKS_THE_PROMPTS = {"crosstask", "curate"}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "lm": GROUND | {"lm"},
    "miniature": GROUND | MODELS | SPEAKS_THE_PROMPTS,
    **dict.fromkeys(DOMAIN, GROUND | DOMAIN | {"lm"}),
    **dict.fromkeys(HEAVY, GROUND | MODELS | DOMAIN | HEAVY),
    **dict.fromkeys(COMPOSITION, GROUND | MODELS | DOMAIN | HEAVY | COMPOSITION),
    "report": GROUND | {"report", "results", "judges"},
    **dict.fromkeys(SURFACE - {"report"}, GROUND | MODELS | DOMAIN | HEAVY | COMPOSITION | SURFACE),
    "store": {"errors"},
    "execute": {"errors", "store"},
}
TRANSFORMERS_BACKEND = {"lm/hf.py", "lm/decode.py", "lm/sampling.py", "lm/scoring.py", "lm/batching.py"}
HEAVY_PACKAGES = {
    "torch": {*TRANSFORMERS_BACKEND, "lm/template.py", "training/trainer.py", "training/batches.py"},
    "transformers": {*TRANSFORMERS_BACKEND, "lm/template.py", "training/trainer.py", "training/batches.py"},
    "peft": set(),
    "ray": set(),
    "datasets": set(),
    "matplotlib": set(),
    "scipy": set(),
    "pandas": set(),
    "accelerate": set(),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, top_level: bool) -> set[str]:
    """Dotted names a file imports; with `top_level`, only those that run when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if top_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(name.name for name in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.add(child.module)
                if child.module == "buckler":
                    found.update(f"buckler.{name.name}" for name in child.names)
            visit(child)

    visit(tree)
    return found


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_layer_may(path):
    name = layer(path)
    if name in ("__init__", "py"):
        return
    assert name in MAY_IMPORT, f"{name} belongs to no layer: put it into one"
    wanted = {found.split(".")[1] for found in imports(path, top_level=False) if found.startswith("buckler.")}
    assert wanted - {name, "__version__"} <= MAY_IMPORT[name], f"{name} imports {wanted - MAY_IMPORT[name]}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_only_where_they_are_owned(path):
    place = str(path.relative_to(PACKAGE))
    for found in imports(path, top_level=True):
        owners = HEAVY_PACKAGES.get(found.split(".")[0])
        if owners is not None:
            assert any(place.startswith(owner) for owner in owners), f"{place} imports {found} when it is imported"


def test_the_backends_do_not_import_each_other():
    backends = {"hf", "scripted", "openai"}
    for path in (PACKAGE / "lm").glob("*.py"):
        if path.stem in backends:
            others = {f"buckler.lm.{name}" for name in backends - {path.stem}}
            assert not imports(path, top_level=False) & others


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['buckler', '--help']\n"
        "from buckler.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'numpy', 'scipy', 'datasets', 'matplotlib', 'peft'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is():
    for path in modules():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"


def test_every_raised_version_is_that_of_a_step():
    from importlib import import_module

    from buckler.plan.spell.common import VERSIONS

    for place in VERSIONS:
        module, _, function = place.partition(".")
        assert callable(getattr(import_module(f"buckler.steps.{module}"), function))
