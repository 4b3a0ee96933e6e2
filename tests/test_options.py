"""The command line is its settings: every one of them is reachable, none is said twice, and the list of options is frozen.

`python tests/test_options.py` writes `fixtures/options.txt` anew, after a change that is meant.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import typer
from pydantic import Field, model_validator
from pydantic_core import PydanticUndefined

from buckler.cli import COMMANDS as PANELS
from buckler.cli import experiments, jobs, load_command
from buckler.cli.build import Command, CommandResult, build
from buckler.cli.options import Layout, nested_values, options_of
from buckler.errors import ConfigError
from buckler.settings import Settings, inner_model, known_paths

FIXTURE = Path(__file__).parent / "fixtures" / "options.txt"
HELP = {name: text for commands in PANELS.values() for name, text in commands.items()}
COMMANDS: dict[str, Command] = {**experiments.COMMANDS, **jobs.COMMANDS}
EXAMPLES = [(name, line) for name, command in COMMANDS.items() for line in command.examples]


def option_lines() -> list[str]:
    """Every argument and option of every command, one a line."""
    found = []
    for name in HELP:
        for one in load_command(name).params:
            shown = one.name.upper() if one.param_type_name == "argument" else " ".join((*one.opts, *one.secondary_opts))
            found.append(f"{name} {shown}")
    return found


def test_the_names_of_all_options_are_frozen():
    assert option_lines() == FIXTURE.read_text().splitlines(), "python tests/test_options.py writes the list anew"


def test_every_command_is_listed_and_has_a_module():
    assert set(HELP) == set(COMMANDS)


@pytest.mark.parametrize("name", HELP)
def test_every_setting_of_a_command_is_an_option_or_can_be_set(name):
    command = COMMANDS[name]
    options = {one.path for one in options_of(command.settings, command.layout)}
    for field in command.settings.model_fields:
        assert field in options or field in known_paths(command.settings), field
    for path in known_paths(command.settings):
        nested = nested_values(command.settings, {}, [f"{path}=null"])
        for part in path.split("."):
            nested = nested[part]
        assert nested is None


@pytest.mark.parametrize("name", HELP)
def test_a_default_that_is_shown_is_the_one_of_the_settings(name):
    command = COMMANDS[name]
    shown = {one.name: one.default for one in load_command(name).params}
    for one in options_of(command.settings, command.layout):
        owner = command.settings
        default: object = PydanticUndefined
        for part in one.path.split("."):
            info = owner.model_fields[part]
            above = default
            default = getattr(above, part) if isinstance(above, Settings) else info.get_default(call_default_factory=True)
            owner = inner_model(info.annotation) or owner
        if isinstance(default, Settings):
            default = default.model_dump(exclude_unset=True).popitem()[1]
        if default is PydanticUndefined or default in ((), {}):
            default = None
        if "(default:" in one.help:  # said in words: it goes by another setting
            default = None
        assert shown[one.name] == (list(default) if isinstance(default, tuple) else default), one.flag


@pytest.mark.parametrize("name", HELP)
def test_every_option_says_what_it_is(name):
    assert not [one.name for one in load_command(name).params if not one.help]


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line.removeprefix("buckler ")[:60] for _, line in EXAMPLES])
def test_every_example_is_understood(name, line):
    first, second, *words = shlex.split(line)
    assert (first, second) == ("buckler", name)
    action, as_json = load_command(name).main(words, prog_name="buckler", standalone_mode=False)
    settings = getattr(action.func, "__self__", action.args[0])
    assert isinstance(settings, COMMANDS[name].settings) and as_json == ("--json" in words)


@pytest.mark.parametrize("name", HELP)
def test_help_shows_two_examples(name, capsys):
    assert load_command(name).main(["--help"], prog_name=f"buckler {name}", standalone_mode=False) in (0, None)
    shown = capsys.readouterr().out
    assert "Examples:" in shown and shown.split("Examples:")[1].count(f"buckler {name}") >= 2


@pytest.mark.parametrize("name", HELP)
def test_help_on_80_columns_leaves_options_choices_and_words_whole(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = load_command(name)
    command.main(["--help"], prog_name=f"buckler {name}", standalone_mode=False)
    shown = capsys.readouterr().out
    assert "\u2026" not in shown
    cells = {word for line in shown.splitlines() for word in re.split(r"[\s|<>]+", line)}
    for one in command.params:
        options = {*one.opts, *one.secondary_opts} if one.param_type_name == "option" else set()
        assert options <= {part for word in cells for part in word.split(",")}, one.name
    for option in options_of(COMMANDS[name].settings, COMMANDS[name].layout):
        types = (option.type, *get_args(option.type))
        assert {choice for one in types if get_origin(one) is Literal for choice in get_args(one)} <= cells, option.name


def test_no_command_of_the_command_line_loads_a_heavy_package_for_its_help():
    code = f"""
