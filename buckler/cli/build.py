"""A command of the command line from its settings: options, `--set`, `--json`, examples, and the hints for old habits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar

import typer
from typer.core import TyperCommand

from buckler.cli.options import ORDER, Layout, nested_values, options_of
from buckler.data import Json
from buckler.data.reading import kind_at
from buckler.errors import ConfigError
from buckler.progress import Display, set_verbosity
from buckler.settings import OPTIONS, Settings, now_called, parse
from buckler.workflow.store import Store

SettingsT = TypeVar("SettingsT", bound=Settings)


class Outcome(Protocol):
    """What a command found: lines for people, JSON for programs."""

    def lines(self) -> list[str]:
        """What is printed."""

    def to_json(self) -> dict[str, Json]:
        """What `--json` prints."""


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """The outcome of a command that is no job."""

    text: Sequence[str] = ()
    values: Mapping[str, Json] = field(default_factory=dict)
    exit_status: int = 0

    def lines(self) -> list[str]:
        """What is printed."""
        return list(self.text)

    def to_json(self) -> dict[str, Json]:
        """What `--json` prints."""
        return dict(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Generic[SettingsT]):
    """A command: its settings, what it does with them, and how it shows itself."""

    settings: type[SettingsT]
    run: Callable[[SettingsT, Path, Display], Outcome] | None = None
    """Called with the settings, the value of `--out` and a display of progress; None: the settings are a job and run."""
    dry_run: Callable[[SettingsT, Path, Display], Outcome] | None = None
    """The same for `--dry-run`; None: there is no such option, or it is a setting."""
    layout: Layout = field(default_factory=Layout)
    out: str | Path | None = "Output directory; rerun with the same one to resume."
    """Help of `--out`, which must be given; a path is its default instead; None: the command writes nothing by itself."""
    examples: tuple[str, str]
    """Two command lines that work."""


def build(name: str, help_text: str, command: Command[SettingsT]) -> TyperCommand:
    """The command as typer runs it."""
    options = options_of(command.settings, command.layout)
    flags = {one.path: one.flag for one in options}
    own_set = any(one.name == "set" for one in options)

    def call(ctx: typer.Context, **values: Any) -> tuple[Callable[..., Outcome], bool]:  # noqa: ANN401 - typer has checked them
        above = ctx.parent.params if ctx.parent is not None else {}
        set_verbosity(**{name: bool(values[name] or above.get(name)) for name in ("quiet", "verbose")})
        by_path = {one.path: one.value(values[one.name]) for one in options if _is_given(ctx, one.name)}
        nested = nested_values(command.settings, by_path, () if own_set else values["set"] or ())
        settings = parse(command.settings, nested, name, flags)
        out = values.get("out") or Path()
        action = command.dry_run if command.dry_run is not None and values["dry_run"] else command.run
        # Reading the options and doing the work are two steps: `buckler.cli.main` does the work that is returned.
        if action is not None:
            return partial(action, settings, out), values["json"]
        store = {"store": Store(values["store"])} if values.get("store") else {}
        return partial(getattr(settings, "run"), out, **store), values["json"]  # noqa: B009

    parameters = [one.parameter() for one in options] + _common(command, own_set=own_set)
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    setattr(call, "__signature__", inspect.Signature([context, *sorted(parameters, key=_panel_place)]))  # noqa: B010
    app = typer.Typer(add_completion=False)
    examples = "\n\n".join(f"  {line}".replace("[", r"\[") for line in command.examples)
    app.command(name, cls=SettingsCommand, help=help_text, epilog=f"Examples:\n\n{examples}", context_settings=CONTEXT)(call)
    built = typer.main.get_command(app)
    assert isinstance(built, TyperCommand)
    return built


WIDEST = 20
"""Characters of the column of types and choices in the help."""
CONTEXT = {"help_option_names": ["-h", "--help"]}


class SettingsCommand(TyperCommand):
    """A command that says what to write where a word of the previous release stands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """As typer's, with columns that leave every option, choice and word whole on 80 columns."""
        shown = copy(self)
        shown.params = [_narrow(one, ctx) for one in self.params]
        super(SettingsCommand, shown).format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the context of typer's own click
        """As typer's.

        Raises:
            ConfigError: an option was renamed, or has several values after it.
        """
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        known = {name for one in self.params for name in (*one.opts, *one.secondary_opts)}
        for word in args:
            old = word.partition("=")[0]
            if old.startswith("-") and old not in known and (sentence := now_called(old, OPTIONS, str(self.name))):
                raise ConfigError(f"{self.name}: {sentence}")
        if commas := values_with_commas(args, self.params):
            raise ConfigError(f"{self.name}: {commas}")
        if swallowed := values_as_arguments(args, self.params):
            raise ConfigError(f"{self.name}: {swallowed}")
        hint = several_values(args, self.params)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter:
            raise
        except typer.TyperException as fault:
            if hint and "extra argument" in fault.format_message():
                raise ConfigError(f"{self.name}: {hint}") from None
            raise


