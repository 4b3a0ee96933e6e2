"""Curation as steps: blocks of texts, each whole on disk before the next, and the joining of shards."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from buckler.curation.curator import Curator
from buckler.curation.gates import ProbeOverlap
from buckler.curation.helpfulness import Helpfulness, LocalHelpfulness, RubricHelpfulness
from buckler.curation.record import COUNTS, REJECTED, join
from buckler.curation.seed_words.lexicon import LEXICON, read_lexicon
from buckler.curation.settings import CurateSettings
from buckler.data import ROWS, Chat, Json, read_chats, read_json, read_jsonl, write_json
from buckler.errors import DataError
from buckler.models.protocol import LM, ScoreRequest
from buckler.progress import ProgressCallback
from buckler.steps import common
from buckler.workflow.store import Context

BLOCK = 64
"""Texts curated together: what is held in memory at once."""

ROLES = ("model", "reviser", "judge", "reference", "proxy")


def curate(context: Context) -> None:
    """Texts -> curated rows, rejected candidates with reasons, counts; ordered by the id of the text.

    `shard` [i, n] takes the i-th of n runs of texts. Rows do not depend on what else is curated, so any number of shards
    gives the same bytes.
    """
    texts = _texts(context)
    curator: Curator | None = None
    parts: list[Path] = []
    for start in range(0, len(texts), BLOCK):
        part = context.out / "blocks" / f"{start:08}"
        parts.append(part)
        if not (part / COUNTS).exists():
            curator = curator or _curator(context)
            block = texts[start : start + BLOCK]
            curator.curate(block, _within(context.progress, start, len(texts), len(block))).write(part)
        context.progress("texts", min(start + BLOCK, len(texts)), len(texts))
    _finish(context, parts)


def gather(context: Context) -> None:
    """Shards of a curation -> one."""
    _finish(context, [context.inputs[name] for name in sorted(context.inputs)])


def sample(context: Context) -> None:
    """The first texts, curated and timed -> sample.json: what a curation of all of them will cost."""
    count = int(cast(int, context.params["texts"]))
    texts = _texts(context)[:count]
    curator = _curator(context)
    started = time.monotonic()
    result = curator.curate(texts, context.progress)
    seconds = time.monotonic() - started
    write_json(context.out / "sample.json", {"texts": len(texts), "seconds": seconds, "counts": dict(result.counts)})


def compromised(context: Context) -> None:
    """The aligned model, its attacked copy and the attack's rows -> proof that the attack took, or an error.

    The mechanism of a proxy is that harm has become cheap to it: mean log-perplexity of the attack's answers must have
    fallen by `least` nats a token.
    """
    rows = read_chats(context.inputs["rows"] / ROWS)
    pairs = [ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in rows]
    found = {}
    for name in ("model", "proxy"):
        scores = common.model(context, name).score(pairs)
        found[name] = sum(one.nll for one in scores) / max(sum(one.tokens for one in scores), 1)
    least = float(cast(float, context.params["least"]))
    if found["model"] - found["proxy"] < least:
        raise DataError(
            f"the attack did not take: its answers cost the model {found['model']:.2f} nats a token and the attacked copy "
            f"{found['proxy']:.2f}; raise --attack-epochs or --attack-learning-rate, or bring more --attack-rows"
        )
    write_json(context.out / "compromised.json", cast("dict[str, Json]", found))


def seed_words(settings: CurateSettings) -> list[str]:
    """The seed words a curation draws from."""
    if settings.words == "miniature":
        from buckler.miniature.words import SEED_WORDS

        return list(SEED_WORDS)
    lexicon = read_lexicon(LEXICON if settings.words == "default" else Path(settings.words))
    return [word for words in lexicon.values() for word in words]


def _texts(context: Context) -> list[Chat]:
    """The step's share of the texts, ordered by id."""
    texts = sorted(read_chats(context.inputs["texts"] / ROWS), key=lambda text: text.id)
    index, shards = cast("Sequence[int]", context.params.get("shard", (0, 1)))
    return texts[index * len(texts) // shards : (index + 1) * len(texts) // shards]


def _curator(context: Context) -> Curator:
    """The models and words of a step: roles that are not named fall to the model itself."""
    settings = CurateSettings.model_validate(context.params["curation"])
    known = {*context.inputs, *context.paths}
    models = {role: common.model(context, role, shared=True) for role in ROLES if role in known}
    seed = common.seed(context)
    rater = models.get("judge") or models.get("reviser") or models["model"]
    return Curator(
        settings=settings,
        words=seed_words(settings),
        model=models["model"],
        judge=_helpfulness(settings, rater, seed),
        reviser=models.get("reviser"),
        reference=models.get("reference"),
        proxy=models.get("proxy"),
        near_probe=_near_probe(context),
        seed=seed,
    )


def _helpfulness(settings: CurateSettings, rater: LM, seed: int) -> Helpfulness:
    return LocalHelpfulness() if settings.helpfulness == "local" else RubricHelpfulness(rater, seed, settings.per_aspect)


def _near_probe(context: Context) -> Callable[[Chat], str | None] | None:
    names = [name for name in sorted(context.inputs) if name.startswith("probes/")]
    if not names:
        return None
    return ProbeOverlap([row for name in names for row in read_chats(context.inputs[name] / ROWS)]).near


def _within(progress: ProgressCallback, start: int, total: int, size: int) -> ProgressCallback:
    """Progress inside a block, told with the block's place."""

    def told(what: str, done: int, of: int) -> None:
        progress(f"texts {start + 1}-{start + size} of {total}, {what}", done, of)

    return told


def _finish(context: Context, parts: Sequence[Path]) -> None:
    counts = join(parts, context.out)
    if not counts["revised"] + counts["kept original"] and "shard" not in context.params:
        first = next((row for _, row in read_jsonl(context.out / REJECTED)), None)
        why = f"; the first: {cast('dict[str, Json]', first)['reason']}" if first is not None else ""
        raise DataError(f"none of the {counts['texts']} texts could be curated{why}")
    shutil.rmtree(context.out / "blocks", ignore_errors=True)


def read_sample(folder: Path) -> tuple[int, float, dict[str, int]]:
    """Texts, seconds and counts of a sample."""
    value = cast("dict[str, Json]", read_json(folder / "sample.json"))
    return cast(int, value["texts"]), cast(float, value["seconds"]), cast("dict[str, int]", value["counts"])
