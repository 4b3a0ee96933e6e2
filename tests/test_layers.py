"""The layers: who may import whom, where heavy packages are imported, and that nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from itertools import combinations
from pathlib import Path

import buckler
from tools.import_graph import Module, between_packages, cycles, edges, read_package

ROOT = Path(__file__).parent.parent

# Each package (or file directly in `buckler/`) with all that it may import, from the bottom to the top: a right must stand
# above its owner. `python -m tools.structure --rights` prints what is imported today in this form.
RIGHTS = {
    "buckler": "",
    "errors": "",
    "progress": "errors",
    "data": "errors",
    "settings": "errors data",
    "registry": "errors data",
    "formats": "errors progress data registry",
    "models": "errors data progress registry settings",
    "finetuning": "errors data progress registry settings models",
    "evaluation": "errors data progress registry models finetuning formats",
    "judges": "errors data registry settings models formats evaluation",
    "crosstask": "errors data registry settings models evaluation judges",
    "curation": "errors data progress settings models judges",
    "gating": "errors data settings evaluation",
    "miniature": "errors data models crosstask curation",
    "workflow": "errors data progress registry settings models finetuning formats evaluation judges crosstask "
    "curation gating miniature",
    "report": "data evaluation",
    "integrations": "errors",
    "experiments": "buckler errors data progress registry settings models finetuning evaluation judges crosstask "
    "curation workflow report",
    "api": "errors data progress registry settings models evaluation workflow experiments",
    "cli": "errors data progress registry settings models formats evaluation miniature workflow experiments",
    "__main__": "cli",
}

# Cycles that still exist, each written as its sorted names: modules, or packages of the table above. To become empty.
KNOWN_CYCLES: tuple[str, ...] = ()

# Packages that take long to import or that few commands need, each with the modules that may import it at their top level.
# Everywhere else the import stands in the function that needs it.
HEAVY = {
    "torch": "finetuning.batches finetuning.checkpoints finetuning.loop finetuning.loss finetuning.memory finetuning.plan"
    " finetuning.prepare finetuning.trainer integrations.weighted_loss"
    " models.cache models.decoding models.sampling models.huggingface models.adapters models.loading models.scoring",
    "transformers": "finetuning.loss finetuning.memory finetuning.prepare finetuning.saving"
    " models.cache models.decoding models.sampling models.huggingface models.adapters models.loading models.scoring",
    **dict.fromkeys(("accelerate", "datasets", "gguf", "huggingface_hub", "peft", "pyarrow", "safetensors", "tokenizers"), ""),
    **dict.fromkeys(("matplotlib", "numpy", "pandas", "scipy", "sklearn"), ""),
    **dict.fromkeys(("fastapi", "inspect_ai", "lm_eval", "openai", "optuna", "ray", "trl", "uvicorn"), ""),
    **dict.fromkeys(("nltk", "pypdf", "rapidfuzz", "rouge_score", "sacrebleu", "simplemma", "wordfreq"), ""),
}
LIGHT = {"httpx", "jinja2", "pydantic", "rich", "tenacity", "typer", "typing_extensions", "yaml"}

# Backends stand beside each other: what two of them share belongs below both.
INDEPENDENT = (("buckler.models.huggingface", "buckler.models.openai_client"),)


@cache
def modules() -> dict[str, Module]:
    """The package's modules, read once by whichever test needs them first."""
    return read_package(ROOT / "buckler")


def test_each_package_imports_what_the_table_lets_it_and_uses_every_right():
    graph = between_packages(modules())
    rights = {name: set(names.split()) for name, names in RIGHTS.items()}
    faults = [f"{name}: not in the table" for name in graph.keys() - rights.keys()]
    faults += [f"{name}: in the table, but no such package" for name in rights.keys() - graph.keys()]
    for name in graph.keys() & rights.keys():
        faults += [f"{name}: may not import {other}; {_where(name, other)} does" for other in graph[name] - rights[name]]
        faults += [f"{name}: has the right to import {other} and no file uses it" for other in rights[name] - graph[name]]
    assert not faults, "\n".join(sorted(faults))


def test_the_table_has_one_direction():
    order = list(RIGHTS)
    known = [set(names.split()) for names in KNOWN_CYCLES]
    for name, names in RIGHTS.items():
        for other in set(names.split()) - {name}:
            below = order.index(other) < order.index(name)
            assert below or any({name, other} <= cycle for cycle in known), f"{other} stands below {name} in the table"


def test_no_cycle_of_modules_or_packages_at_module_or_function_level():
    found = {" ".join(names) for names in [*cycles(edges(modules())), *cycles(between_packages(modules()))]}
    assert not cycles(edges(modules(), function_level=False)), "a cycle of imports at module level"
    assert found - set(KNOWN_CYCLES) == set(), "new cycles"
    assert set(KNOWN_CYCLES) - found == set(), "cycles that are gone: strike them from KNOWN_CYCLES"


