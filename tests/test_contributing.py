"""A contributor's way in is true: make targets, what CI runs, and the hooks that stand for `make check`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LEAVING = {"attacker", "commands", "config", "plan", "results", "steps"}
"""Packages on their way out, which the page of the architecture no longer lists. To become empty."""
COMING = {"experiments"}
"""Packages on their way in. To become empty."""
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def targets() -> list[str]:
    return re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)


def recipe(target: str) -> list[str]:
    """The commands of a target, without the environment's folder."""
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert lines, target
    return [line.strip().removeprefix("$(BIN)/") for line in lines[1].splitlines()]


def test_the_table_of_targets_is_the_makefiles():
    table = re.findall(r"^\| `make ([a-z]+)` \|.*\| (yes|no|[^|]+) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in table] == targets()
    assert set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()) == set(targets())
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    called = re.findall(r"^make ([a-z]+)$", script, re.MULTILINE)
    assert called == ["check", "test"] and {name for name, ci in table if ci == "yes"} == set(called)


def test_the_hooks_run_the_tools_of_make_check():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"].removeprefix(".venv/bin/") for repository in config["repos"] for hook in repository["hooks"]]
    assert all(repository["repo"] == "local" for repository in config["repos"])
    for command in recipe("check"):
        tool = " ".join(word for word in command.split() if word != "." and not word.startswith("-"))
        assert any(hook.startswith(tool) for hook in hooks), f"no hook runs {tool}"


def test_the_architecture_page_lists_the_packages():
    block = PAGE.split("## Architecture")[1].split("```")[1]
    named = {name for line in block.splitlines() if line for name in re.split(r"\s{2,}", line)[0].split(", ")}
    packages = {path.parent.name for path in (ROOT / "buckler").glob("*/__init__.py")}
    assert packages - named <= LEAVING, "packages that the page does not list"
    assert named - packages - {path.stem for path in (ROOT / "buckler").glob("*.py")} <= COMING, "listed, but not there"
