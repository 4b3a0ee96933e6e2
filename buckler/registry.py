"""Parts by name: Buckler's own, a user's `module:name`, and those of installed packages (entry points).

Every kind of part (attack, judge, file format ...) has one `Registry` beside the code that calls it. What a part must be is
checked when it is looked up, what it returns when it is called (`boundary`, `list_of`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Generic, TypeGuard, TypeVar

from buckler.data.fields import shortened, wrong_field
from buckler.data.reading import read_bytes
from buckler.errors import BucklerError, ConfigError, DataError

T = TypeVar("T")
Item = TypeVar("Item")
_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_OURS = __name__.partition(".")[0]
_RECIPE: ContextVar[tuple[str, frozenset[str]] | None] = ContextVar("recipe", default=None)
"""The recipe that is being read or run and the places it may name all the same; None: the user named the part."""
REGISTRIES: dict[str, str] = {
    "attack": "buckler.finetuning.attacks:ATTACKS",
    "defense": "buckler.finetuning.defenses:DEFENSES",
    "judge": "buckler.judges.base:JUDGES",
    "guard": "buckler.judges.guards:GUARDS",
    "metric": "buckler.evaluation.metrics:METRICS",
    "backend": "buckler.models.protocol:BACKENDS",
    "format": "buckler.formats.chats:FORMATS",
    "export": "buckler.formats.write:WRITERS",
    "task": "buckler.crosstask.tasks:TASK_REGISTRY",
    "experiment": "buckler.experiments.registry:EXPERIMENTS",
}
"""Where the registry of each kind lies."""


class Registry(Generic[T]):
    """Parts of one kind."""

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, T | str],
        accepts: Callable[[object], TypeGuard[T]],
        must_be: str,
    ) -> None:
        """A registry.

        Args:
            kind: What messages call a part.
            group: The entry-point group of installed packages.
            builtin: Buckler's own parts, as objects or, so that naming one imports only that one, as `module:name`.
            accepts: Whether an object is such a part.
            must_be: What it must be, for the message when it is not: "a class with ...".
        """
        self.kind, self.group, self.must_be = kind, group, must_be
        self._builtin: dict[str, T | str] = dict(builtin)
        self._added: dict[str, T] = {}
        self._accepts = accepts

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._added or name in self._installed()

    def names(self) -> list[str]:
        """Every part that has a name of its own: Buckler's, added ones, installed ones."""
        return list(dict.fromkeys([*self._builtin, *self._added, *self._installed()]))

    def is_own(self, name: str) -> bool:
        """Whether the part is not Buckler's but a user's or another package's."""
        return name not in self._builtin and not name.startswith(f"{_OURS}.")

    def require_no_options(self, name: object, options: Mapping[str, object]) -> None:
        """Raise where options are set for a part of Buckler's own, which has none; a name already refused is passed over.

        Raises:
            ValueError: so that a settings model shows it at the field.
        """
        if options and isinstance(name, str) and not self.is_own(name):
            raise ValueError(f"{self.kind} {name!r} has no options; remove them")

    def add(self, name: str, part: T) -> None:
        """Register a part under a name, in this process.

        Raises:
            ConfigError: the name is taken, or the object is no such part.
        """
        if name in self or is_place(name):
            raise ConfigError(f"{self.kind} {name!r}: the name is already taken; choose another")
        self._added[name] = self._checked(name, part)

    def get(self, name: str) -> T:
        """The part of a name.

        Raises:
            ConfigError: there is none, it cannot be imported, it is no such part, or a recipe names code without being trusted.
        """
        self.allow(name)
        if name in self._added:
            return self._added[name]
        if name in self._builtin:
            part = self._builtin[name]
            return self._checked(name, _loaded(f"{self.kind} {name!r}", part) if isinstance(part, str) else part)
        if is_place(name):
            return self._checked(name, _loaded(f"{self.kind} {name!r}", name))
        if name in self._installed():
            return self._checked(name, _loaded(f"{self.kind} {name!r}", self._installed()[name].value))
        near = get_close_matches(name, self.names(), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = f"the {self.kind}s are {', '.join(self.names())}" if self.names() else "none is installed"
        raise ConfigError(f"unknown {self.kind} {name!r}{hint}; {known}, or name one of your own as `module:name`")

    def allow(self, name: str) -> None:
        """Check that whoever names this part may have its code run, as the function `allow` does."""
        allow(f"{self.kind} {name!r}", name)

    def code(self, name: str) -> dict[str, str]:
        """What a step that uses the part holds in its key: the hash of a user's source, nothing for Buckler's own parts."""
        if not self.is_own(name):
            return {}
        return {"code": source_digest(f"{self.kind} {name!r}", self.get(name), self._place(name))}

    def folder(self, name: str) -> Path:
        """Where the files of a user's part lie: beside its module, or in the working folder if it has none."""
        self.get(name)
        file = getattr(sys.modules.get(self._place(name).partition(":")[0]), "__file__", None)
        return Path(file).parent if file else Path.cwd()

    def _place(self, name: str) -> str:
        return name if is_place(name) else self._installed()[name].value if name not in self._added else ""

    @contextmanager
    def boundary(self, name: str) -> Iterator[None]:
        """Around a call of a part: an exception in a user's own becomes one message that names the part and its line."""
        try:
            yield
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BucklerError as fault:
            if not self.is_own(name) or repr(name) in str(fault):
                raise
            raise type(fault)(f"{self.kind} {name!r}: {fault}") from fault
        except BaseException as fault:  # a part that exits does not end the program
            if not self.is_own(name):
                raise
            last = traceback.extract_tb(fault.__traceback__)[-1]
            where = f"{Path(last.filename).name}, line {last.lineno}"
            raise ConfigError(f"{self.kind} {name!r} failed: {type(fault).__name__}: {fault} ({where})") from fault

    def returned(self, name: str, value: object, wanted: str) -> DataError:
        """The error for a part that returned something else than it must."""
        return DataError(f"{self.kind} {name!r} must return {wanted}, got {type(value).__name__}: {shortened(value)}")

    def list_of(
        self, name: str, value: object, item: type[Item], *, count: int | None = None, needs: str = "", by: str = ""
    ) -> list[Item]:
        """What a part (its function `by`) returned, as a list of `count` `item`s with what each `needs`; else DataError."""
        wanted = f"a list of {'' if count is None else f'{count} '}{item.__name__}{by and f' from `{by}`'}"
        if not isinstance(value, list | tuple):
            raise self.returned(name, value, wanted)
        right = [one for one in value if isinstance(one, item)]
        if len(right) < len(value):
            odd = next(one for one in value if not isinstance(one, item))
            raise DataError(f"{self.kind} {name!r} must return {wanted}; one of them is of type {type(odd).__name__}")
        if count is not None and len(right) != count:
            raise DataError(f"{self.kind} {name!r} must return {wanted}, one each in the given order; it returned {len(right)}")
        for at, one in enumerate(right if self.is_own(name) else (), 1):
            with self.boundary(name):
                fault = wrong_field(one) or (f"it has no {needs}" if needs and not getattr(one, needs) else "")
            if fault:
                raise DataError(f"{self.kind} {name!r} must return {wanted}; in number {at}, {fault}")
        return right

    def _checked(self, name: str, part: object) -> T:
        if not self._accepts(part):
            shown = part.__name__ if isinstance(part, type) else f"an object of type {type(part).__name__}"
            raise ConfigError(f"{self.kind} {name!r} must be {self.must_be}; it is {shown}")
        return part

    def _installed(self) -> dict[str, EntryPoint]:
        return _entry_points(self.group, tuple(sys.path))


def register(kind: str, name: str, part: object) -> None:
    """Register a part of the user's under a name, in this process: `register("judge", "mine", MyJudge)`.

    Other processes do not see it: with several workers, name it as `module:name` instead.

    Raises:
        ConfigError: there is no such kind, the name is taken, or the object is no such part.
    """
    if kind not in REGISTRIES:
        raise ConfigError(f"unknown kind of part {kind!r}; the kinds are {', '.join(REGISTRIES)}")
    registry = imported(f"{kind} {name!r}", REGISTRIES[kind])
    assert isinstance(registry, Registry)
    registry.add(name, part)


@contextmanager
def read_from(recipe: str, *, trusted: bool, allowed: Collection[str] = ()) -> Iterator[None]:
    """While a recipe is read, planned and run: a `module:name` in it is refused unless the user trusts it.

    Args:
        recipe: What messages call it.
        trusted: Whether the user said so (`--trust-code`).
        allowed: Places that the user named beside it, on the command line.
    """
    token = _RECIPE.set(None if trusted else (recipe, frozenset(allowed)))
    try:
        yield
    finally:
        _RECIPE.reset(token)


def allow_remote_code(model: str) -> None:
    """Check that whoever asks for code that comes with a model's weights may have it run.

    Raises:
        ConfigError: a recipe asks for it, and code of recipes is not trusted.
    """
    recipe = _RECIPE.get()
    if recipe is not None:
        raise ConfigError(f"model {model!r}: {recipe[0]} asks for `trust_remote_code`; if you trust that code, add --trust-code")


def refuse_code(value: object, place: str = "") -> None:
    """Check every text in the settings of a recipe: no `module:name` may stand there, whatever the setting is for.

    Names of sets (`miniature:NAME`) and of models on a server (`NAME@URL`) are no code; fields in `checks_itself` are skipped.

    Raises:
        ConfigError: there is one, and code of recipes is not trusted.
    """
    if isinstance(value, str | Path):
        for text in re.split(r"[,=]", str(value)):
            name, at, rest = (part.strip() for part in text.partition("@"))
            if "://" not in rest and (at or not name.startswith("miniature:")):
                allow(f"{place}: {name!r}", name)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            refuse_code(one, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple | set | frozenset):
        for at_, one in enumerate(value):
            refuse_code(one, f"{place}.{at_}".lstrip("."))
    elif hasattr(value, "model_fields_set"):
        unseen: tuple[str, ...] = getattr(value, "checks_itself", ())
        refuse_code({name: one for name, one in vars(value).items() if name not in unseen}, place)


def places_in(text: str) -> set[str]:
    """Every `module:name` in what a user typed, such as `keyword,my_judge:Asks=my_model:Echo`."""
    return {name for name in re.split(r"[^\w.:]+", text) if is_place(name)}


def allow(what: str, name: str) -> None:
    """Check that whoever names this code may have it run; other names are no code.

    Raises:
        ConfigError: it is a `module:name` in a recipe, and code of recipes is not trusted.
    """
    recipe = _RECIPE.get()
    if recipe is not None and is_place(name) and not name.startswith(f"{_OURS}.") and name not in recipe[1]:
        raise ConfigError(f"{what} is code that {recipe[0]} names; if you trust it, add --trust-code")


def is_foreign(part: object) -> bool:
    """Whether an object is of a class that is not Buckler's."""
    return not type(part).__module__.startswith(f"{_OURS}.")


def is_place(name: str) -> bool:
    """Whether a name is a `module:name`."""
    return _PLACE.fullmatch(name) is not None


def imported(what: str, place: str) -> object:
    """The object at `module:name`. The working folder is searched last, so that no file in it hides an installed package.

    Raises:
        ConfigError: it cannot be imported, or a recipe names it without being trusted.
    """
    allow(what, place)
    return _loaded(what, place)


def _loaded(what: str, place: str) -> object:
    module, _, attribute = place.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        loaded = importlib.import_module(module)
    except (BucklerError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as fault:
        if isinstance(fault, ModuleNotFoundError) and fault.name and f"{module}.".startswith(f"{fault.name}."):
            raise ConfigError(f"{what}: no module {fault.name!r} in {folder} or among the installed packages") from None
        raise ConfigError(f"{what}: {module} cannot be imported: {type(fault).__name__}: {fault}") from fault
    if not hasattr(loaded, attribute):
        near = get_close_matches(attribute, dir(loaded), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{what}: {getattr(loaded, '__file__', None) or module} has no {attribute!r}{hint}")
    value: object = getattr(loaded, attribute)
    return value


@functools.cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Installed parts by name; `path` is where Python looks for packages."""
    return {one.name: one for one in entry_points(group=group)}


def source_digest(what: str, part: object, place: str = "") -> str:
    """The hash of the source file of a part, or of all files of the package that is its module.

    Raises:
        ConfigError: there is no source.
    """
    module = sys.modules.get(place.partition(":")[0]) or inspect.getmodule(part if hasattr(part, "__module__") else type(part))
    file = getattr(module, "__file__", None)
    if file is not None and Path(file).is_file():
        path = Path(file)
        files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        text = b"\0".join(read_bytes(one) for one in files)
    else:
        try:
            text = inspect.getsource(part if callable(part) else type(part)).encode()
        except (OSError, TypeError):
            raise ConfigError(f"{what} has no source file, so its version cannot be recorded; put it in a file") from None
    return hashlib.sha256(text).hexdigest()[:16]
