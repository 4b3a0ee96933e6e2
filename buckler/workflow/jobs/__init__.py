"""Jobs: one settings model a command with its steps and its run, and one result a job."""

from buckler.workflow.jobs.base import Job, Planned, Result
from buckler.workflow.jobs.crosstask import CrossTaskJob, DefenseRows
from buckler.workflow.jobs.curate import Curated, CurateJob, CurationCost
from buckler.workflow.jobs.customize import AttackJob, CustomerRows, JobFile, TrainedModel, TrainJob
from buckler.workflow.jobs.drawing import DrawingJob
from buckler.workflow.jobs.evaluate import EvaluateJob, Evaluation
from buckler.workflow.jobs.export import Exported, ExportJob
from buckler.workflow.jobs.gate import GateDecision, GateJob
from buckler.workflow.jobs.judge import JudgeJob, Judgement
from buckler.workflow.jobs.judge_card import JudgeCardJob, JudgeCardResult
from buckler.workflow.jobs.probes import ProbeFiles, ProbesJob
from buckler.workflow.jobs.rows import RowsJob, RowsReport
from buckler.workflow.jobs.seeds import SeedsJob, SeedWords

__all__ = [
    "AttackJob",
    "CrossTaskJob",
    "CurateJob",
    "Curated",
    "CurationCost",
    "CustomerRows",
    "DefenseRows",
    "DrawingJob",
    "EvaluateJob",
    "Evaluation",
    "ExportJob",
    "Exported",
    "GateDecision",
    "GateJob",
    "Job",
    "JobFile",
    "JudgeCardJob",
    "JudgeCardResult",
    "JudgeJob",
    "Judgement",
    "Planned",
    "ProbeFiles",
    "ProbesJob",
    "Result",
    "RowsJob",
    "RowsReport",
    "SeedWords",
    "SeedsJob",
    "TrainJob",
    "TrainedModel",
]
