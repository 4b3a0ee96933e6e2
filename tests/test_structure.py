"""The tools that measure the package: what counts as an import, a cycle, a chain, and as a file that a command enters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tools.import_graph import components, cycles, edges, longest_chain, read_package

TOOLS = Path(__file__).parent.parent / "tools"


def package(folder: Path, **files: str) -> Path:
    """A package `buckler` of these files; `a__b` stands for `a/b.py`."""
    for name, text in {"__init__": "", **files}.items():
        path = folder / "buckler" / f"{name.replace('__init__', '@').replace('__', '/').replace('@', '__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "buckler"


def test_an_edge_goes_to_the_module_that_is_named(tmp_path):
    folder = package(
        tmp_path,
        a="from buckler.data import Chat\nfrom buckler.data import rows\nfrom buckler import __version__\nimport json\n",
        data____init__="class Chat: ...\n",
        data__rows="from . import Chat\nfrom .files import read\nfrom ..a import x\n",
        data__files="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import buckler.a\nelse:\n    import buckler.data\n",
    )
    assert edges(read_package(folder)) == {
        "buckler": set(),
        "buckler.a": {"buckler.data", "buckler.data.rows"},
        "buckler.data": set(),
        "buckler.data.files": {"buckler.data"},
        "buckler.data.rows": {"buckler.data", "buckler.data.files", "buckler.a"},
    }


def test_an_import_in_a_function_closes_a_cycle_at_function_level_alone(tmp_path):
    folder = package(tmp_path, a="import buckler.b\n", b="def f():\n    def g():\n        import buckler.a\n")
    modules = read_package(folder)
    assert not cycles(edges(modules, function_level=False))
    assert cycles(edges(modules)) == [["buckler.a", "buckler.b"]]


def test_an_import_in_a_class_body_or_a_branch_runs_with_the_file(tmp_path):
    folder = package(
        tmp_path, a="class A:\n    import buckler.b\ntry:\n    import buckler.c\nexcept ImportError: ...\n", b="", c=""
    )
    assert edges(read_package(folder), function_level=False)["buckler.a"] == {"buckler.b", "buckler.c"}


def test_components_come_after_what_they_need_and_chains_pass_a_cycle_once():
    graph = {"a": "b", "b": "cx", "c": "bd", "d": "e", "e": "", "x": "y", "y": "z", "z": ""}
    assert [sorted(one) for one in components(graph)] == [["e"], ["d"], ["z"], ["y"], ["x"], ["b", "c"], ["a"]]
    assert cycles(graph) == [["b", "c"]]
    assert longest_chain(graph) == ["a", "b", "x", "y", "z"]


def test_the_trace_counts_functions_that_the_command_calls_and_no_module_bodies(tmp_path):
    folder = package(
        tmp_path,
        cli="from buckler import mark, top\n\n@mark.once\ndef main():\n    list(map(top.start, [1]))\n",
        mark="def once(function):\n    return function\n",
        top="from buckler import low\n\ndef start(n):\n    return [low.work(one) for one in range(n)]\n",
        low="from buckler import leaf\n\ndef work(n):\n    import buckler.late\n    return again(n)\n\n"
        "def again(n):\n    return leaf.end()\n",
        leaf="class Leaf:\n    size = 1\n\ndef end():\n    return sum(x for x in (1, 2))\n",
        late="def never(): ...\n\nvalue = [one for one in 'ab']\n",
    )
    out = tmp_path / "trace.json"
    subprocess.run([sys.executable, TOOLS / "call_trace.py", out], check=True, env={"PYTHONPATH": str(folder.parent)})
    seen = json.loads(out.read_text())
    assert seen["chain"] == ["cli.py", "top.py", "low.py", "leaf.py"]
    assert seen["files"] == ["cli.py", "leaf.py", "low.py", "top.py"]
    assert (seen["functions"], seen["file_calls"], seen["modules"], seen["status"]) == (5, 3, 7, 0)


def test_a_limit_that_is_passed_fails_the_check(tmp_path):
    def status(*options: str) -> int:
        command = [sys.executable, "-m", "tools.structure", "--root", tmp_path, "--no-trace", *options]
        return subprocess.run(command, stdout=subprocess.DEVNULL, cwd=TOOLS.parent).returncode

    package(tmp_path, a="import buckler.b\n", b="")
    assert status("--check") == status("--json") == status() == 0
    package(tmp_path, b="def f():\n    import buckler.a\n")
    assert (status("--check"), status()) == (1, 0)