def _narrow(parameter: Any, ctx: Any) -> Any:  # noqa: ANN401
    """An option as the help shows it: long choices over several lines, and the form with `--no-` in place of the type."""
    shown = copy(parameter)
    if parameter.param_type_name == "option" and parameter.secondary_opts:
        shown.metavar, shown.secondary_opts = ",".join(parameter.secondary_opts), []
        return shown
    lines = [""]
    for part in (parameter.display_type_rich(ctx=ctx) or "").split("|"):
        joined = f"{lines[-1]}|{part}" if lines[-1] else part
        lines = [*lines[:-1], joined] if len(joined) < WIDEST else [*lines[:-1], f"{lines[-1]}|", part]
    if len(lines) > 1:
        shown.metavar = "\n".join(lines)
    return shown


def several_values(args: Sequence[str], params: Sequence[Any]) -> str | None:
    """What to write instead of several values after one list option; None if none has several."""
    return next((_repeated(name, values) for name, values in _with_several(args, params)), None)


def values_as_arguments(args: Sequence[str], params: Sequence[Any]) -> str | None:
    """The same for a command whose arguments would take those values: where the next word is none, or files follow a file."""
    taking = [str(one.name) for one in params if one.param_type_name == "argument" and one.nargs == -1]
    for name, values in _with_several(args, params) if taking else ():
        nothing_to_read = not kind_at(values[1]) and not set("/:@.") & set(values[1])
        if nothing_to_read or kind_at(values[0]):
            return f"{_repeated(name, values)}, or put the {taking[0]} before the options"
    return None


def _with_several(args: Sequence[str], params: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
    """Each list option that more than one word follows, with these words."""
    lists = _list_options(params)
    for at, word in enumerate(takewhile(lambda other: other != "--", args)):
        name, equals, first = word.partition("=")
        rest = list(takewhile(lambda other: not other.startswith("-"), args[at + 1 :]))
        values = [first, *rest] if equals else rest
        if name in lists and len(values) > 1:
            yield name, values


def values_with_commas(args: Sequence[str], params: Sequence[Any]) -> str | None:
    """What to write instead of several values in one text, with commas; None if there are none. A file of such a name is one."""
    lists = _list_options(params) - {"--set"}
    for at, word in enumerate(args):
        if word == "--":
            return None
        name, equals, value = word.partition("=")
        value = value if equals else next(iter(args[at + 1 :]), "")
        parts = [part.strip() for part in value.split(",")]
        if name in lists and len(parts) > 1 and not kind_at(value.partition("=")[2] or value):
            return _repeated(name, list(filter(None, parts)))
    return None


def _list_options(params: Sequence[Any]) -> set[str]:
    return {name for one in params if one.param_type_name == "option" and one.multiple for name in one.opts}


def _repeated(option: str, values: Sequence[str]) -> str:
    if option == "--set" and "=" not in values[1]:
        return f"{option} {values[0]} has blanks in its value; put it in quotes: {option} '{' '.join(values)}'"
    return f"{option} takes one value at a time; write {' '.join(f'{option} {value}' for value in values)}"


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _panel_place(parameter: inspect.Parameter) -> tuple[int, int]:
    """Arguments, then the panels in their order."""
    info = parameter.annotation.__metadata__[0]
    panel = info.rich_help_panel
    return (0 if panel is None else 1 + (ORDER.index(panel) if panel in ORDER else len(ORDER)), 0)


def _common(command: Command[SettingsT], *, own_set: bool) -> list[inspect.Parameter]:
    """The options that are no settings: where results go, how they are printed, what is only planned."""
    options: list[tuple[str, object, object]] = []
    if command.out is not None:
        text = command.out if isinstance(command.out, str) else "Output file." if command.out.suffix else "Output directory."
        default = inspect.Parameter.empty if isinstance(command.out, str) else command.out
        options.append(("out", Annotated[Path, typer.Option("--out", help=text, rich_help_panel="Output")], default))
    switches = [
        ("json", ("--json",), "Print one JSON document to standard output; everything else goes to standard error.", "Output"),
        ("quiet", ("--quiet", "-q"), "Write no progress and no notes to standard error.", "Output"),
        ("verbose", ("--verbose", "-v"), "Write a note for each step.", "Output"),
    ]
    if command.run is None and "store" in inspect.signature(getattr(command.settings, "run")).parameters:  # noqa: B009
        text = "Store of finished steps that recipes and Python share (default: one inside the output directory)."
        options.append(("store", Annotated[Path | None, typer.Option("--store", help=text, rich_help_panel="Output")], None))
    if command.dry_run is not None:
        switches.append(("dry_run", ("--dry-run/--no-dry-run",), "Show the plan and its cost; run nothing.", "Run"))
    for name, names, text, panel in switches:
        options.append((name, Annotated[bool, typer.Option(*names, help=text, rich_help_panel=panel)], False))
    if not own_set:
        text = "Any setting by its dotted name with a YAML value, such as SETTING=3 or 'SETTING=\\[0.4, 0.8]'; may be repeated."
        shown = typer.Option("--set", metavar="SETTING=VALUE", help=text, rich_help_panel="Run")
        options.append(("set", Annotated[list[str] | None, shown], None))
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(name, kind, default=default, annotation=annotation) for name, annotation, default in options]
