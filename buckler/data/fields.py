"""Fields of dataclasses against their declared types: what parts of the user's own return is checked with it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from buckler.data.jsonl import is_json


def wrong_field(one: object) -> str:
    """What is wrong with a field of a dataclass: the first that is not of its declared type or that JSON cannot hold; or ""."""
    kind = type(one)
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = _adapters(kind)
    for name, adapter in _ADAPTERS[kind].items():
        value = getattr(one, name)
        if adapter is None:
            if not is_json(value):
                return f"{name} is {shortened(value)}, which JSON cannot hold"
            continue
        try:
            adapter.validate_python(value)
        except ValidationError as fault:
            first = fault.errors()[0]
            place, says = ".".join(map(str, (name, *first["loc"]))), first["msg"].replace("Input should", "must")
            return f"{place} is {shortened(first['input'])}: it {says}"
        for at, part in enumerate(value if isinstance(value, list | tuple) else [value]):
            if inside := wrong_field(part):
                return f"{name}.{at}.{inside}"
    return ""


_ADAPTERS: dict[type, dict[str, TypeAdapter[object] | None]] = {}


def _adapters(kind: type) -> dict[str, TypeAdapter[object] | None]:
    """How the fields of a dataclass are checked; None: any JSON value. Left out are types that pydantic cannot check."""
    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    found: dict[str, TypeAdapter[object] | None] = {}
    for one in fields(kind) if is_dataclass(kind) else ():
        if "Json" in str(one.type):
            found[one.name] = None
            continue
        alone = type(kind.__name__, (), {"__annotations__": {one.name: one.type}, "__module__": kind.__module__})
        with suppress(PydanticUserError, NameError, RecursionError):
            found[one.name] = TypeAdapter(get_type_hints(alone)[one.name], config=config)
    return found


def shortened(value: object) -> str:
    """A value as messages show it."""
    shown = repr(value)
    return f"{shown[:60]}{'...' * (len(shown) > 60)}"
