"""Settings and recipes: frozen pydantic models that refuse what they do not know, with a message that names the fix.

`OPTIONS` and `KEYS` hold names of the previous release and what to write instead, for one release: an old name is refused with
the new one in the message, and never read as the new one in silence. `VALUES` holds values that saved recipes and results have:
these are read as the new ones.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic.fields import FieldInfo

from buckler.data.reading import read_json
from buckler.data.yaml_text import parse_yaml
from buckler.errors import ConfigError, DataError

_EXPORT = "a command of its own: `buckler export curated/curated.jsonl --to LAYOUT --out DIR`, in a recipe an entry `export`"
OPTIONS: dict[str, str] = {
    "--apart-from": "--decontaminate",
    "--label-sure": "--label-confidence",
    "--own-tasks": "--tasks-file",
    "--average": "--loss-averaging",
    "curate --words": "--seed-words",
    "curate --measured-by": "--scorer",
    "curate --grid-kept": "--grid-fraction",
    "seeds --like": "--safety-vocabulary",
    "seeds --top": "--max-terms",
    "curate --export": _EXPORT,
}
"""Old option to new one, by command: `"curate --old": "--new"`. A value with a space is said as it is (`removed; use ...`)."""
_RENAMED = (
    "apart_from:decontaminate label_sure:label_confidence own_tasks:tasks_file average:loss_averaging words:seed_words "
    "measured_by:scorer grid_kept:grid_fraction like:safety_vocabulary top:max_terms"
)
KEYS: dict[str, str] = {"export": _EXPORT} | dict(re.findall(r"(\w+):(\w+)", _RENAMED))
"""Old key of a recipe or setting to new one; the old one dotted as far as it takes to tell it from others of its name."""

VALUES: dict[str, dict[str, str]] = {"trained on": {"weakest": "most_misused_task"}, "stage": {"as it came": "base"}}
"""Old value to new one, by the label of an arm that has it."""


def now_called(old: str, table: Mapping[str, str], among: str = "", known: Sequence[str] = ()) -> str | None:
    """The sentence that says what became of `old`; None where nothing did.

    Args:
        old: An option, or the dotted path of a key.
        table: `OPTIONS` or `KEYS`.
        among: The command of an option.
        known: Dotted paths of all keys, where the new one may stand elsewhere than the old one did, or nowhere.
    """
    ends = [old.split(".", at)[-1] for at in range(old.count(".") + 1)]
    new = next((table[name] for name in (f"{among} {old}", *ends) if name in table), None)
    if new is None:
        return None
    if " " in new:
        return f"`{old}` is {new}"
    above, dot, _ = old.rpartition(".")
    place = f"{above}{dot}{new}"
    elsewhere = [one for one in known if one.rpartition(".")[2] == new]
    if known and not elsewhere:
        return None
    elsewhere = elsewhere if place not in known else []
    return f"`{old}` is now `{next(iter(elsewhere), place)}`"


FILE_NAME = r"^[a-z0-9][a-z0-9_-]{0,99}$"
"""A name that is also that of a folder or a file: it can lead nowhere else, and fits every file system."""
Model = TypeVar("Model", bound="Settings")
Read = TypeVar("Read", bound=BaseModel)


class Settings(BaseModel):
    """Base of every setting: unknown keys are refused, and values do not change once read.

    The docstring under a field is its description: what `--help`, the recipe reference and an editor show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)
    unwritten_if_empty: ClassVar[tuple[str, ...]] = ()
    """Fields that came later, and are left out of records and hashes where they are empty: what is older stays as it is."""
    unwritten_if_default: ClassVar[tuple[str, ...]] = ()
    """Such fields whose default is not empty: left out where they have it."""
    option_names: ClassVar[Mapping[str, str]] = {}
    """Settings that the command line, Python and pipelines call by another name than their field's: name, dotted path."""
    paths: ClassVar[tuple[str, ...]] = ()
    """Fields whose texts name a file or folder: in a recipe they are taken from its folder, as `Path` fields are."""

    @classmethod
    def other_names(cls) -> Mapping[str, str]:
        """Keys that may stand here for settings further in: name, dotted path."""
        return {}

    checks_itself: ClassVar[tuple[str, ...]] = ()
    """Fields that name no code, or whose own validator asks whether the code that they name may run."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        of_all = [vars(one) for one in type(self).__mro__]
        empty = {name for one in of_all for name in one.get("unwritten_if_empty", ())}
        default = {name: type(self).model_fields[name].default for one in of_all for name in one.get("unwritten_if_default", ())}
        return {
            name: value
            for name, value in values.items()
            if (value or name not in empty) and not (name in default and value == default[name])
        }


def parse(model: type[Model], values: object, where: str, names: Mapping[str, str] | None = None) -> Model:
    """`values` as a `model`.

    Args:
        model: What they are to be.
        values: Keys and values.
        where: The file or command that errors name.
        names: How errors name a setting where it is not by its dotted path, such as an option of the command line.

    Raises:
        ConfigError: the first thing that is wrong: its place, its value, and the nearest known key if it is a typing slip.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got {type(values).__name__}")
    try:
        return model.model_validate(values)
    except ValidationError as fault:
        raise ConfigError(f"{where}: {explain(model, fault, names or {})}") from None


