"""Calls to a model server over HTTP: retries, faults, the budget of a run, and many calls at once.

`Transport` makes one call, again where that may help; `iter_completed` makes many and hands over their answers as they come,
so that nothing is lost when the run has to end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from buckler.errors import BackendError

Reply: TypeAlias = Mapping[str, Any]
Read = TypeVar("Read")
ToAnswer = TypeVar("ToAnswer")
Result = TypeVar("Result")

VARIABLES = ("BUCKLER_API_KEY", "OPENAI_API_KEY")
"""Where the key is looked for, first come first served. It is read from nowhere else and written nowhere."""
PASSING = {408, 409, 425, 429}
"""Refusals that may pass, besides what goes wrong on the server's side (5xx)."""
NEVER = {501, 505}
"""What a server that cannot do a thing will never do."""
FILTERED = "filtered"
"""The kind of a fault where a content filter stood before the model: that request's fate, and no other's."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries of a call, unless the server asks for more."""
LONGEST_ASKED = 300.0
"""Seconds a server may ask to wait; more is a quota that ran out, and waiting for it in silence helps nobody."""


class Fault(Exception):
    """A call that brought nothing. It never leaves the backend: it ends as a failed answer or as a `BackendError`."""

    def __init__(self, reason: str, *, kind: str = "", status: int = 0, passes: bool = True, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        """Faults of one kind have one cause, whatever their words. Empty: the server or the way to it."""
        self.status = status
        """The HTTP status of a reply that was none of success; 0 where there was no reply, or a broken one."""
        self.passes = passes
        """Whether the same call may succeed a little later."""
        self.wait = wait
        """Seconds the server asks for."""

    @property
    def refused(self) -> bool:
        """Whether the server understood the request and will not serve it."""
        return bool(self.kind)


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
        endpoint: the base URL.
        concurrency: connections kept open.
        timeout: seconds a call may stay without an answer.
        retries: how often a call is made again.
        wait: seconds before the first of these; each further one waits twice as long, with jitter.
    """

    def __init__(self, endpoint: str, *, concurrency: int, timeout: float, retries: int, wait: float) -> None:
        self.endpoint, self.timeout, self.retries = endpoint, timeout, retries
        self.variable = next((name for name in VARIABLES if os.environ.get(name, "").strip()), None)
        self._key = os.environ[self.variable].strip() if self.variable else ""
        if not (self._key.isascii() and self._key.isprintable()):
            raise BackendError(f"the key in {self.variable} contains characters that a key cannot have; set it again")
        self._backoff = wait_exponential_jitter(initial=wait, max=LONGEST_PAUSE, jitter=wait)
        self.reached = False
        """Whether the server ever answered: one that did may be starting anew, one that never did is not there."""
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=timeout,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            # A proxy of the environment knows no way to this machine's own servers.
            trust_env=urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost", "::1"),
        )

    def call(
        self,
        url: str,
        body: Mapping[str, object] | None,
        read: Callable[[Reply], Read],
        *,
        budget: Budget | None = None,
        stop: Event | None = None,
    ) -> Read:
        """POST `body` (GET without one) and `read` the reply, again and again while that may help.

        Args:
            url: the whole address.
            body: JSON.
            read: makes of the reply what is wanted; one that it cannot read counts as broken and is asked for again.
            budget: what pays for it.
            stop: when set, no further try is made.

        Raises:
            Fault: it brought nothing.
            BackendError: the budget is spent.
        """
        stopped = stop or Event()
        retrying = Retrying(
            stop=stop_after_attempt(self.retries + 1) | stop_when_event_set(stopped),
            sleep=sleep_using_event(stopped),
            wait=self._pause,
            retry=retry_if_exception(lambda fault: isinstance(fault, Fault) and fault.passes),
            reraise=True,
        )
        value: Read = retrying(self._once, url, body, read, budget)
        return value

    def _once(self, url: str, body: Mapping[str, object] | None, read: Callable[[Reply], Read], budget: Budget | None) -> Read:
        if budget is not None:
            budget.start()
        try:
            response = self._client.request("GET" if body is None else "POST", url, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
            reason = f"cannot connect to {self.endpoint} ({self.short(str(fault))})"
            raise Fault(reason) from None
        except httpx.TimeoutException:
            raise Fault(f"no answer within {self.timeout:g} s") from None
        except (httpx.TransportError, httpx.DecodingError) as fault:
            raise Fault(f"the connection broke: {self.short(str(fault))}") from None
        self.reached = True
        if not response.is_success:
            raise self._refusal(response)
        try:
            reply = response.json()
            if budget is not None:
                budget.report(reply)
            return read(reply)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as fault:
            raise Fault(f"a broken answer ({type(fault).__name__})") from None

    def _pause(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        return max(self._backoff(state), fault.wait if isinstance(fault, Fault) else 0.0)

    def _refusal(self, response: httpx.Response) -> Fault:
        status = response.status_code
        reason = f"HTTP {status}: {self.short(_message(response)) or response.reason_phrase}"
        if status not in PASSING and (status < 500 or status in NEVER):
            filtered = "content_filter" in response.text or "content_policy" in response.text
            return Fault(reason, kind=FILTERED if filtered else reason, status=status, passes=False)
        wait = _seconds(response.headers.get("Retry-After", ""))
        if wait > LONGEST_ASKED:
            reason = f"{reason} (the server asks to wait {wait:.0f} s)"
        return Fault(reason, status=status, passes=wait <= LONGEST_ASKED, wait=wait)

    def short(self, text: str) -> str:
        """The beginning of what a server says, on one line, without anything that is or looks like a key."""
        bare = text.replace(self._key, "***") if self._key else text
        return re.sub(r"\bsk-\S+", "***", " ".join(bare.split()))[:200]


def _message(response: httpx.Response) -> str:
    """What the server says about its refusal, in the ways servers say it."""
    try:
        body = response.json()
    except ValueError:
        return "" if response.text.lstrip().startswith("<") else response.text
    for name in ("error", "message", "detail"):
        if isinstance(body, Mapping) and name in body:
            body = body[name]
    return body if isinstance(body, str) else str(body)


def _seconds(retry_after: str) -> float:
    """A `Retry-After` header in seconds: it holds a number of them, or a date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def iter_completed(
    items: Sequence[ToAnswer],
    ask: Callable[[ToAnswer, Event], Result],
    *,
    failed: Callable[[str], Result],
    ends: Callable[[Fault, int], BackendError | None],
    at_once: int,
) -> Iterator[list[tuple[int, Result]]]:
    """Ask for all, `at_once` at a time; each piece is what came since the last, with its number.

    Args:
        items: what is asked for.
        ask: asks for one, in a thread of its own; it makes no further try once the event is set.
        failed: what stands for an answer that never came, from the reason.
        ends: what ends the run after a fault, given how many of its kind came in a row; None if it goes on.
        at_once: calls under way.

    Raises:
        BackendError: the run has to end. No call is begun after the cause, and what was under way has come before.
    """
    stop = Event()
    finished: SimpleQueue[Future[Result]] = SimpleQueue()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="served")
    under_way = {pool.submit(ask, one, stop): at for at, one in enumerate(items)}
    for future in under_way:
        future.add_done_callback(finished.put)
    end: BackendError | None = None
    left, kind, in_a_row = len(under_way), "", 0
    try:
        while left:
            came: list[tuple[int, Result]] = []
            for future in _all_in(finished):
                left -= 1
                if future.cancelled():
                    continue
                try:
                    came.append((under_way[future], future.result()))
                    in_a_row = 0
                except Fault as fault:
                    came.append((under_way[future], failed(fault.reason)))
                    in_a_row = in_a_row + 1 if fault.kind == kind else 1
                    kind = fault.kind
                    end = end or ends(fault, in_a_row)
                except BackendError as fault:
                    end = end or fault
            if end is not None and not stop.is_set():
                stop.set()
                for future in under_way:
                    future.cancel()
            yield came
        if end is not None:
            raise end
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _all_in(finished: SimpleQueue[Future[Result]]) -> Iterator[Future[Result]]:
    """What has finished by now; waits for the first."""
    yield finished.get()
    while not finished.empty():
        yield finished.get()
