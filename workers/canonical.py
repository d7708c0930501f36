"""The one line a decision leaves in the log: ids, what it came to, by which rule, and how long each stage took."""

from collections.abc import Mapping

import structlog

from pipeline.models import Outcome, ProcessResult, Stage, ValidationStatus
from workers.measures import note_decision

log = structlog.get_logger()


def log_decision(result: ProcessResult, stage_ms: Mapping[Stage, float]) -> None:
    """`signal.decided`, never with a post's words. A batch without consensus is a debug line: most of them are."""
    refusal, recommendation = result.refusal, result.recommendation
    write = log.debug if result.outcome is Outcome.NO_CONSENSUS else log.info
    note_decision(result.outcome, stage_ms)
    write(
        "signal.decided",
        decision=result.decision_id,
        symbol=result.symbol,
        outcome=result.status,
        stage=refusal.stage if refusal else None,
        rule=refusal.rule if refusal else None,
        score=round(recommendation.score, 3) if recommendation else None,
        degraded=_degraded(result),
        as_of=result.timestamp.isoformat(),
        ms={str(stage): round(ms, 2) for stage, ms in stage_ms.items()},
    )


def _degraded(result: ProcessResult) -> str | None:
    """Which stage failed, when the signal went on or ended in spite of it (the seed's degradation table)."""
    if result.outcome is Outcome.ERROR and result.refusal is not None:
        return str(result.refusal.stage)
    validation = result.recommendation.validation if result.recommendation else result.validation
    if validation is not None and validation.status is ValidationStatus.UNVALIDATED:
        return str(Stage.VALIDATOR)
    return str(Stage.GATE) if result.refusal and result.refusal.rule == "error" else None
