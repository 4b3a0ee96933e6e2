"""The command line: `buckler COMMAND --help` teaches each. A command's module is imported when it is used, and not before."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from buckler import __version__
from buckler.errors import BucklerError, as_error
from buckler.progress import LOG, set_verbosity, show_progress

if TYPE_CHECKING:
    from buckler.cli.build import Command, Outcome

__all__ = ["COMMANDS", "app", "load_command", "main"]

COMMANDS: Mapping[str, Mapping[str, str]] = {
    "Experiments": {
        "demo": "Run the whole demonstration on the embedded miniature model: attack, curate, defend at every stage, report.",
        "run": "Run a recipe (a grid of models, attacks, defences, stages and seeds) and write one HTML report.",
        "recipes": "List the recipes that come with Buckler; `buckler run NAME` runs one.",
        "init": "Write a commented recipe for your own files.",
    },
    "Defend": {
        "curate": "Rewrite harmless rows with safety-related wording; training on them hardens the model they were made with.",
        "seeds": "Extract seed words from papers: terms that co-occur with safety vocabulary, each with its sentences.",
        "crosstask": "Build training rows against malicious documents: refusals for harmful documents, answers for benign ones.",
        "export": "Write rows in the layout of another trainer (TRL, LLaMA-Factory, axolotl, OpenAI), with its configuration.",
    },
    "Attack and train": {
        "attack": "Simulate a published customization attack on your own data, to test a defence.",
        "train": "Fine-tune a model on rows (a defence's, a customer's, or both) and save it as a plain model folder.",
    },
    "Measure": {
        "rows": "Inspect files of rows: layout, what is kept and dropped and why, columns used and ignored, what is learnt.",
        "evaluate": "Generate a model's answers to probes and judge them: safety, over-refusal, coherence and utility with "
        "intervals.",
        "judge": "Judge saved answers again, without loading the model that gave them.",
        "probes": "Inspect probe files: format, probe sets, categories, repeated rows, and rows that two files share.",
        "judge-card": "Measure a judge against human labels: accuracy, precision, recall and kappa with intervals, by category "
        "and model.",
        "gate": "Compare a tuned model with its base: exit status 0 if it is no worse, 1 if it is worse, 3 if inconclusive.",
    },
    "Records": {
        "report": "Write a report again from saved results, or one report on several runs.",
        "runs": "Show the contents of a store: finished and unfinished steps, size, reports.",
        "doctor": "Check this installation (versions, devices, disk space, embedded models), or what a model's files hold.",
    },
}
"""Every command by panel, with its help, in the order of `--help`."""
STATUSES = """Exit status: 0 done (gate: no worse), 1 worse (gate) or something is missing (doctor), 2 a mistake in the command
or a file, 3 inconclusive (gate), 70 a fault of the program, 130 interrupted: the same command again resumes. `run` of a pipeline
leaves with the worst status of its gates."""
FREED = "ignore:resource_tracker:UserWarning"


def load_command(name: str) -> TyperCommand:
    """The command with its options, from its module."""
    from buckler.cli.build import build

    command: Command[Any] | None
    if name in COMMANDS["Experiments"] or name in COMMANDS["Records"]:
        from buckler.cli import experiments

        command = experiments.COMMANDS[name]
    else:
        from buckler.cli import jobs

        command = jobs.COMMANDS[name]
    return build(name, next(commands[name] for commands in COMMANDS.values() if name in commands), command)


class LazyGroup(TyperGroup):
    """Lists the commands by their one line of help, and loads the one that is called or completed."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - what typer gives a group
        super().__init__(**attributes)
        for panel, commands in COMMANDS.items():
            for name, text in commands.items():
                self.commands[name] = TyperCommand(name, help=text, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - typer's own click
        """As typer's, with the loaded command."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name and command else None, rest


app = typer.Typer(
    name="buckler",
    cls=LazyGroup,
    help="Keep a language model safe while it is customized: curate data, defend, attack, and measure the effect.\n\n"
    "Start with `buckler demo`: the whole demonstration on an embedded miniature model takes minutes on two CPU cores.",
    epilog=" ".join(STATUSES.split()),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"buckler {__version__}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write no progress and no notes to standard error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Write a note for each step.")] = False,
) -> None:
    """Options of every command."""
    set_verbosity(quiet=quiet, verbose=verbose)


class _StandardError(logging.Handler):
    """Writes notes to whatever standard error is just now: a progress bar lays its own over it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{record.getMessage()}\n")


def main() -> None:
    """Run the command line; a user's mistake is one clear line and status 2.

    One thread a process unless `OMP_NUM_THREADS` says otherwise: sums over several threads differ in their last bits, and the
    same seed is to give the same bytes here, in a pool and on a cluster.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The process that frees what a stopped run's workers shared would warn of it below our own line.
    before = os.environ.get("PYTHONWARNINGS", "")
    os.environ["PYTHONWARNINGS"] = f"{before},{FREED}" if before else FREED
    signal.signal(signal.SIGINT, _stop)
    for number in (signal.SIGTERM, signal.SIGHUP):  # what a cluster sends; `nohup` ignores the second
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name or an answer that the terminal's encoding has no sign for
    LOG.handlers[:] = [_StandardError()]
    LOG.propagate = False
    LOG.setLevel(logging.INFO)
    try:
        status = typer.main.get_command(app).main(prog_name="buckler", standalone_mode=False)
        if isinstance(status, tuple):
            status = _perform(*status)
    except typer.TyperException as fault:
        _fail_usage(fault)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError as fault:
        _leave_without_reader()
        _fail(as_error(fault))
    except Exception as fault:  # noqa: BLE001 - no traceback reaches a user: what nobody foresaw goes to a file
        _fail(as_error(fault))
    sys.exit(status if isinstance(status, int) else 0)


def _perform(run: Callable[..., Outcome], as_json: bool) -> int:
    """Do what a command asks for and print what it found; its exit status."""
    # With --json the one thing on standard output is the document; what is said on the way goes to standard error, or nowhere.
    with contextlib.ExitStack() as stack:
        if as_json:
            quiet = LOG.level >= logging.WARNING
            stack.enter_context(contextlib.redirect_stdout(io.StringIO() if quiet else sys.stderr))
        progress = stack.enter_context(show_progress())
        outcome = run(progress=progress)
    text = json.dumps(outcome.to_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(outcome.lines())
    if text:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return int(getattr(outcome, "exit_status", 0))


def _fail(fault: BucklerError) -> None:
    """Print the message, without signs that a terminal would obey and with an end to what it quotes, and leave."""
    plain = "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in str(fault))
    shown = re.sub(r"(.{2000})(.{100,})", lambda long: f"{long[1]} ... ({len(long[2]):,} more characters)", plain)
    sys.stderr.write(f"error: {shown}\n")
    sys.exit(fault.exit_status)


def _fail_usage(fault: typer.TyperException) -> None:
    """A command line that cannot be read, in one line with the way to the help. A bare `buckler` has shown the help already."""
    message = " ".join(fault.format_message().replace("Value error, ", "").replace("Input should", "must").split())
    context = getattr(fault, "ctx", None)
    if message:
        _fail(BucklerError(message.rstrip(".") + (f"; see `{context.command_path} --help`" if context is not None else "")))
    sys.exit(2)


def _leave_without_reader() -> None:
    """Leave as `head` makes programs leave, without a word, if nobody reads standard output any more."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0)):
        os._exit(128 + signal.SIGPIPE)  # a plain exit would flush again


def _stop(number: int, frame: object) -> None:
    """Ctrl-C, or a cluster's: say how to resume and leave at once. What was being written is written to a neighbour first."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a terminal that is gone
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        sys.stderr.write(f"\ninterrupted{by}; run the same command again to resume\n")
        sys.stderr.flush()
    os._exit(128 + number)  # a plain exit would wait for the steps that worker processes are in; they leave with their parent