def read_as(model: type[Read], path: Path) -> Read:
    """A saved JSON file as a model of what is read of it.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        return model.model_validate(read_json(path))
    except ValidationError as fault:
        raise DataError(f"{path}: {explain(model, fault, {})}") from None


def explain(model: type[BaseModel], fault: ValidationError, names: Mapping[str, str]) -> str:
    """The first thing that is wrong: its place, its value, and the nearest known key if it is a typing slip."""
    # A misspelled key comes before the one that is missing because of it.
    errors = fault.errors()
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    others = [f"`{'.'.join(map(str, error['loc']))}`" for error in errors if error is not first and error["loc"]]
    more = f" (also wrong or missing: {', '.join(dict.fromkeys(others))})" if others else ""
    if first["type"] == "extra_forbidden":
        if sentence := now_called(place, KEYS, known=known_paths(model)):
            return f"{sentence}{more}"
        known = _known_keys(model, first["loc"])
        near = get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else f"; the keys here are {', '.join(known)}" if known else ""
        return f"unknown key `{place}`{hint}{more}"
    value = first["input"]
    message = plain(first["msg"])
    shown = f", got {value!r}" if isinstance(value, str | int | float | bool) and repr(value) not in message else ""
    if first["type"] == "string_type" and isinstance(value, bool | int | float):
        shown += "; put it in quotes"
    owner = f"{_named(first['loc'], names)}: " if place else ""
    return f"{owner}{message}{shown}{more}"


def plain(message: str) -> str:
    """What pydantic says is wrong, to stand after the name of the value."""
    message = re.split(" or (?:an )?instance of ", message.removeprefix("Value error, "))[0]
    message = message.replace("a valid tuple", "a list").replace("a valid dictionary", "keys and values")
    return (
        message.partition(", unable to parse")[0]
        .replace("Input should", "must")
        .replace("String should match pattern", "must match")
        .replace("Field required", "is required")
    )


def _named(location: tuple[int | str, ...], names: Mapping[str, str]) -> str:
    """The name of the innermost setting of `location` that has one; else the dotted path."""
    parts = [str(part) for part in location]
    paths = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((names[path] for path in paths if path in names), f"`{paths[0]}`")


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where the unknown one does: walk the fields' types along `location`."""
    current: type[BaseModel] | None = model
    for part in location[:-1]:
        if isinstance(part, str) and current is not None and part in current.model_fields:
            current = _inner_model(current.model_fields[part].annotation)
    if current is None:
        return []
    others = current.other_names() if issubclass(current, Settings) else ()
    return list(dict.fromkeys((*current.model_fields, *others)))


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        model = _inner_model(argument)
        if model is not None:
            return model
    return None


def without_none(annotation: Any) -> Any:  # noqa: ANN401 - annotations have no common type
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [one for one in get_args(annotation) if one is not type(None)]
        return rest[0] if len(rest) == 1 else None
    return annotation


