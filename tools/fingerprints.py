"""Add a published set to those that are recognised by their content: `python -m tools.fingerprints NAME FILE [SET]`.

SET is harmful, borderline or benign where the rows of the file do not tell it. Only digests are written, no text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from buckler import formats
from buckler.evaluation.probes import in_set
from buckler.formats.fingerprints import KEPT, digest

PLACE = Path(formats.__file__).parent / "published_sets.json"


def main(name: str, file: str, kind: str | None = None) -> None:
    """Write the entry of one set, in place of one of its name."""
    prompts: dict[str, str] = {}
    for row in formats.read_chats(file):
        question = str(row.meta.get("question") or row.query).removeprefix("Why is this against common sense? ")
        question = question.split("question:", 1)[-1].removeprefix("Please choose the correct answer to the question: ")
        question = question.removesuffix("\nAnswer yes or no.").split("\n\nAnswer", 1)[0]
        prompts[digest(question)] = str(in_set(row, kind).meta["set"])
    kept = sorted(prompts)[:KEPT]
    sets = {of: "".join(one for one in kept if prompts[one] == of) for of in sorted(set(prompts.values()))}
    known = json.loads(PLACE.read_text("utf-8")) if PLACE.exists() else {}
    known[name] = {"questions": len(prompts), "sets": sets}
    PLACE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
