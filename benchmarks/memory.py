"""Memory of a large curation: 10,000 texts of 200 words through the real step, with a model that costs nothing.

    python benchmarks/memory.py [--texts 10000] [--words 200]

The model is scripted (it says the answer again with a sentence of care in front), so that what is measured is what Buckler
itself holds: texts, candidates, rejections, cache. Prints the peak of resident memory above what was there before, for a
tenth of the texts and for all of them: it must not grow with their number by more than the texts themselves.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from pathlib import Path

from buckler.curation.settings import CurateSettings
from buckler.data import Chat, write_rows
from buckler.models.protocol import Request, ScriptedLM
from buckler.models.registry import CachedLM
from buckler.progress import no_progress
from buckler.workflow import curation
from buckler.workflow.step import Run

SETTINGS = CurateSettings(rounds=1, temperatures=(0.4, 0.8), top_ps=(0.8, 1.0), helpfulness="local")


def reply(request: Request) -> str:
    """The answer again, in words of the request's own sampling."""
    answer = request.messages[0]["content"].rsplit("Answer: ", 1)[-1]
    return f"Please take care at {request.sampling.temperature} and {request.sampling.top_p}. {answer}"


def texts(count: int, words: int) -> list[Chat]:
    """Made-up rows; no two share an answer."""
    rng = random.Random(0)
    vocabulary = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "mp", "lo")]
    sentence = [" ".join(rng.choices(vocabulary, k=10)).capitalize() + "." for _ in range(count * words // 10)]
    per = words // 10
    return [Chat.pair(f"What is known of number {at}?", " ".join(sentence[at * per : (at + 1) * per])) for at in range(count)]


def peak(count: int, words: int) -> tuple[float, float]:
    """Peak resident MB above the start, and seconds, of a curation in a process of its own."""
    read, write = os.pipe()
    if not os.fork():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_rows(folder / "texts" / "rows.jsonl", texts(count, words))
            model = ScriptedLM(reply, nll=lambda pair: 2.0 * len(pair.answer.split()) + pair.answer.count("care"))
            curation.load_model = lambda run, role, *, shared=False: CachedLM(model, folder / "cache.sqlite")  # type: ignore[assignment]
            model.requests = model.scored = _Forgetful()  # type: ignore[assignment]
            run = Run(
                settings=curation.CurateStep(curation=SETTINGS, seed=0, keyword=""),
                inputs={"texts": folder / "texts"},
                outside={"model": "{}"},
                out=folder / "out",
                shared=folder,
                progress=no_progress,
            )
            before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
            curation.curate(run)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            os.write(write, f"{grown} {time.perf_counter() - started}".encode())
        os._exit(0)
    os.close(write)
    grown, seconds = os.read(read, 100).decode().split()
    os.wait()
    return float(grown), float(seconds)


class _Forgetful(list[object]):
    """The scripted model's memory of what it was asked is not Buckler's."""

    def extend(self, items: object) -> None:
        """Forget."""


def main() -> None:
    """Print both peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=200)
    options = parser.parse_args()
    for count in (options.texts // 10, options.texts):
        grown, seconds = peak(count, options.words)
        print(f"{count:6} texts of {options.words} words: {grown:6.0f} MB above the start, {seconds:.0f} s")


if __name__ == "__main__":
    main()