def inner_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    """The settings model that a field holds, if it holds one."""
    bare = without_none(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def known_paths(model: type[BaseModel], prefix: str = "", above: tuple[type[BaseModel], ...] = ()) -> list[str]:
    """Every setting of the model and of the models in it, dotted."""
    paths: list[str] = []
    for name, info in model.model_fields.items():
        paths.append(f"{prefix}{name}")
        inner = inner_model(info.annotation)
        if inner is not None and inner not in above:
            paths += known_paths(inner, f"{prefix}{name}.", (*above, model))
    return paths


def require_known(model: type[BaseModel], path: str, where: str) -> None:
    """Refuse a dotted path that is no setting of the model.

    Raises:
        ConfigError: it is none; the nearest one is named.
    """
    owner: type[BaseModel] | None = model
    parts = path.split(".")
    for at, part in enumerate(parts):
        if owner is None:
            return  # below a dictionary, whose keys are the user's: the model checks what stands there
        if part not in owner.model_fields:
            known = known_paths(model)
            if sentence := now_called(path, KEYS, known=known):
                raise ConfigError(f"{where}: {sentence}")
            others = model.other_names() if issubclass(model, Settings) else {}
            if path in others:
                raise ConfigError(f"{where}: unknown setting; did you mean `{others[path]}`?")
            ends = [one for one in known if one.rpartition(".")[2] == parts[-1]]
            near = (ends or get_close_matches(path, known, n=1, cutoff=0.5))[:1]
            hint = f"did you mean `{near[0]}`?" if near else f"the settings are {', '.join(model.model_fields)}"
            raise ConfigError(f"{where}: unknown setting; {hint}")
        annotation = owner.model_fields[part].annotation
        owner = inner_model(annotation)
        if owner is None and at < len(parts) - 1 and get_origin(without_none(annotation)) is not dict:
            raise ConfigError(f"{where}: `{'.'.join(parts[: at + 1])}` is a single value without settings of its own")


def put(model: type[BaseModel] | None, into: dict[str, object], parts: Sequence[str], value: object) -> None:
    """Put `value` at its place. What stands above it is as it was given (a text: the model it names), or its default."""
    name, rest = parts[0], parts[1:]
    if not rest:
        into[name] = value
        return
    info = None if model is None else model.model_fields.get(name)
    inner = None if info is None else inner_model(info.annotation)
    above = into.get(name, None if info is None else default_of(info))
    if isinstance(above, BaseModel):
        above = above.model_dump(exclude_unset=True)
    elif isinstance(above, str) and inner is not None:
        read: Callable[[object], object] = getattr(inner, "_from_text")  # noqa: B009 - what reads a text is called so
        above = read(above)
    deeper: dict[str, object] = {str(key): one for key, one in above.items()} if isinstance(above, Mapping) else {}
    put(inner, deeper, rest, value)
    into[name] = deeper


def default_of(info: FieldInfo) -> object:
    """The default of a field; None where it has none."""
    return None if info.is_required() else info.get_default(call_default_factory=True)


def with_changes(model: type[BaseModel], values: Mapping[str, object], changes: Sequence[str], option: str) -> dict[str, object]:
    """Nested values of a recipe with each `PATH=VALUE` in place of what they say; VALUE is YAML.

    Raises:
        ConfigError: a setting is unknown, or a text is no change; `option` names where it was given.
    """
    changed = dict(values)
    for change in changes:
        path, value = parse_change(model, change, option)
        _require_no_misspelled_entry(changed, path, option)
        put(model, changed, path.split("."), value)
    return changed


def _require_no_misspelled_entry(values: Mapping[str, object], path: str, option: str) -> None:
    """Check that a path does not lead through a new entry of a table whose name is nearly that of an entry there.

    Raises:
        ConfigError: it does: a misspelled name would add an entry in silence.
    """
    current: object = values
    for name in path.split(".")[:-1]:
        if not isinstance(current, Mapping):
            return
        if name not in current and (near := get_close_matches(name, [str(key) for key in current], n=1)):
            raise ConfigError(f"{option} {path}: there is no `{name}`; did you mean `{near[0]}`?")
        current = current.get(name)


def parse_change(model: type[BaseModel], change: str, option: str) -> tuple[str, object]:
    """The dotted path and the value of a text `PATH=VALUE`.

    Raises:
        ConfigError: it is no such text, or the setting is unknown.
    """
    path, equals, text = (part.strip() for part in change.partition("="))
    if not equals:
        raise ConfigError(f"{option} {change}: write {option} SETTING=VALUE, such as {option} seed=3")
    require_known(model, path, f"{option} {path}")
    return path, parse_yaml(text, f"{option} {path}")
