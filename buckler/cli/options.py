"""Options from a settings model: its fields are the one home of names, types, choices, ranges, defaults and help.

A field of the command's settings is an option of the same name. A field that is itself a settings model is either spread
(`flatten`: each of its fields is an option), given as a plain text (a model, a file of rows), or reached by `--set`.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from buckler.data.yaml_text import parse_yaml
from buckler.errors import ConfigError
from buckler.settings import Settings, default_of, inner_model, parse_change, put, without_none

PANELS: Mapping[str, str] = {
    **dict.fromkeys("texts customer documents rows answers labels papers files results recipe".split(), "Data"),
    **dict.fromkeys("probes harmful borderline benign utility official official_tasks tasks_file".split(), "Data"),
    **dict.fromkeys("limit split columns use repeats skip_bad decontaminate background".split(), "Data"),
    **dict.fromkeys("safety_vocabulary attack_rows preparation".split(), "Data"),
    **dict.fromkeys("model adapter base tuned reviser reference proxy aligned label_model".split(), "Model"),
    **dict.fromkeys("dtype threads quantize batch_tokens chat_template chat_template_kwargs".split(), "Model"),
    **dict.fromkeys("judge judge_model judge_cards cards margins metrics".split(), "Judge"),
    **dict.fromkeys("train attack_train".split(), "Training"),
    **dict.fromkeys("out to licence controls show_unsafe title job json quiet verbose".split(), "Output"),
    **dict.fromkeys("seed workers store cluster dry_run sample max_requests max_tokens set trust_code".split(), "Run"),
}
"""The panel of a field, or of all fields in it, where the field names none (`json_schema_extra={"panel": ...}`)."""
OTHERS = "Method"
ORDER = ("Data", "Model", "Method", "Training", "Judge", "Output", "Run")
"""The order of the panels in `--help`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a command shows its settings."""

    arguments: tuple[str, ...] = ()
    """Fields that are arguments, not options."""
    flatten: tuple[str, ...] = ()
    """Fields (dotted) that are settings models, each of whose fields is an option."""
    unlisted: tuple[str, ...] = ()
    """Fields (dotted) in those that are left to `--set`."""
    help: Mapping[str, str] = field(default_factory=dict)
    """Help of options that another name than their field's needs."""
    complete: Mapping[str, Callable[[str], list[str]]] = field(default_factory=dict)
    """By argument, what a shell may complete a beginning to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option or argument."""

    name: str
    path: str
    """Dotted, in the settings."""
    type: Any
    """What the command line takes: a plain type, a `Literal`, or a list of one of them."""
    info: FieldInfo
    default: object
    """What is shown as the default; None shows none."""
    required: bool
    argument: bool
    help: str
    complete: Callable[[str], list[str]] | None = None

    @property
    def flag(self) -> str:
        """As it is written on the command line and in messages."""
        return self.name.upper() if self.argument else f"--{self.name.replace('_', '-')}"

    @property
    def panel(self) -> str:
        """The panel of `--help`."""
        extra = self.info.json_schema_extra
        named = extra.get("panel") if isinstance(extra, Mapping) else None
        return str(named) if named else PANELS.get(self.path.partition(".")[0], OTHERS)

    def parameter(self) -> inspect.Parameter:
        """The parameter of the function that typer reads."""
        taken: Any = self.type if self.required else self.type | None
        default = inspect.Parameter.empty if self.required else self.default
        annotation: Any
        if self.argument:
            annotation = Annotated[taken, typer.Argument(help=self.help, autocompletion=self.complete)]
        else:
            flag = f"{self.flag}/--no-{self.flag[2:]}" if self.type is bool else self.flag
            shown = typer.Option(flag, help=self.help, metavar=self._metavar, rich_help_panel=self.panel)
            annotation = Annotated[taken, shown]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    @property
    def _metavar(self) -> str | None:
        """What stands for the value in the help where typer would not say it: a range."""
        item = _item(self.info.annotation)
        bounds = _range(self.info) if self.type in (int, float) else ""
        return f"<{item.__name__}> [{bounds}]" if bounds else None

    def value(self, raw: object) -> object:
        """What the settings are given for what typer read.

        Raises:
            ConfigError: a table is no YAML.
        """
        if isinstance(raw, str) and _is_table(self.info.annotation):
            return parse_yaml(raw, self.flag)
        if isinstance(raw, list | tuple):
            return tuple(text.strip() if isinstance(text, str) else text for text in raw)
        return raw