def test_heavy_packages_are_imported_at_top_level_only_by_the_modules_that_own_them():
    used: dict[str, set[str]] = {name: set() for name in HEAVY}
    for module in modules().values():
        for one in module.imports:
            name = one.name.partition(".")[0]
            if name in sys.stdlib_module_names or name in {"buckler", *LIGHT}:
                continue
            assert name in HEAVY, f"{module.name}:{one.line} imports {name}: add it to HEAVY or LIGHT"
            if not one.in_function:
                used[name].add(module.name.removeprefix("buckler."))
    for name, owners in HEAVY.items():
        assert used[name] <= set(owners.split()), f"{used[name] - set(owners.split())} import {name} at top level"
        assert used[name] >= set(owners.split()), f"{set(owners.split()) - used[name]} own {name} and do not import it"


def test_backends_do_not_import_each_other():
    graph = edges(modules())
    for group in INDEPENDENT:
        assert set(group) <= modules().keys()
        for one, other in combinations(group, 2):
            assert other not in graph[one] and one not in graph[other], f"{one} and {other} import each other"


# What reads bytes that others may have written: only these call it. What a library opens (weights, SQLite) is its own.
DOORS = {"buckler.data.reading", "buckler.data.yaml_text"}
READERS = {"open", "read_text", "read_bytes", "open_text", "open_binary"}
LOADERS = {("json", "load"), ("json", "loads"), ("yaml", "load"), ("yaml", "load_all"), ("yaml", "safe_load"), ("os", "open")}
LOADERS |= {("yaml", "full_load"), ("yaml", "unsafe_load"), ("io", "open"), ("os", "fdopen"), ("json", "JSONDecoder")}
PACKED = {"gzip", "bz2", "lzma", "zipfile", "tarfile", "shelve", "pickle", "marshal", "tomllib"}


def opens_to_read(call: ast.Call) -> bool:
    """Whether a call opens, reads or parses what lies outside; opening to write or to append does not count."""
    match call.func:
        case ast.Name(id="open"):
            modes = call.args[1:2]
        case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in LOADERS:
            return (module, name) != ("os", "fdopen") or not _writes(call.args[1:2] or [one.value for one in call.keywords])
        case ast.Attribute(attr=name) if name in READERS:
            modes = call.args[:1]
        case _:
            return False
    return not _writes(modes or [one.value for one in call.keywords if one.arg == "mode"])


def _writes(modes: list[ast.expr]) -> bool:
    return any(isinstance(mode, ast.Constant) and str(mode.value)[:1] in "wax" for mode in modes)


def test_only_one_module_opens_and_parses_what_others_wrote():
    faults = []
    for module in modules().values():
        if module.name in DOORS:
            continue
        packed = [one for one in module.imports if one.name.partition(".")[0] in PACKED]
        faults += [f"{module.path.relative_to(ROOT)}:{one.line}: imports {one.name}" for one in packed]
        names = READERS | {name for _, name in LOADERS}
        if not any(name in module.path.read_text() for name in names):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and opens_to_read(node):
                faults.append(f"{module.path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.func)}")
            elif isinstance(node, ast.ImportFrom) and {(node.module, one.name) for one in node.names} & LOADERS:
                faults.append(f"{module.path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not faults, "read it through buckler.data.reading: " + "; ".join(faults)


def test_the_search_for_what_is_opened_sees_each_way_of_reading():
    reads = ["open(p)", "p.open()", "p.open('rb')", "p.read_text()", "files(x).joinpath(y).read_bytes()", "json.loads(t)"]
    reads += ["yaml.load(t, L)", "yaml.safe_load(t)", "os.open(p, 0)", "open(p, mode='r')"]
    writes = ["open(p, 'w')", "p.open('a')", "p.open(mode='wb')", "json.dumps(v)", "yaml.safe_dump(v)", "os.fdopen(h, 'w')"]
    found = [opens_to_read(ast.parse(one, mode="eval").body) for one in (*reads, *writes)]
    assert found == [True] * len(reads) + [False] * len(writes)


def test_help_imports_nothing_heavy():
    code = f"""
import contextlib, io, resource, sys
from buckler.cli import main
sys.argv = ["buckler", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
    main()
assert "curate" in text.getvalue()
heavy = set({sorted(HEAVY)}) & set(sys.modules)
assert not heavy, heavy
used = resource.getrusage(resource.RUSAGE_SELF)
assert used.ru_utime + used.ru_stime < 2, used  # CPU seconds, a quarter of one where it was measured
"""
    _run(code)


def test_import_buckler_is_quick_and_loads_nothing_heavy():
    code = f"""
import resource, sys
def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
before = seconds()
import buckler
assert seconds() - before < 0.2, seconds() - before  # CPU seconds
heavy = set({sorted(HEAVY)}) & set(sys.modules)
assert not heavy, heavy
"""
    _run(code)


def test_no_public_name_is_also_the_name_of_a_sub_package():
    public = set(getattr(buckler, "__all__", ()))
    assert not public & {module.package for module in modules().values()}, "`buckler.x` would be the package or the name by turns"


def test_every_module_says_what_it_is():
    without = [name for name, module in modules().items() if not ast.get_docstring(module.tree)]
    assert not without, f"no docstring: {without}"


def _where(package: str, other: str) -> str:
    """A file and line of `package` that imports `other`."""
    return next(
        f"{module.path.relative_to(ROOT)}:{one.line}"
        for module in modules().values()
        if module.package == package
        for one in module.imports
        if one.name in modules() and modules()[one.name].package == other
    )


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
