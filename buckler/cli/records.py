"""Commands over what is there: reports, stores, this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from buckler.cli.options import Out, ShowUnsafe, StoreOption, app


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="results-*.json files that `buckler run` wrote.")],
    out: Out,
    title: Annotated[str, typer.Option(help="Heading of the report.")] = "Buckler",
    store: Annotated[
        Path | None,
        typer.Option(help="The run's store: first compute every number anew from its answers and verdicts. No model."),
    ] = None,
    show_unsafe: ShowUnsafe = False,
) -> None:
    """Write the report again from saved results, or one report of several runs."""
    from buckler.commands.common import say
    from buckler.commands.judging import recompute
    from buckler.data import read_json
    from buckler.errors import DataError
    from buckler.experiments.pages import write_report
    from buckler.experiments.results import read_results

    read = []
    for path in results:
        value = read_json(path)
        if not isinstance(value, dict) or "arms" not in value:
            raise DataError(f"{path}: no results of a run; they lie in STORE/reports/NAME/results-NAME.json")
        saved = read_results(value, str(path))
        read.append(recompute(saved, store, out) if store else saved)
    for path in write_report(read, out, title=title, show_unsafe=show_unsafe):
        say(f"wrote {path}")


@app.command()
def runs(store: StoreOption = Path("runs")) -> None:
    """What a store holds: finished and unfinished steps, size, reports."""
    from buckler.experiments.run import list_runs

    list_runs(store)


@app.command()
def doctor() -> None:
    """Check that this machine can do the work: versions, devices, memory, disk, the embedded model."""
    from buckler.doctor import examine

    raise typer.Exit(examine())