def options_of(model: type[Settings], layout: Layout) -> list[Option]:
    """Every option of a command in the order of the fields; arguments first, in their own order."""
    paths = {path: name for name, path in model.option_names.items()}
    options: list[Option] = []

    def visit(current: type[BaseModel], prefix: str, base: object) -> None:
        for name, info in current.model_fields.items():
            path = f"{prefix}{name}"
            default = getattr(base, name, None) if base is not None else default_of(info)
            if path in layout.unlisted:
                continue
            if path in layout.flatten:
                inner = inner_model(info.annotation)
                assert inner is not None, f"{path} is no settings model"
                visit(inner, f"{path}.", default)
            elif path in paths or (_taken(info.annotation) is not None and (not prefix or prefix[:-1] in layout.flatten)):
                options.append(_option(paths.get(path, name), path, info, default, layout))
            if path not in layout.flatten and any(named.startswith(f"{path}.") for named in paths):
                inner = inner_model(info.annotation)
                assert inner is not None, f"{path} is no settings model"
                visit(inner, f"{path}.", default)

    visit(model, "", None)
    own = {one.name for one in options if "." not in one.path}
    options = [one for one in options if "." not in one.path or one.name not in own]  # such a one is reached by --set
    assert len({one.name for one in options}) == len(options), f"{model.__name__}: two fields of one name"
    places = {name: number for number, name in enumerate(layout.arguments)}
    return sorted(options, key=lambda one: places.get(one.name, len(places)))


def _option(name: str, path: str, info: FieldInfo, default: object, layout: Layout) -> Option:
    shown, text = default, layout.help.get(name) or info.description or ""
    if isinstance(default, BaseModel):
        shown = next(iter(default.model_dump(exclude_unset=True).values()), None)
    elif isinstance(default, tuple):
        shown = list(default) or None
    elif isinstance(default, Mapping) or "(default:" in text:
        shown = None
    required = info.is_required() if "." not in path else False
    return Option(
        name=name,
        path=path,
        type=str if _is_table(info.annotation) else _taken(info.annotation),
        info=info,
        default=shown,
        required=required,
        argument=name in layout.arguments,
        help=_help(text),
        complete=layout.complete.get(name),
    )


def _range(info: FieldInfo) -> str:
    """The range of a number as it is shown, such as `x>=1` or `0<x<=1`. The settings check it: their message has the value."""
    bounds = {end: getattr(one, end) for one in info.metadata for end in ("ge", "gt", "le", "lt") if hasattr(one, end)}
    low = next((f"{bounds[end]}{sign}" for end, sign in (("ge", "<="), ("gt", "<")) if end in bounds), "")
    high = next((f"{sign}{bounds[end]}" for end, sign in (("le", "<="), ("lt", "<")) if end in bounds), "")
    if low and not high:
        return f"x>={bounds['ge']}" if "ge" in bounds else f"x>{bounds['gt']}"
    return f"{low}x{high}" if low or high else ""


def _help(text: str) -> str:
    """A docstring on one line, safe from the terminal's markup."""
    return " ".join(text.split()).replace("[", r"\[")


def _item(annotation: Any) -> Any:  # noqa: ANN401
    """The type of one value of a list."""
    bare = without_none(annotation)
    return next(iter(get_args(bare)), None) if get_origin(bare) in (tuple, list) else bare


def _is_table(annotation: Any) -> bool:  # noqa: ANN401
    """Whether a field holds names and values, which the command line takes as YAML or JSON where its layout names the field."""
    return get_origin(without_none(annotation)) is dict


def _taken(annotation: Any) -> Any:  # noqa: ANN401
    """What the command line takes for a field; None where only `--set` can say it."""
    bare = without_none(annotation)
    if get_origin(bare) in (tuple, list):
        inner = get_args(bare)
        single = _taken(inner[0]) if len(inner) == 1 or inner[1:] == (Ellipsis,) else None
        return None if single is None or get_origin(single) is list else types.GenericAlias(list, (single,))
    if bare in (bool, int, float, str, Path) or get_origin(bare) is Literal:
        return bare
    if isinstance(bare, type) and issubclass(bare, BaseModel) and hasattr(bare, "_from_text"):
        return str
    return None


def nested_values(model: type[Settings], by_path: Mapping[str, object], changes: Sequence[str]) -> dict[str, object]:
    """Values by dotted path, and each `PATH=VALUE` of `--set` with VALUE as YAML, nested as the settings are.

    Raises:
        ConfigError: a setting is unknown, given twice, or the text is no setting.
    """
    flat = dict(by_path)
    for change in changes:
        path, value = parse_change(model, change, "--set")
        twice = next((other for other in flat if f"{other}.".startswith(f"{path}.") or _inside(path, other, flat[other])), None)
        if twice is not None:
            raise ConfigError(
                f"--set {path}: `{twice}` is already set{' by its option' if twice in by_path else ''}; set it only once"
            )
        flat[path] = value
    values: dict[str, object] = {}
    for path in sorted(flat, key=lambda one: one.count(".")):
        put(model, values, path.split("."), flat[path])
    return values


def _inside(path: str, other: str, value: object) -> bool:
    """Whether a setting lies in one that was given as a whole; a model's name leaves its other settings open."""
    return path.startswith(f"{other}.") and not isinstance(value, str)
