"""Commands that run whole experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from buckler.cli.options import Cluster, DryRun, ShowUnsafe, StoreOption, TrustCode, Workers, app


@app.command()
def demo(
    store: StoreOption = Path("runs"),
    workers: Workers = 2,
    dry_run: DryRun = False,
    show_unsafe: ShowUnsafe = False,
) -> None:
    """The whole story on the miniature: attack, curate, defend at every stage, close the document hole, report."""
    from buckler.commands import recipes as command
    from buckler.workflow.store import Store

    recipes = command.demo_recipes()
    if dry_run:
        command.dry_run(recipes, Store(store))
        return
    command.run_recipes(recipes, Store(store), workers=workers, cluster=None, name="demo", show_unsafe=show_unsafe)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/stages.yaml or recipes/cross_task.yaml.")],
    model: Annotated[str | None, typer.Option(help="Use this model instead of the recipe's.")] = None,
    judge: Annotated[str | None, typer.Option(help="Judge by this instead; stored answers are judged again.")] = None,
    judge_cards: Annotated[Path | None, typer.Option(help="Folder of judge cards, instead of the recipe's.")] = None,
    store: StoreOption = Path("runs"),
    workers: Workers = 2,
    cluster: Cluster = None,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
    show_unsafe: ShowUnsafe = False,
) -> None:
    """Run a recipe: a grid of models, attacks, defences, stages and seeds. Ends with one HTML report."""
    from buckler.commands import recipes as command
    from buckler.config.attacker import AttackerRecipe
    from buckler.config.read import read_recipe
    from buckler.workflow.store import Store

    read = read_recipe(recipe, model=model, judge=judge, judge_cards=judge_cards, trust_code=trust_code)
    if isinstance(read, AttackerRecipe):
        from buckler.commands import attacker

        if dry_run:
            attacker.dry_run(read, Store(store))
            return
        attacker.run_attacker(read, Store(store), workers=workers, cluster=cluster, show_unsafe=show_unsafe)
        return
    if dry_run:
        command.dry_run([read], Store(store))
        return
    command.run_recipes([read], Store(store), workers=workers, cluster=cluster, name=read.name, show_unsafe=show_unsafe)
