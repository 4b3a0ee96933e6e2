"""The Hugging Face hub: where it cannot be reached, its libraries look at what is downloaded, without trying again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT, AGAIN = 5.0, 60.0
"""Seconds to wait for a connection, and until one is tried again."""
_SEEN: list[tuple[float, str]] = []


@contextmanager
def hub_or_cache() -> Iterator[str]:
    """Within it calls to the hub fail at once, or are answered from the cache, where the hub cannot be reached.

    Yields:
        Why it cannot be reached; "" where it can, or where the user has switched it off (`HF_HUB_OFFLINE`).
    """
    from huggingface_hub import constants

    reason = "" if constants.HF_HUB_OFFLINE else unreachable()
    switches = [constants, *filter(None, [sys.modules.get("datasets.config")])] if reason else []
    try:
        for switch in switches:
            setattr(switch, "HF_HUB_OFFLINE", True)  # noqa: B010 - of two modules
        yield reason
    finally:
        for switch in switches:
            setattr(switch, "HF_HUB_OFFLINE", False)  # noqa: B010


def unreachable() -> str:
    """Why no connection to the hub can be made, "" if one can; asked once a minute. A refused one is tried twice."""
    from huggingface_hub import constants, get_session

    if _SEEN and time.monotonic() - _SEEN[-1][0] < AGAIN:
        return _SEEN[-1][1]
    reason = ""
    for wait in (1.0, 0.0):
        try:
            get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
        except Exception as fault:  # noqa: BLE001 - of whichever client the library has; what comes after a connection is no matter
            kind = type(fault).__name__
            reason = str(fault).strip().partition("\n")[0] or kind
            if not kind.startswith(("Connect", "Proxy", "SSL")):
                reason = ""
        else:
            reason = ""
        if not reason or not wait or "Timeout" in kind:
            break
        time.sleep(wait)
    _SEEN[:] = [(time.monotonic(), reason)]
    return reason
