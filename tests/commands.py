"""Run the command line inside a test: most of a real process is the import of torch, which this one has done already."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path


def call(argv: tuple[str, ...], work: Path) -> tuple[int, str, str]:
    """Run the command line in this process, in `work`: its exit status, what it printed, what it said on standard error."""
    from buckler.cli import main

    before, words = dict(os.environ), sys.argv
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    out, err = io.StringIO(), io.StringIO()
    status = 0
    try:
        sys.argv = ["buckler", *argv]
        with contextlib.chdir(work), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = words
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(before)
    return status, out.getvalue(), err.getvalue()


def buckler(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`buckler ARGUMENTS`, run by `call` in `cwd`."""
    words = tuple(str(one) for one in arguments)
    return subprocess.CompletedProcess(words, *call(words, cwd or Path.cwd()))
