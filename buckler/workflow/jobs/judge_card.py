"""The job that measures a judge against people's labels, and the card it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from buckler.data import Json
from buckler.judges.card import JudgeCard, card_path, make_card, write_card
from buckler.judges.labels import file_names, read_labels
from buckler.judges.named import judge_from
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.evaluation import require_judge
from buckler.workflow.jobs.base import Result
from buckler.workflow.jobs.judge import JudgingJob, cached
from buckler.workflow.jobs.loading import OPTION_NAMES


class JudgeCardJob(JudgingJob):
    """A judge measured against people: accuracy, precision, recall, kappa with intervals, by category and model."""

    option_names = OPTION_NAMES["judge-card"]
    labels: tuple[Path, ...] = Field(min_length=1)
    """Answers labelled by people: XSTest completions, or rows with the columns prompt, text and label."""

    def run(self, out: Path, *, progress: ProgressCallback = no_progress) -> JudgeCardResult:
        """Write the card of this version of the judge into the folder `out`, as JSON and Markdown.

        Raises:
            DataError: a file cannot be read, or holds no label that this judge answers.
        """
        spec = self.judge_spec
        require_judge(spec)
        rows, without = read_labels(self.labels)
        judge = judge_from(spec, cached(out))
        verdicts = judge.judge([row.answer for row in rows])
        card = make_card(
            spec.label,
            judge.version,
            rows,
            verdicts,
            labels=file_names(self.labels),
            models=[model.name for model in spec.models],
            without_label=without,
        )
        replaced = card_path(out, card.judge, card.version).exists()
        return JudgeCardResult(out=out, written=tuple(write_card(card, out)), card=card, replaced=replaced)


@dataclass(frozen=True, kw_only=True, repr=False)
class JudgeCardResult(Result):
    """The card of one version of a judge."""

    card: JudgeCard
    """The judge's agreement with people."""
    replaced: bool
    """Whether it replaced an earlier card of this version."""

    def lines(self) -> list[str]:
        """Every question, then the files."""
        return [*self.card.lines(), *(f"{'replaced' if self.replaced else 'wrote'} {path}" for path in self.written)]

    def numbers(self) -> dict[str, Json]:
        """The card."""
        return {"card": self.card.to_json()}

    def records(self) -> list[dict[str, Json]]:
        """One question a row."""
        return [{"question": name, **_flat(agreement.to_json())} for name, agreement in self.card.agreement.items()]


def _flat(value: Mapping[str, Json]) -> dict[str, Json]:
    """The numbers of an agreement without what is nested in it."""
    return {name: one for name, one in value.items() if not isinstance(one, Mapping | list)}
