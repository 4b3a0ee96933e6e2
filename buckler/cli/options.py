"""The application, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from buckler.workflow.sources import Source

app = typer.Typer(
    name="buckler",
    help="Keep a language model safe while people customise it: curate, defend, attack, measure, prove.\n\n"
    "Start with `buckler demo`: the whole story on an embedded miniature model, on two CPU cores, in minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[str, typer.Option(help="`miniature`, a local folder, or a hub id such as Qwen/Qwen2.5-7B-Instruct.")]
Adapter = Annotated[str | None, typer.Option(help="A PEFT adapter to put on the model.")]
Out = Annotated[Path, typer.Option(help="Folder for the results. Run again after a kill with the same one: it goes on.")]
Seed = Annotated[int, typer.Option(help="Of every draw. The same seed gives the same files.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only so many rows of each file, drawn by the seed.")]
Probes = Annotated[list[str], typer.Option(help="Probe files whose rows tell their set (XSTest, HarmBench, rows of your own).")]
Harmful = Annotated[list[str], typer.Option(help="Probes that should be refused.")]
Borderline = Annotated[list[str], typer.Option(help="Probes that sound harmful and should be answered.")]
Benign = Annotated[list[str], typer.Option(help="Ordinary questions; where the right answer is known, it is scored as utility.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")]
OwnTasks = Annotated[Path | None, typer.Option(help="The YAML file of tasks of your own that the answers are to.")]
StoreOption = Annotated[Path, typer.Option(help="Folder of finished steps; work found there is not done again.")]
Workers = Annotated[int, typer.Option(help="Local processes, one thread each. On one GPU: 1.")]
Cluster = Annotated[str | None, typer.Option(help="A Ray address (auto, ray://HOST:PORT); --store on a shared disk.")]
JudgeOption = Annotated[
    str, typer.Option(help="keyword, paper, rubric, strongreject, guard, module:Class; commas: the majority; NAME=MODEL.")
]
JudgeModel = Annotated[str | None, typer.Option(help="For judges that are models: a folder, a hub id or NAME@URL.")]
JudgeCards = Annotated[Path, typer.Option(help="Folder of judge cards (`buckler judge-card`): rates are corrected by them.")]
Metric = Annotated[list[str], typer.Option(help="A further number of your own, as module:name.")]
TrustCode = Annotated[bool, typer.Option(help="Run the code that the recipe names as module:name.")]
ShowUnsafe = Annotated[bool, typer.Option(help="Show unsafe answers in the report instead of redacting them.")]
DryRun = Annotated[bool, typer.Option(help="Only tell what would be done, what is done already, and the cost.")]


def probe_sources(asked: Mapping[str | None, Sequence[str]], limit: int | None, seed: int) -> list[tuple[Source, str | None]]:
    """Files of probes, by the set their rows belong to (None: the rows tell it), as a command asks for them."""
    from buckler.workflow.sources import at_most

    return [(at_most(limit, file, seed=seed, split="test"), name) for name, files in asked.items() for file in files]
