"""The pages under docs/ are true: their recipes and task files are read, their options exist, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from buckler.cli import COMMANDS as PANELS
from buckler.cli import load_command
from buckler.crosstask.own_tasks import read_tasks
from buckler.experiments.pipeline import PipelineRecipe
from buckler.experiments.registry import recipe_kinds
from buckler.settings import parse

ROOT = Path(__file__).parent.parent
KINDS = {**recipe_kinds(), "pipeline": PipelineRecipe}
PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMANDS = {name: load_command(name) for commands in PANELS.values() for name in commands}


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_recipe_is_understood(page, tmp_path):
    for block in blocks(page, "yaml"):
        values = yaml.safe_load(block)
        if isinstance(values, dict) and "kind" in values:
            parse(KINDS[values["kind"]], values, page.name)
        elif isinstance(values, dict) and all(isinstance(one, dict) and "wordings" in one for one in values.values()):
            (tmp_path / "tasks.yaml").write_text(block)
            assert read_tasks(tmp_path / "tasks.yaml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page):
    for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        called = re.match(r"\s*(?:[A-Z_]+=\S+\s+)*buckler\s+([a-z-]+)(.*?)(?:\s#.*)?$", line)
        if called:
            assert called[1] in COMMANDS, line
            known = {name for one in COMMANDS[called[1]].params for name in (*one.opts, *one.secondary_opts)}
            assert set(re.findall(r"(?<=\s)--[a-z-]+", called[2])) <= known | {"--help"}, line


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_file_and_test_that_is_named_exists(page):
    for place, name in re.findall(
        r"\b((?:tests|buckler|benchmarks|recipes)/[\w/.-]+\.(?:py|yaml|md))(?:::(\w+))?", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / place).exists(), place
        assert not name or f"def {name}(" in (ROOT / place).read_text(encoding="utf-8"), f"{place}::{name}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_everything_that_is_imported_from_buckler_exists(page):
    for block in blocks(page, "python"):
        for line in re.findall(r"^from buckler.*$|^import buckler.*$", block, re.MULTILINE):
            exec(line, {})
