"""Calls to a model server over HTTP: the deadline and the size limit of a reply, retries, and the budget of a run."""

from __future__ import annotations

import asyncio
import os
import re
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from threading import Event, Lock, Thread
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from buckler.data import Json, bounded_json
from buckler.errors import BackendError
from buckler.models.dialect import FILTERED, Doubt, Fault
from buckler.models.reply import is_error, read_error

Reply: TypeAlias = Mapping[str, Any]
Read = TypeVar("Read")

VARIABLES = ("BUCKLER_API_KEY", "OPENAI_API_KEY")
"""Where the key is looked for, first come first served. It is read from nowhere else and written nowhere."""
PASSING = {408, 409, 425, 429}
"""Refusals that may pass, besides what goes wrong on the server's side (5xx)."""
NEVER = {501, 505}
"""What a server that cannot do a thing will never do."""
ENDING = {401, 402, 403, 404}
"""Refusals that every other call of the run would meet too: key, credit, rights, model."""
MAY_BE_FILTERED = {200, 400, 403, 422, 451}
"""Statuses with which providers say that a filter stood before the model."""
NOT_ASKED = "not asked, since the run is ending"
"""The kind of a call that was not made."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries of a call, unless the server asks for more."""
LARGEST = 32 << 20
"""Bytes of a reply: log-probabilities of a prompt of 100,000 tokens take about 20 MiB."""
AGAIN_IF_CHARGED = 2
"""Further tries of a call that may have been paid for, though its reply never came whole."""


