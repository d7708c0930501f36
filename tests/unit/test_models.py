"""The nouns of the trunk: states, results and aggregates, as the seed names them."""

from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from pipeline.consensus import aggregate_sentiment
from pipeline.models import (
    INTERIM,
    TERMINAL,
    AggregatedSentiment,
    Direction,
    Label,
    OrchestratorState,
    Outcome,
    ProcessResult,
    Side,
)
from tests.market_builders import a_signal
from tests.trunk import NOON, a_message, a_post, a_vote, votes

SEED_STATUSES = ("executed", "vetoed", "low_score", "gate_closed", "error", "buffered", "risk_rejected")


# ---- the seed's bullets ------------------------------------------------------------------------------


def test_orchestrator_state_enum_values() -> None:
    """Seed: stopped, running, stopping and nothing else."""
    assert {state.name: state.value for state in OrchestratorState} == {
        "STOPPED": "stopped",
        "RUNNING": "running",
        "STOPPING": "stopping",
    }


@pytest.mark.parametrize("status", SEED_STATUSES)
def test_process_result_creation_with_different_statuses(status: str) -> None:
    """Seed: a result is made of a status word and its moment; every fact is optional."""
    result = ProcessResult(status=status, timestamp=NOON)

    assert (result.status, result.outcome, result.timestamp) == (status, Outcome(status), NOON)
    assert [getattr(result, field.name) for field in fields(result)[2:]] == [None] * 10 + [()]


def test_process_result_has_no_moment_of_its_own() -> None:
    """A timestamp is passed in, never defaulted to now."""
    with pytest.raises(TypeError, match="timestamp"):
        ProcessResult("executed")  # type: ignore[call-arg]


def test_a_status_that_is_no_outcome_is_refused_when_it_is_read() -> None:
    """Outcomes are counted: a misspelt one must not be."""
    with pytest.raises(ValueError, match="exploded"):
        _ = ProcessResult("exploded", NOON).outcome


def test_aggregated_sentiment_calculation() -> None:
    """Seed: 3 bullish and 2 bearish of confidence 0.8 and 0.3.

    strength 3/5 = 0.6; mean confidence (3 x 0.8 + 2 x 0.3) / 5 = 0.6.
    """
    batch = (*votes(3), a_vote(8, "bearish", 0.3), a_vote(9, "bearish", 0.3))
    found = aggregate_sentiment(batch)

    assert isinstance(found, AggregatedSentiment)
    assert (found.bullish, found.bearish, found.neutral, found.total) == (3, 2, 0, 5)
    assert (found.label, found.strength, found.newest) == (Label.BULLISH, 0.6, NOON)
    assert found.mean_confidence == pytest.approx(0.6)


# ---- words -------------------------------------------------------------------------------------------


def test_every_outcome_is_interim_or_terminal_and_three_are_interim() -> None:
    """DESIGN 4: a leg waits as buffered, held or submitted; everything else is its end."""
    assert {Outcome.BUFFERED, Outcome.HELD, Outcome.SUBMITTED} == INTERIM
    assert set(Outcome) == INTERIM | TERMINAL
    assert not INTERIM & TERMINAL
    assert len(TERMINAL) == 14


def test_directions_and_sides_mirror_each_other() -> None:
    """Long is +1, short -1, each the other's opposite; a buy is +1, a sale -1."""
    assert [direction.sign for direction in Direction] == [1, -1]
    assert [direction.opposite for direction in Direction] == [Direction.SHORT, Direction.LONG]
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)


def test_conviction_is_unsigned_strength_times_confidence() -> None:
    """0.8 x 0.9 = 0.72 for a long and for a short."""
    assert a_signal(Direction.LONG).conviction == pytest.approx(0.72)
    assert a_signal(Direction.SHORT).conviction == pytest.approx(0.72)


# ---- what crosses a wire -----------------------------------------------------------------------------


def test_a_naive_time_is_refused() -> None:
    """Times are aware UTC."""
    with pytest.raises(ValidationError, match="timezone"):
        a_post(created_at=datetime(2014, 7, 9, 16))  # noqa: DTZ001 - a naive time is the point

    assert a_post(created_at=datetime(2014, 7, 9, 16, tzinfo=UTC)).created_at == NOON


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a/../b", "x" * 121, "ä"])
def test_a_message_id_has_only_letters_a_job_id_may_have(name: str) -> None:
    """RQ's characters, `A-Za-z0-9_-`, at most 120 of them."""
    with pytest.raises(ValidationError, match="message_id"):
        a_post(message_id=name)


def test_a_message_survives_the_wire() -> None:
    """JSON there and back changes nothing; an unknown field is refused."""
    message = a_message(symbols=("AAPL", "BRK.B"), outside=("ZZZ",))

    assert type(message).model_validate_json(message.model_dump_json()) == message
    with pytest.raises(ValidationError, match="extra"):
        type(message).model_validate(message.model_dump() | {"mood": "good"})


def test_messages_and_results_do_not_change() -> None:
    """What was said stays said."""
    with pytest.raises(ValidationError, match="frozen"):
        a_post().text = "something else"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        ProcessResult("executed", NOON).status = "error"  # type: ignore[misc]
