"""The pages under docs/ are true: their recipes and task files are read, their options exist, their links lead somewhere."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from buckler.cli import COMMANDS as PANELS
from buckler.cli import load_command
from buckler.crosstask.tasks import read_tasks
from buckler.experiments.pipeline import PipelineRecipe
from buckler.experiments.registry import recipe_kinds
from buckler.registry import REGISTRIES
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


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_module_and_name_of_buckler_that_is_mentioned_exists(page):
    groups = {getattr(import_module(place), name).group for place, _, name in (one.partition(":") for one in REGISTRIES.values())}
    for name in set(re.findall(r"`(buckler(?:\.\w+)+)`", page.read_text(encoding="utf-8"))) - groups:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute) or find_spec(name), name


def test_errors_are_quoted_as_the_program_writes_them():
    patterns = [
        "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in node.values)
        for path in (ROOT / "buckler").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
    ]
    quoted = [line for page in PAGES for line in re.findall(r"^error: (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)]
    assert quoted
    for line in quoted:
        assert any(len(pattern) > 40 and re.fullmatch(pattern, line) for pattern in patterns), line
