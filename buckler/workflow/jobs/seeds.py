"""The job `seeds`: seed words from a folder of papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buckler.curation.lexicon import LEXICON, CommonEnglish, Texts, read_lexicon
from buckler.curation.papers import read_papers
from buckler.curation.seed_words import MineSettings, dump, extract_seed_words
from buckler.data import Json, write_text
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.jobs.base import Job, Result


class SeedsJob(Job):
    """Seed words from papers: terms that co-occur with safety vocabulary, each with its sentences."""

    method_fields = ("mining",)
    papers: Path
    """Folder of papers (text, Markdown, PDF), including its subfolders."""
    mining: MineSettings = MineSettings()
    """Limits of the list of terms."""
    background: Path | None = None
    """Folder of general texts for comparison (default: common English)."""
    safety_vocabulary: str = "default"
    """Safety vocabulary for co-occurrence: `default` (Buckler's own), `none`, or a YAML file."""

    def run(self, out: Path, *, progress: ProgressCallback = no_progress) -> SeedWords:
        """Write the YAML file `out`, which `seed_words` of a curation reads.

        Raises:
            ConfigError, DataError: a folder or file cannot be read, or there is no paper in it.
        """
        vocabulary = self.safety_vocabulary
        lexicon = {} if vocabulary == "none" else read_lexicon(LEXICON if vocabulary == "default" else Path(vocabulary))
        read, skipped = read_papers(self.papers, progress)
        general = Texts(read_papers(self.background)[0], self.mining.max_words) if self.background else CommonEnglish()
        terms = extract_seed_words(read, general, [word for words in lexicon.values() for word in words], self.mining, progress)
        write_text(out, dump(terms))
        return SeedWords(
            out=out,
            written=(out,),
            terms={term.term: term.score for term in terms},
            papers=len(read),
            skipped={str(one.name): one.reason for one in skipped},
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class SeedWords(Result):
    """A list of seed words in a YAML file."""

    terms: Mapping[str, float]
    """Terms with their scores, best first."""
    papers: int
    """Papers read."""
    skipped: Mapping[str, str]
    """Files that could not be read, with the reason."""

    def lines(self) -> list[str]:
        """The file and what it holds."""
        return [f"wrote {self.out}: {len(self.terms)} terms of {self.papers} papers; {len(self.skipped)} files skipped"]

    def numbers(self) -> dict[str, Json]:
        """Terms with scores, papers, files skipped."""
        return {"terms": dict(self.terms), "papers": self.papers, "skipped": dict(self.skipped)}

    def records(self) -> list[dict[str, Json]]:
        """One term a row."""
        return [{"term": term, "score": score} for term, score in self.terms.items()]
