"""A contributor's way in is true: make targets, what CI runs, and the hooks that stand for `make check`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from test_layers import RIGHTS

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def targets() -> list[str]:
    return re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)


def recipe(target: str) -> list[str]:
    """The commands of a target, without the environment's folder."""
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert lines, target
    return [line.strip().removeprefix("$(BIN)/") for line in lines[1].splitlines()]


def test_the_table_of_targets_is_the_makefiles():
    table = re.findall(r"^\| `make ([a-z-]+)` \|.*\| (yes|no|[^|]+) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in table] == targets()
    assert set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()) == set(targets())
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    called = re.findall(r"^make ([a-z-]+)$", script, re.MULTILINE)
    assert called == ["check", "test", "test-slow"] and {name for name, ci in table if ci == "yes"} == set(called)


def test_the_hooks_run_the_tools_of_make_check():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"].removeprefix(".venv/bin/") for repository in config["repos"] for hook in repository["hooks"]]
    assert all(repository["repo"] == "local" for repository in config["repos"])
    for command in recipe("check"):
        tool = " ".join(word for word in command.split() if word != "." and not word.startswith("--"))
        assert any(hook.startswith(tool) for hook in hooks), f"no hook runs {tool}"


def test_the_architecture_page_lists_all_packages_from_the_bottom_to_the_top():
    block = PAGE.split("## Architecture")[1].split("```")[1]
    named = [name for line in block.splitlines() if line for name in re.split(r"\s{2,}", line)[0].split(", ")]
    assert named == [name for name in RIGHTS if name not in ("buckler", "__main__")]


def test_every_table_of_parts_is_where_the_pages_say():
    rows = re.findall(r"^\| (?:an?|the) .* \| `([A-Z]+)`, `(buckler/[a-z_/]+\.py)` \|$", PAGE, re.MULTILINE)
    extending = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    assert len(rows) == 10 and set(re.findall(r"`([A-Z]+)` in\s+`(buckler/[a-z_/]+\.py)`", extending)) == set(rows)
    for name, file in rows:
        assert re.search(rf"^{name}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), f"{name} in {file}"
