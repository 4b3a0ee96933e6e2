"""Templates filled in one pass."""

from __future__ import annotations

import re
from collections.abc import Mapping

from buckler.errors import ConfigError

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put `values` in the places `{name}` of `template`, in one pass: braces inside a value change nothing.

    Raises:
        ConfigError: the template names a place that has no value.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            known = ", ".join(sorted(values))
            raise ConfigError(f"template asks for {{{name}}}; the places that can be filled are: {known}")
        return values[name]

    return _PLACEHOLDER.sub(value_of, template)
