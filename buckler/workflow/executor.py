"""Run a graph of steps: in this process, in a pool of local ones, or on a Ray cluster that shares the store's folder.

One thread a process: the models this project is tried on are so small that two processes beat two threads, and the same
number of threads everywhere gives the same bytes everywhere.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from types import ModuleType
from typing import Literal, Protocol, TypeAlias

from buckler.errors import BucklerError, InternalError, StoreError, as_error
from buckler.models.kept import keep_always, keeping
from buckler.progress import LOG, ProgressCallback, no_progress
from buckler.workflow.step import Run, Step, in_order
from buckler.workflow.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened to a step."""

    kind: Literal["reused", "done", "failed", "skipped"]
    """`skipped`: not tried, since an input failed."""
    step: Step
    seconds: float = 0.0
    error: str = ""
    unforeseen: bool = False
    """The error is a fault of the program."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of a graph."""

    done: int = 0
    reused: int = 0
    failed: list[Event] = field(default_factory=list)
    skipped: int = 0


OnEvent: TypeAlias = Callable[[Event], None]


class Runner(Protocol):
    """Where steps are run: takes a few at a time and gives them back as they end."""

    capacity: int

    def start(self, step: Step) -> None:
        """Begin `step`; at most `capacity` are begun and not yet collected."""

    def collect(self) -> list[Event]:
        """Wait until at least one step has ended; those that have."""


def execute(
    targets: Sequence[Step],
    store: Store,
    *,
    workers: int = 1,
    cluster: str | None = None,
    whole: bool = False,
    on_event: OnEvent = lambda event: None,
    progress: ProgressCallback = no_progress,
) -> Outcome:
    """Do every step the targets need that is not done, inputs first.

    A failed step fails what needs it and nothing else. The files do not depend on `workers` or `cluster`.

    Args:
        targets: the steps whose results are wanted.
        store: where they are kept.
        workers: local processes; 1 runs here, with `progress` inside each step.
        cluster: a Ray address ("auto", "ray://host:port", "local"); the store must be on a shared file system.
        whole: whether a target that was pruned is made again; inputs always are, where a step that is not done needs them.
        on_event: called in this process, once a step.
        progress: called inside a step, only where it runs here.
    """
    outcome = Outcome()
    steps = in_order(targets)
    needed = _needed(steps, [step for step in targets if whole and store.is_pruned(step)], store)
    waiting = {step.key: step for step in steps if step.key in needed}
    for step in steps:
        if step.key not in waiting:
            outcome.reused += 1
            on_event(Event(kind="reused", step=step))
    if not waiting:
        return outcome
    runner_of = _ray(store, cluster) if cluster else _pool(store, workers) if workers > 1 else _here(store, progress)
    with runner_of as runner, keeping():
        for event in _drive(waiting, runner):
            if event.kind == "done":
                outcome.done += 1
            elif event.kind == "failed":
                outcome.failed.append(event)
            else:
                outcome.skipped += 1
            LOG.debug("%s: %s (%.1f s)", event.kind, event.step.title or event.step.key, event.seconds)
            on_event(event)
    return outcome


def run_steps(
    targets: Sequence[Step],
    store: Store,
    *,
    workers: int = 1,
    cluster: str | None = None,
    whole: bool = False,
    progress: ProgressCallback = no_progress,
) -> None:
    """Run steps with all they need; `whole` as in `execute`.

    Raises:
        BucklerError: the first error of a step, in its own words; InternalError where it is a fault of the program.
    """
    outcome = execute(targets, store, workers=workers, cluster=cluster, whole=whole, progress=progress)
    if outcome.failed:
        first = outcome.failed[0]
        raise (InternalError if first.unforeseen else BucklerError)(first.error)


def attempt(root: str, step: Step, progress: ProgressCallback = no_progress) -> Event:
    """Run one step; what became of it. Errors travel as text, so that they cross processes."""
    started = time.monotonic()
    try:
        run_step(step, Store(Path(root)), progress)
    except Exception as fault:  # noqa: BLE001 - whatever it is, it fails this step and what needs it, and nothing else
        error = as_error(fault)
        unforeseen = isinstance(error, InternalError)
        return Event(kind="failed", step=step, seconds=time.monotonic() - started, error=str(error), unforeseen=unforeseen)
    return Event(kind="done", step=step, seconds=time.monotonic() - started)


def _attempt_in_worker(root: str, step: Step) -> Event:
    keep_always()
    return attempt(root, step)


def run_step(step: Step, store: Store, progress: ProgressCallback = no_progress) -> Path:
    """Run one step whose inputs are done, unless it is done; its folder.

    Raises:
        StoreError: an input is missing, or the folder cannot be written.
    """
    with store.locked(step) as folder:
        if store.is_done(step) and not store.is_pruned(step):
            return folder
        started = time.time()
        function = step.load()
        run = Run(
            settings=function.settings_type.model_validate(step.params),
            inputs={name: store.folder(source) for name, source in step.inputs.items()},
            outside={name: one.place for name, one in step.outside.items()},
            out=folder,
            shared=store.root / "shared",
            progress=progress,
            step=step,
            folder_of=store.folder,
        )
        try:
            function.body(run)
            store.mark(step, time.time() - started)
        except OSError as fault:
            where = fault.filename or folder
            raise StoreError(f"{where}: {fault.strerror or fault}; run the same command again to resume") from None
    return folder


