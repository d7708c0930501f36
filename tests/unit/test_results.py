"""How a signal's way through the stages becomes one result."""

from dataclasses import replace

import pytest

from pipeline.errors import BrokerError
from pipeline.models import (
    ExecutionResult,
    OrderReport,
    OrderStatus,
    Outcome,
    ProcessResult,
    Refusal,
    Side,
    Stage,
    Validation,
    ValidationStatus,
)
from pipeline.results import describe, ended, executed, expired, failed
from tests.market_builders import a_signal
from tests.trunk import NOON, later

SIGNAL = a_signal()
REFUSAL = Refusal(Stage.SCORER, "min_score", "39.00", "WEAK tier")


def answered(status: OrderStatus | None = None, reason: str = "", **facts: object) -> ProcessResult:
    """The result of a broker's answer; None = it answered nothing."""
    report = None if status is None else OrderReport("o-1", "AAPL", status, reason=reason)
    execution = ExecutionResult("o-1", "AAPL", Side.BUY, 10, report)
    return executed(SIGNAL, replace(execution, **facts))  # type: ignore[arg-type]


def test_an_end_carries_the_signal_s_facts_and_its_own_moment() -> None:
    """Who, what, when and why; what the stages said comes along."""
    validation = Validation(ValidationStatus.WARN)
    result = ended(SIGNAL, Outcome.LOW_SCORE, REFUSAL, validation=validation)

    assert (result.status, result.symbol, result.decision_id) == ("low_score", "AAPL", "d-1")
    assert (result.timestamp, result.refusal, result.validation) == (NOON, REFUSAL, validation)


def test_a_failure_is_an_error_counted_under_the_exception_s_name() -> None:
    """Stage, type and message stay visible."""
    result = failed(Stage.SCORER, ValueError("no price"), "d-1", NOON, symbol="AAPL")

    assert (result.status, result.error) == ("error", "ValueError: no price")
    assert result.refusal == Refusal(Stage.SCORER, "ValueError", "ValueError: no price", "no error")


def test_an_error_is_described_by_type_and_message() -> None:
    """As a trace shows it."""
    assert describe(BrokerError("timed out")) == "BrokerError: timed out"


def test_an_expired_signal_says_its_age_and_its_limit() -> None:
    """Created at noon, good until 12:00:30, decided at 12:00:31: 31.0 s, <= 30.0 s."""
    late = replace(SIGNAL, created_at=NOON, decided_at=later(31), expires_at=later(30))
    result = expired(late)

    assert (result.status, result.timestamp) == ("expired", later(31))
    assert result.refusal is not None
    assert (result.refusal.rule, result.refusal.observed, result.refusal.limit) == (
        "max_age",
        "31.0 s old",
        "<= 30.0 s",
    )


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (OrderStatus.ACCEPTED, Outcome.SUBMITTED),
        (OrderStatus.PARTIALLY_FILLED, Outcome.SUBMITTED),
        (OrderStatus.FILLED, Outcome.EXECUTED),
        (OrderStatus.UNFILLED, Outcome.UNFILLED),
        (OrderStatus.CANCELLED, Outcome.UNFILLED),
        (OrderStatus.REJECTED, Outcome.BROKER_REJECTED),
    ],
)
def test_the_broker_s_word_becomes_the_outcome(status: OrderStatus, outcome: Outcome) -> None:
    """Every status of an order has one meaning; without a reason there is no refusal."""
    result = answered(status)

    assert (result.outcome, result.refusal) == (outcome, None)


def test_the_table_knows_every_status() -> None:
    """A new status must be given a meaning."""
    for status in OrderStatus:
        assert answered(status).outcome in Outcome


def test_the_broker_s_reason_is_the_rule() -> None:
    """A refusal by the venue counts under the venue's word."""
    result = answered(OrderStatus.REJECTED, "hard_to_borrow")

    assert result.refusal is not None
    assert (result.refusal.stage, result.refusal.rule) == (Stage.EXECUTOR, "hard_to_borrow")


def test_no_definite_answer_is_submitted_never_an_end() -> None:
    """UNKNOWN is settled only by looking the id up; the error stays visible."""
    result = answered(unknown=True, error="BrokerError: timed out")

    assert (result.outcome, result.refusal, result.error) == (Outcome.SUBMITTED, None, "BrokerError: timed out")


def test_an_error_before_the_request_is_an_end() -> None:
    """Nothing was sent: `error`."""
    result = answered(error="ValueError: no session")

    assert result.outcome is Outcome.ERROR
    assert result.refusal is not None
    assert (result.refusal.stage, result.refusal.observed) == (Stage.EXECUTOR, "ValueError: no session")


@pytest.mark.parametrize(("rule", "outcome"), [("max_age", Outcome.EXPIRED), ("trading_state", Outcome.RISK_REJECTED)])
def test_the_last_refusals_before_the_request_have_their_own_outcomes(rule: str, outcome: Outcome) -> None:
    """Asked in the step that writes SENT: too old is `expired`, a halt is risk's."""
    refusal = Refusal(Stage.EXECUTOR, rule, "x", "y")
    result = answered(refusal=refusal)

    assert (result.outcome, result.refusal) == (outcome, refusal)
