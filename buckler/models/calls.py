"""Answers as they come: from a model that hands them over, or from many calls to a server at once.

What comes is handed on as it comes, and a run ends where no further call would fare better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

from buckler.errors import BackendError
from buckler.models.dialect import Fault
from buckler.models.http import NOT_ASKED
from buckler.models.protocol import LM, Completion, Likelihood, Request, ScoreRequest, Streaming
from buckler.progress import ProgressCallback

Result = TypeVar("Result", Completion, Likelihood)
ToAnswer = TypeVar("ToAnswer", Request, ScoreRequest)


CHUNK = 256
"""Requests at a time to a model that does not hand over answers as they come."""


def generate(
    model: LM, requests: Sequence[Request], progress: ProgressCallback, what: str, chunk: int = CHUNK
) -> list[Completion]:
    """One completion a request, in order; `progress` hears of them as they come."""
    numbered: list[tuple[int, Completion]] = []
    pieces = model.completions(requests) if isinstance(model, Streaming) else by_chunk(model.generate, requests, CHUNK)
    for piece in pieces:
        numbered += piece
        progress(what, len(numbered), len(requests))
    return in_order(iter([numbered]))


def by_chunk(
    ask: Callable[[Sequence[ToAnswer]], list[Result]], wanted: Sequence[ToAnswer], chunk: int
) -> Iterator[list[tuple[int, Result]]]:
    """Answers of `chunk` items after the other, with their number."""
    for start in range(0, len(wanted), chunk):
        yield list(enumerate(ask(wanted[start : start + chunk]), start))


def in_order(pieces: Iterator[list[tuple[int, Result]]]) -> list[Result]:
    """All of what came, in the order of the items."""
    numbered = [one for piece in pieces for one in piece]
    return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]


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
                    if fault.kind == NOT_ASKED:
                        continue
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