def _needed(steps: Sequence[Step], again: Sequence[Step], store: Store) -> set[str]:
    """The keys of the steps that are not done or to be made again, and of the pruned ones that these need."""
    left = [*again, *(step for step in steps if not store.is_done(step))]
    needed = {step.key for step in left}
    while left:
        for source in left.pop().inputs.values():
            if source.key not in needed and store.is_pruned(source):
                needed.add(source.key)
                left.append(source)
    return needed


def _drive(waiting: dict[str, Step], runner: Runner) -> Iterator[Event]:
    """Start whatever is ready, earliest in the graph first, until nothing is left; the events as they come.

    Linear in steps and inputs: each step counts the inputs it waits for, and one that ends lowers the count of its users.
    """
    steps = list(waiting.values())
    place = {step.key: number for number, step in enumerate(steps)}
    users: dict[str, list[int]] = {}
    missing: list[int] = []
    for number, step in enumerate(steps):
        sources = {source.key for source in step.inputs.values()} & place.keys()
        missing.append(len(sources))
        for key in sources:
            users.setdefault(key, []).append(number)
    ready = [number for number, count in enumerate(missing) if not count]  # in order, so a heap
    skipped: set[int] = set()
    running = 0
    while ready or running:
        while ready and running < runner.capacity:
            running += 1
            runner.start(steps[heappop(ready)])
        for event in runner.collect():
            running -= 1
            yield event
            ended = [event.step.key]
            while ended:
                for number in users.get(ended.pop(), ()):
                    if event.kind == "failed":
                        if number not in skipped:
                            skipped.add(number)
                            ended.append(steps[number].key)
                            yield Event(kind="skipped", step=steps[number])
                        continue
                    missing[number] -= 1
                    if not missing[number]:
                        heappush(ready, number)


class _Here:
    """Runs a step in this process when its result is asked for."""

    capacity = 1

    def __init__(self, store: Store, progress: ProgressCallback) -> None:
        self.root, self.progress = str(store.root), progress
        self.step: Step | None = None

    def start(self, step: Step) -> None:
        self.step = step

    def collect(self) -> list[Event]:
        assert self.step is not None
        return [attempt(self.root, self.step, self.progress)]


@contextmanager
def _here(store: Store, progress: ProgressCallback) -> Iterator[Runner]:
    yield _Here(store, progress)


class _Pool:
    """Spawned local processes; one step more than there are processes is kept ready for the first to be free."""

    def __init__(self, pool: ProcessPoolExecutor, root: str, workers: int) -> None:
        self.pool, self.root, self.capacity = pool, root, workers + 1
        self.futures: set[Future[Event]] = set()

    def start(self, step: Step) -> None:
        self.futures.add(self.pool.submit(attempt, self.root, step))

    def collect(self) -> list[Event]:
        finished, self.futures = wait(self.futures, return_when=FIRST_COMPLETED)
        return [future.result() for future in finished]


@contextmanager
def _pool(store: Store, workers: int) -> Iterator[Runner]:
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_settle_in, initargs=(os.getpid(),)
    )
    try:
        with _interrupts_ignored():  # what a process ignores its children ignore: Ctrl-C is the parent's to answer
            for _ in range(workers):
                pool.submit(int)  # a process is started for each
        yield _Pool(pool, str(store.root), workers)
    except BrokenProcessPool:
        raise StoreError(
            "a worker process died (out of memory?); finished steps are kept: "
            "run the same command again to resume, with fewer --workers if memory ran out"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _settle_in(parent: int) -> None:
    """Make a worker single-threaded, and let it leave when its parent is gone: a killed run leaves no orphans."""
    keep_always()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Ray:
    """Ray tasks: a CPU and, where the cluster has GPUs, a GPU for each process of a step."""

    def __init__(self, ray: ModuleType, root: str) -> None:
        self.ray, self.root = ray, root
        gpus = int(ray.cluster_resources().get("GPU", 0))
        self.capacity = gpus or int(ray.cluster_resources().get("CPU", 1))
        self.gpus = 1 if gpus else 0
        self.remote = ray.remote(max_retries=3)(_attempt_in_worker)
        self.references: list[object] = []

    def start(self, step: Step) -> None:
        wanted = self.remote.options(num_cpus=step.processes, num_gpus=self.gpus * step.processes)
        self.references.append(wanted.remote(self.root, step))

    def collect(self) -> list[Event]:
        finished, self.references = self.ray.wait(self.references, num_returns=1)
        return [self.ray.get(reference) for reference in finished]


@contextmanager
def _ray(store: Store, address: str) -> Iterator[Runner]:
    try:
        import ray
    except ImportError:
        raise StoreError("a cluster needs Ray: pip install 'buckler[ray]'") from None
    ray.init(address=None if address == "local" else address, ignore_reinit_error=True, log_to_driver=False)
    try:
        yield _Ray(ray, str(store.root.resolve()))
    finally:
        ray.shutdown()