class Budget:
    """What a run may spend. Calls count when they are made, tokens when they are reported."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        self.max_requests, self.max_tokens = requests, tokens
        self.requests = self.replies = self.tokens = 0
        self._lock = Lock()

    def start(self) -> None:
        """Count one more call.

        Raises:
            BackendError: there is nothing left to pay it with.
        """
        with self._lock:
            for what, used, limit in (
                ("request", self.requests, self.max_requests),
                ("token", self.tokens, self.max_tokens),
            ):
                if limit is not None and used >= limit:
                    raise BackendError(
                        f"{what} budget of {limit} is used up; answers are saved: run the same command with a "
                        "larger budget to resume"
                    )
            self.requests += 1

    def refund(self) -> None:
        """Take back a call that the server refused: it charges nothing."""
        with self._lock:
            self.requests -= 1

    def report(self, reply: Reply) -> None:
        """Count a reply and the tokens it was charged with.

        Raises:
            BackendError: there is a limit, but the server does not count.
        """
        usage = reply.get("usage")
        total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
        with self._lock:
            self.replies += 1
            self.tokens += total if isinstance(total, int) else 0
        if not isinstance(total, int) and self.max_tokens is not None:
            raise BackendError("this server does not report token counts, so a token budget cannot be enforced; use max_requests")


class Transport:
    """Calls to one server, from many threads at once.

    Args:
        endpoint: the base URL; `?api-version=` makes it Azure's.
        timeout: seconds from the beginning of a call to the end of its reply.
        retries: how often a call is made again.
        wait: seconds before the first of these; each further one waits twice as long, with jitter.
    """

    def __init__(self, endpoint: str, *, timeout: float, retries: int, wait: float) -> None:
        self.endpoint, self.timeout, self.retries = endpoint, timeout, retries
        self.variable = next((name for name in VARIABLES if os.environ.get(name, "").strip()), None)
        self._key = os.environ[self.variable].strip() if self.variable else ""
        if not (self._key.isascii() and self._key.isprintable()):
            raise BackendError(f"the key in {self.variable} contains characters that a key cannot have; set it again")
        self._backoff = wait_exponential_jitter(initial=wait, max=LONGEST_PAUSE, jitter=wait)
        self.reached = False
        """Whether the server ever answered: one that did may be starting anew, one that never did is not there."""
        self._base, _, self._query = endpoint.partition("?")
        key = {"api-key": self._key} if self._query else {"Authorization": f"Bearer {self._key}"}
        self._connection = partial(
            httpx.AsyncClient,
            headers=key if self._key else {},
            params=parse_qs(self._query),
            timeout=httpx.Timeout(None, connect=timeout),
            verify=httpx.create_ssl_context(),
            # A proxy of the environment knows no way to this machine's own servers.
            trust_env=urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost", "::1"),
        )
        self._idle: list[httpx.AsyncClient] = []
        """One connection each: a pool of many looks through all of them at every call."""
        # A loop of its own: only there a whole call can be given up. Threads bound single reads, which a dripping server passes.
        self._loop = asyncio.new_event_loop()
        Thread(target=_serve, args=[self._loop], name="served-io", daemon=True).start()
        weakref.finalize(self, _close, self._loop, self._idle).atexit = False

    def url(self, path: str, *, at_root: bool = False) -> str:
        """The address of a call; `at_root`: beside `/v1`, not below it."""
        return f"{self._base.removesuffix('/v1') if at_root else self._base}/{path}"

    def call(
        self,
        url: str,
        body: Mapping[str, object] | None,
        read: Callable[[Reply], Read],
        *,
        budget: Budget | None = None,
        stop: Event | None = None,
        retries: int | None = None,
        doubt: Doubt = lambda fault: False,
        costs_nothing: bool = False,
    ) -> Read:
        """Make a call until it succeeds, is refused, or has been tried often enough.

        Args:
            url: where.
            body: sent as JSON; None asks with GET.
            read: makes of the reply what is wanted. One that it cannot read ends the run: the next would be paid for as well.
            budget: what pays for it.
            stop: when set, no further try is made; a fault that ends the run sets it.
            retries: how often it is made again, if not as often as usual.
            doubt: for which faults it is not made again, though they may pass.
            costs_nothing: an error within HTTP 200 is then met with the same call again, too.

        Raises:
            Fault: it brought nothing.
            BackendError: the budget is spent.
        """
        stopped = stop or Event()
        charged = 0

        def may_pass(state: RetryCallState) -> bool:
            nonlocal charged
            if not isinstance(fault := state.outcome and state.outcome.exception(), Fault):
                return False
            charged += fault.charged
            if fault.ends:
                stopped.set()
            passes = fault.passes or (costs_nothing and fault.refused and fault.status == 200)
            return passes and charged <= AGAIN_IF_CHARGED and not doubt(fault)

        retrying = Retrying(
            stop=stop_after_attempt((self.retries if retries is None else retries) + 1) | stop_when_event_set(stopped),
            sleep=sleep_using_event(stopped),
            wait=self._pause,
            retry=may_pass,
            reraise=True,
        )
        value: Read = retrying(self._once, url, body, read, budget, stopped)
        return value

    def _once(
        self, url: str, body: Mapping[str, object] | None, read: Callable[[Reply], Read], budget: Budget | None, stop: Event
    ) -> Read:
        if stop.is_set():
            raise Fault(NOT_ASKED, kind=NOT_ASKED, passes=False)
        if budget is not None:
            budget.start()
        try:
            status, wait, content = asyncio.run_coroutine_threadsafe(self._fetch(url, body), self._loop).result()
        except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
            raise Fault(f"cannot connect to {self.endpoint} ({self.short(str(fault))})") from None
        except (httpx.TimeoutException, TimeoutError):
            raise Fault(f"no whole answer within {self.timeout:g} s", charged=True) from None
        except httpx.TransportError as fault:
            raise Fault(f"the connection broke: {self.short(str(fault))}") from None
        try:
            reply: Any = bounded_json(content)
        except ValueError:
            reply = content.decode(errors="replace")
        if not 200 <= status < 300:
            if budget is not None and 400 <= status < 500:
                budget.refund()
            raise self._refusal(status, reply, wait)
        if is_error(reply):
            raise self._refusal(status, reply, wait)
        try:
            if budget is not None:
                budget.report(reply)
            return read(reply)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as fault:
            whole = content[:400].decode(errors="replace")
            why = str(fault) if isinstance(fault, ValueError) else read_error(reply).words or whole or "nothing"
            reason = f"an unreadable reply: {self.short(why if isinstance(reply, Mapping) else f'no JSON object: {whole}')}"
            raise Fault(reason, passes=False, ends=True, charged=True) from None

    async def _fetch(self, url: str, body: Mapping[str, object] | None) -> tuple[int, float, bytes]:
        """Status, `Retry-After` in seconds and body of a reply that came whole, in time and within its size."""
        client, whole = self._idle.pop() if self._idle else self._connection(), bytearray()
        async with (
            asyncio.timeout(self.timeout),
            _given_back(client, self._idle),
            client.stream("GET" if body is None else "POST", url, json=body) as reply,
        ):
            self.reached = True
            try:
                async for piece in reply.aiter_bytes():
                    whole += piece
                    if len(whole) > LARGEST:
                        reason = f"a reply of more than {LARGEST >> 20} MiB: {self.short(whole[:400].decode(errors='replace'))}"
                        raise Fault(reason, passes=False, ends=True, charged=True)
            except httpx.TransportError as fault:
                raise Fault(f"the connection broke: {self.short(str(fault))}", charged=True) from None
            except httpx.DecodingError as fault:
                if reply.is_success:  # it is paid for, and the next one would be as well
                    coding = reply.headers.get("Content-Encoding", "")
                    reason = f"an unreadable reply: its body is no {coding}: {self.short(str(fault))}"
                    raise Fault(reason, passes=False, ends=True, charged=True) from None
                whole.clear()
        return reply.status_code, _seconds(reply.headers.get("Retry-After", "")), bytes(whole)

    def _pause(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        return max(self._backoff(state), fault.wait if isinstance(fault, Fault) else 0.0)

    def _refusal(self, status: int, body: Json, wait: float) -> Fault:
        """The fault of an error, which some servers send with status 200."""
        details, came = read_error(body), status
        status = details.status or status if status < 400 else status
        words = self.short(details.words) or httpx.codes.get_reason_phrase(status)
        reason = f"HTTP {status}: {words}" if came == status != 200 else f"an error with HTTP {came}: {words}"
        if details.filtered_by and status in MAY_BE_FILTERED:
            return Fault(reason, kind=FILTERED, status=status, passes=False, details=details)
        if status in ENDING or (status == 429 and details.is_quota):
            return Fault(reason, kind=reason, status=status, passes=False, ends=True, details=details)
        if status not in PASSING and (status < 500 or status in NEVER):
            return Fault(reason, kind=reason, status=status, passes=False, details=details)
        if wait > self.timeout:
            reason = f"{reason} (the server asks to wait {wait:.0f} s, longer than the timeout of {self.timeout:g} s)"
            return Fault(reason, status=status, passes=False, ends=True, details=details)
        return Fault(reason, status=status, wait=wait, details=details)

    def short(self, text: str) -> str:
        """The beginning of what a server says, on one line, without anything that is or looks like a key."""
        bare = text.replace(self._key, "***") if self._key else text
        return re.sub(r"\bsk-\S+", "***", " ".join(bare.split()))[:300]


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


@asynccontextmanager
async def _given_back(client: httpx.AsyncClient, idle: list[httpx.AsyncClient]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        idle.append(client)


def _close(loop: asyncio.AbstractEventLoop, idle: list[httpx.AsyncClient]) -> None:
    async def close() -> None:
        for client in idle:
            await client.aclose()
        loop.stop()

    asyncio.run_coroutine_threadsafe(close(), loop)


def _seconds(retry_after: str) -> float:
    """A `Retry-After` header in seconds: it holds a number of them, or a date. What is neither asks for nothing: 0."""
    if re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", retry_after, re.ASCII):
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
