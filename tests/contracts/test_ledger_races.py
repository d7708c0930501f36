"""The ledger between two steps of somebody else: what was read must still be there, and what is old is forgotten."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis

from pipeline.models import Side
from tests.contracts.conftest import CASH, KEYS, Vault
from tests.money import NOW, SESSION, D, WeekdaySessions, a_fill, a_request, at
from workers.adapters.keys import WINDOW_TTL_S, to_ms
from workers.adapters.ledger_redis import RedisLedger

TUESDAY = WeekdaySessions().session_of(at("15:00", 3))


def ledgers(client: redis.Redis) -> tuple[RedisLedger, RedisLedger]:
    """Two processes' views of one book."""
    return RedisLedger(client, KEYS, CASH), RedisLedger(client, KEYS, CASH)


def before(script: Callable[..., Any], act: Callable[[], object]) -> Callable[..., Any]:
    """The script, with `act` done by somebody else right before its first run."""
    left = [act]

    def run(**facts: Any) -> Any:
        if left:
            left.pop()()
        return script(**facts)

    return run


def test_a_reservation_that_shrank_meanwhile_is_not_grown_again(redis_client: redis.Redis) -> None:
    """Ten shares were read, three are left: four would be a growth."""
    mine, other = ledgers(redis_client)
    mine.reserve(a_request())
    patched: Any = mine
    patched._shrink = before(patched._shrink, lambda: other.shrink("d-AAA", 3, D(300)))
    with pytest.raises(ValueError, match="d-AAA"):
        mine.shrink("d-AAA", 4, D(400))

    assert mine.snapshot(SESSION).reserved == {"AAA": D(300)}


def test_a_reservation_that_shrank_meanwhile_shrinks_further(redis_client: redis.Redis) -> None:
    """Ten were read, six are left, four is less."""
    mine, other = ledgers(redis_client)
    mine.reserve(a_request())
    patched: Any = mine
    patched._shrink = before(patched._shrink, lambda: other.shrink("d-AAA", 6, D(600)))
    mine.shrink("d-AAA", 4, D(400))

    assert mine.snapshot(SESSION).reserved == {"AAA": D(400)}


def test_a_reservation_that_was_released_meanwhile_does_not_come_back(redis_client: redis.Redis) -> None:
    """Its symbol would be busy for ever."""
    mine, other = ledgers(redis_client)
    mine.reserve(a_request())
    patched: Any = mine
    patched._shrink = before(patched._shrink, lambda: other.release("d-AAA"))
    with pytest.raises(ValueError, match="d-AAA"):
        mine.shrink("d-AAA", 4, D(400))

    assert mine.reservations() == {}


def test_a_fill_that_another_booked_first_is_added_to(redis_client: redis.Redis) -> None:
    """Both bought ten of a position that was flat when both looked: twenty, 2,000 dollars."""
    mine, other = ledgers(redis_client)
    patched: Any = mine
    first = a_fill(fill_id="first")
    patched._apply = before(patched._apply, lambda: other.apply("d", first, SESSION))

    assert mine.apply("d", a_fill(fill_id="second"), SESSION)
    book = mine.snapshot(SESSION)
    assert (book.positions["AAA"].quantity, book.positions["AAA"].cost, book.cash) == (20, D(2000), D(98_000))


def test_a_session_opened_while_shares_are_held_starts_with_their_value(vault: Vault) -> None:
    """10 bought at 100, marked at 110: 99,000 + 1,100 on Tuesday morning; the week began with 100,000."""
    vault.ledger.apply("d", a_fill(), SESSION)
    vault.ledger.mark({"AAA": D(110)})
    book = vault.ledger.snapshot(TUESDAY)

    assert (book.start_equity_session, book.start_equity_week) == (D(100_100), D(100_000))


def test_a_session_opened_by_a_fill_starts_with_what_was_held_before_it(vault: Vault) -> None:
    """Tuesday's first news is the sale itself, at 120: it began with 99,000 + 1,100 and realised 200."""
    vault.ledger.apply("d", a_fill(), SESSION)
    vault.ledger.mark({"AAA": D(110)})
    vault.ledger.apply("d", a_fill(Side.SELL, price="120", fill_id="out"), TUESDAY)
    book = vault.ledger.snapshot(TUESDAY)

    assert (book.start_equity_session, book.realised_session, book.realised_week) == (D(100_100), D(200), D(200))


@pytest.mark.parametrize(("younger_ms", "kept"), [(0, False), (1, True)])
def test_entries_as_old_as_no_window_reaches_are_forgotten(
    redis_client: redis.Redis, younger_ms: int, *, kept: bool
) -> None:
    """At two days they go, of the fleet and of the symbol alike; a millisecond younger they stay."""
    ledger, _ = ledgers(redis_client)
    old = NOW - timedelta(seconds=WINDOW_TTL_S) + timedelta(milliseconds=younger_ms)
    ledger.reserve(a_request(decision_id="old", as_of=old))
    ledger.release("old")
    ledger.reserve(a_request(decision_id="new"))
    server: Any = redis_client
    expected = {"buy:new": float(to_ms(NOW))} | ({"buy:old": float(to_ms(old))} if kept else {})

    for key in (KEYS.entries(), KEYS.entries("AAA")):
        assert dict(server.zrange(key, 0, -1, withscores=True)) == expected


def test_every_fill_that_was_booked_is_kept_as_it_was(redis_client: redis.Redis) -> None:
    """In order of time."""
    ledger, _ = ledgers(redis_client)
    late = a_fill(fill_id="late", at=NOW + timedelta(seconds=1))
    early = a_fill(symbol="BBB", fill_id="early", fee=D("0.35"))
    for fill in (late, early):
        ledger.apply("d", fill, SESSION)

    assert ledger.fills() == [early, late]
