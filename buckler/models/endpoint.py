"""The address of a server: one spelling for one base URL."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from buckler.errors import ConfigError


def endpoint_of(url: str) -> str:
    """The one spelling of a server's base URL.

    Raises:
        ConfigError: it is not http or https, has no host or no valid port, or holds a password or a query that is no version.
    """
    parts = urlsplit(url.strip())
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "an endpoint must not contain a user or password, since it is saved in records; set BUCKLER_API_KEY instead"
        )
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"endpoint {url!r} must begin with http:// or https://; try http://127.0.0.1:8000/v1")
    try:
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    version = re.fullmatch(r"(?:api-version=[\w.-]+)?", parts.query)  # Azure's; another query might hold a key
    if not valid or not version or parts.fragment:
        raise ConfigError(
            f"endpoint {url!r} is not a base URL (scheme, host, port, path, and for Azure ?api-version=...); "
            "try http://127.0.0.1:8000/v1"
        )
    base, mark, query = url.strip().partition("?")
    return f"{base.rstrip('/')}{mark if query else ''}{query}"