import sys
from buckler.cli import load_command
for name in {list(HELP)}:
    load_command(name)
heavy = {{"torch", "transformers", "numpy", "scipy", "datasets", "peft", "pandas"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Inner(Settings):
    depth: int = Field(default=2, ge=1, le=9)
    """Depth."""
    shares: tuple[float, ...] = (0.5,)
    """Shares."""


class Named(Settings):
    name: str
    """Name."""
    speed: int = 1
    """Speed."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class Outer(Settings):
    inner: Inner = Inner(depth=3)
    """Inner."""
    kind: Literal["a", "b"] = "a"
    """Kind."""
    thing: Named = Named(name="default")
    """Thing."""
    table: dict[str, int] = {}  # noqa: RUF012 - a field
    """Table."""


@pytest.mark.parametrize(
    ("given", "changes", "nested"),
    [
        ({}, ["inner.shares=[0.4, 0.8]"], {"inner": {"depth": 3, "shares": [0.4, 0.8]}}),
        ({}, ["inner.depth=4"], {"inner": {"depth": 4}}),
        ({"inner.depth": 5}, ["inner.shares=[1]"], {"inner": {"depth": 5, "shares": [1]}}),
        ({"thing": "x"}, ["thing.speed=3"], {"thing": {"name": "x", "speed": 3}}),
        ({}, ["thing.speed=3"], {"thing": {"name": "default", "speed": 3}}),
        ({}, ["table.any=3", "kind=b"], {"table": {"any": 3}, "kind": "b"}),
        ({}, ["kind="], {"kind": None}),
    ],
)
def test_set_puts_a_yaml_value_at_its_place(given, changes, nested):
    assert nested_values(Outer, given, changes) == nested


@pytest.mark.parametrize(
    ("given", "change", "says"),
    [
        ({}, "iner.depth=3", "--set iner.depth: unknown setting; did you mean `inner.depth`?"),
        ({}, "inner.deth=3", "--set inner.deth: unknown setting; did you mean `inner.depth`?"),
        ({}, "depth=3", "--set depth: unknown setting; did you mean `inner.depth`?"),
        ({}, "zzz=3", "--set zzz: unknown setting; the settings are inner, kind, thing, table"),
        ({}, "kind.x=3", "--set kind.x: `kind` is a single value without settings of its own"),
        ({}, "kind", "--set kind: write --set SETTING=VALUE"),
        ({}, "inner.shares=[0.4", "--set inner.shares"),
        ({"inner.depth": 3}, "inner.depth=4", "--set inner.depth: `inner.depth` is already set by its option"),
        ({"inner.depth": 3}, "inner={depth: 4}", "--set inner: `inner.depth` is already set by its option"),
    ],
)
def test_a_setting_that_is_none_is_one_clear_error(given, change, says):
    with pytest.raises(ConfigError) as fault:
        nested_values(Outer, given, [change])
    assert str(fault.value).startswith(says)


def test_the_type_the_choices_and_the_range_of_an_option_are_those_of_the_field(capsys):
    layout = Layout(flatten=("inner",), arguments=("thing",))
    command = Command(
        settings=Outer, run=lambda settings, out, progress: CommandResult(), out=None, layout=layout, examples=("", "")
    )
    built = build("outer", "Help.", command)
    built.main(["--help"], prog_name="outer", standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "<a|b>" in shown and "<int> [1<=x<=9]" in shown and "[default: 3]" in shown and "table" not in shown
    for words, says in {"--kind c": "not one of 'a', 'b'", "--depth x": "integer"}.items():
        with pytest.raises(typer.BadParameter, match=says):
            built.main(["thing", *words.split()], prog_name="outer", standalone_mode=False)
    with pytest.raises(ConfigError, match="outer: --depth: must be greater than or equal to 1, got 0"):
        built.main(["thing", "--depth", "0"], prog_name="outer", standalone_mode=False)


if __name__ == "__main__":
    FIXTURE.write_text("".join(f"{line}\n" for line in option_lines()))
