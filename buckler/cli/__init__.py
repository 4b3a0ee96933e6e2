"""The command line: `buckler COMMAND --help` teaches each. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from buckler import __version__
from buckler.cli.options import app
from buckler.errors import BucklerError

# isort: split
# In the order in which `--help` lists their commands.
from buckler.cli import experiments

# isort: split
from buckler.cli import rows

# isort: split
from buckler.cli import models

# isort: split
from buckler.cli import records

__all__ = ["app", "experiments", "main", "models", "records", "rows"]

_FREED = "ignore:resource_tracker:UserWarning"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"buckler {__version__}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of every command."""


def main() -> None:
    """Run the command line; a user's mistake is one clear message and status 2.

    One thread a process unless `OMP_NUM_THREADS` says otherwise: sums over several threads differ in their last bits, and the
    same seed is to give the same bytes here, in a pool and on a cluster.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The process that frees what a stopped run's workers shared would warn of it below our own line.
    told = os.environ.get("PYTHONWARNINGS", "")
    os.environ["PYTHONWARNINGS"] = f"{told},{_FREED}" if told else _FREED
    signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except BucklerError as fault:
        typer.echo(f"error: {fault}", err=True)
        sys.exit(2)


def _stop(number: int, frame: object) -> None:
    """Ctrl-C: say how to go on and leave at once. Whatever was being written is written to a neighbour first."""
    sys.stderr.write("\nstopped; run the same command again to go on from here\n")
    sys.stderr.flush()
    os._exit(130)  # a plain exit would wait for the steps that worker processes are in; they leave with their parent
