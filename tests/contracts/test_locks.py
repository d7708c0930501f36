"""Day and week locks follow the exchange's sessions over weekends, holidays and clock changes, and survive restarts."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import redis

from pipeline.models import Refusal, Side, TradingState
from pipeline.ports import Ledger
from pipeline.risk import RiskManager, RiskSettings
from tests.contracts.conftest import CASH, KEYS, Vault
from tests.money import D, FakeControl, FakeMarket, a_fill, a_levels, a_recommendation, a_signal
from workers.adapters.calendar import ExchangeSessions
from workers.adapters.control_redis import RedisControl
from workers.adapters.ledger_redis import RedisLedger

CALENDAR = ExchangeSessions(date(2013, 12, 1), date(2014, 12, 31))


def utc(text: str) -> datetime:
    """A moment like "2014-03-07 20:30", UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def lose(ledger: Ledger, dollars: int, when: str) -> None:
    """Book a round trip of 100 shares that loses so much, in the session of its moment."""
    moment = utc(when)
    session = CALENDAR.session_of(moment)
    ledger.snapshot(session)
    for side, price in ((Side.BUY, "100"), (Side.SELL, str(100 - D(dollars) / 100))):
        fill = a_fill(side, 100, price, symbol="LOS", fill_id=f"{side}-{when}", at=moment)
        ledger.apply("d-loss", fill, session)


def asked(ledger: Ledger, when: str) -> str | None:
    """The rule that refuses an entry of AAA at that moment, under default settings."""
    moment = utc(when)
    signal = a_signal(decision_id=f"d-{when}", decided_at=moment, expires_at=moment + timedelta(minutes=1))
    recommendation = replace(a_recommendation(signal), levels=a_levels())
    risk = RiskManager(ledger, CALENDAR, FakeMarket({"AAA": D(100)}), FakeControl(), RiskSettings())
    answer = risk.check(recommendation, moment)
    return answer.rule if isinstance(answer, Refusal) else None


@pytest.mark.parametrize(
    ("lost_at", "asked_at", "rule"),
    [
        # Friday to Monday
        ("2014-06-06 15:00", "2014-06-06 19:59", "session_loss"),
        ("2014-06-06 15:00", "2014-06-06 20:00", None),  # the close: it is Monday's session now
        ("2014-06-06 15:00", "2014-06-07 12:00", None),  # Saturday belongs to Monday
        ("2014-06-06 15:00", "2014-06-09 13:30", None),
        # Thursday the 3rd of July closes at 13:00 New York, the 4th is a holiday
        ("2014-07-03 15:00", "2014-07-03 16:59", "session_loss"),
        ("2014-07-03 15:00", "2014-07-03 17:00", None),
        ("2014-07-04 15:00", "2014-07-07 13:30", "session_loss"),  # what is booked on the holiday is Monday's
        # the clocks change on Sunday the 9th of March: 20:30 UTC is in Friday's session, not in Monday's
        ("2014-03-07 15:00", "2014-03-07 20:30", "session_loss"),
        ("2014-03-10 15:00", "2014-03-10 19:59", "session_loss"),
        ("2014-03-10 15:00", "2014-03-10 20:30", None),
        # and back on Sunday the 2nd of November
        ("2014-10-31 15:00", "2014-10-31 20:00", None),
        ("2014-11-03 15:00", "2014-11-03 20:59", "session_loss"),
        ("2014-11-03 15:00", "2014-11-03 21:00", None),
    ],
)
def test_a_lost_day_locks_its_exchange_session(vault: Vault, lost_at: str, asked_at: str, rule: str | None) -> None:
    """1 % of the day's 100,000: exactly 1,000 dollars lock entries until that session's close, and no longer."""
    lose(vault.ledger, 1_000, lost_at)

    assert asked(vault.ledger, asked_at) == rule


def test_a_dollar_under_the_days_limit_locks_nothing(vault: Vault) -> None:
    """999 of 1,000."""
    lose(vault.ledger, 999, "2014-06-06 15:00")

    assert asked(vault.ledger, "2014-06-06 15:01") is None


@pytest.mark.parametrize(
    ("lost_on", "asked_at", "rule"),
    [
        (("2014-06-02", "2014-06-03", "2014-06-04", "2014-06-05"), "2014-06-06 15:00", "week_loss"),
        (("2014-06-03", "2014-06-04", "2014-06-05", "2014-06-06"), "2014-06-06 20:00", None),  # next week's session
        (("2014-06-03", "2014-06-04", "2014-06-05", "2014-06-06"), "2014-06-09 15:00", None),
        # the year ends inside a trading week: 2013-12-30 to 2014-01-03 is one
        (("2013-12-30", "2013-12-31", "2014-01-02"), "2014-01-03 15:00", "week_loss"),
        (("2013-12-30", "2013-12-31", "2014-01-02"), "2014-01-06 15:00", None),
        # a holiday inside: Monday the 26th of May is none of the week's sessions
        (("2014-05-27", "2014-05-28", "2014-05-29"), "2014-05-30 15:00", "week_loss"),
        (("2014-05-27", "2014-05-28"), "2014-05-30 15:00", None),
    ],
)
def test_a_lost_week_locks_its_trading_week(
    vault: Vault, lost_on: tuple[str, ...], asked_at: str, rule: str | None
) -> None:
    """3 % of the week's 100,000: three or four days of 1,000 each."""
    for day in lost_on:
        lose(vault.ledger, 1_000, f"{day} 15:00")

    assert asked(vault.ledger, asked_at) == rule


def test_locks_survive_restarts(redis_client: redis.Redis, server_url: str) -> None:
    """Another process, that saw nothing, refuses; who halted the fleet is known there too."""
    lose(RedisLedger(redis_client, KEYS, CASH), 1_000, "2014-06-06 15:00")
    RedisControl(redis_client, KEYS).set(TradingState.REDUCING, "risk", "week loss", utc("2014-06-06 15:00"))
    with redis.Redis.from_url(server_url, decode_responses=True) as other:
        restarted = RedisLedger(other, KEYS, CASH)

        assert asked(restarted, "2014-06-06 19:00") == "session_loss"
        assert asked(restarted, "2014-06-09 15:00") is None
        assert RedisControl(other, KEYS).trading_state() is TradingState.REDUCING


def test_a_win_after_the_limit_was_reached_unlocks_nothing(vault: Vault) -> None:
    """The lowest value counts: once reached, the lock stays to the close."""
    lose(vault.ledger, 1_000, "2014-06-06 15:00")
    lose(vault.ledger, -5_000, "2014-06-06 16:00")

    assert asked(vault.ledger, "2014-06-06 17:00") == "session_loss"
