"""Intents: NEW, SENT, UNKNOWN, DONE by compare-and-set, the same in memory and on the real server."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from pipeline.models import OrderReport, OrderStatus, Refusal, Stage, TradingState
from pipeline.ports import ALREADY_SENT
from tests.contracts.conftest import KEYS, Vault
from tests.money import CLOSE, NOW, a_fill, an_order
from workers.adapters.control_redis import RedisControl
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.wire import dump

ORDER = an_order()
NAME = ORDER.client_order_id
LATER = NOW + timedelta(minutes=1)


def report(status: OrderStatus = OrderStatus.ACCEPTED, fills: int = 0, *, closed: bool = False) -> OrderReport:
    """The broker's answer with this many fills."""
    made = tuple(a_fill(fill_id=f"f{n}") for n in range(fills))
    return OrderReport(NAME, "AAA", status, filled_quantity=10 if fills else 0, fills=made, closed=closed)


def active(vault: Vault) -> Vault:
    """The vault with trading on."""
    vault.control.set(TradingState.ACTIVE, "ann", "test", NOW)
    return vault


def sent(vault: Vault) -> Vault:
    """The vault with the order written SENT."""
    active(vault).intents.create(ORDER)
    assert vault.intents.mark_sent(NAME, NOW, LATER) is None
    return vault


def state(vault: Vault) -> str | None:
    """The intent's state."""
    intent = vault.intents.get(NAME)
    return intent.state if intent is not None else None


def row(**facts: str) -> dict[str, str]:
    """The hash as redis-cli shows it, NEW by default."""
    fresh = {
        "v": "1",
        "state": "NEW",
        "decision": "d-AAA",
        "symbol": "AAA",
        "order": dump(ORDER),
        "reduce_only": "0",
        "fills": "0",
        "closed": "0",
        "booked": "0",
        "settled": "0",
    }
    return fresh | facts


def test_a_new_intent_is_written_before_the_broker_hears_of_it(vault: Vault) -> None:
    """It is not open yet, and is forgotten after a week when nobody sends it."""
    intent = vault.intents.create(ORDER)

    assert (intent.state, intent.order, intent.report) == ("NEW", ORDER, None)
    assert vault.intents.open() == ()
    vault.holds(**{f"intent:{NAME}": row()})
    assert all(0 < left <= 7 * 86_400 for left in vault.lives(f"intent:{NAME}").values())


def test_a_second_create_answers_the_first_order(vault: Vault) -> None:
    """What was decided first is what will be sent."""
    vault.intents.create(ORDER)

    assert vault.intents.create(replace(ORDER, quantity=99)).order.quantity == 10


def test_an_unknown_name_has_no_intent(vault: Vault) -> None:
    """None, not an error."""
    assert vault.intents.get("nobody") is None


def test_sent_is_written_once(vault: Vault) -> None:
    """The second worker is told, and does not send."""
    sent(vault)

    assert vault.intents.mark_sent(NAME, NOW, LATER) == Refusal(Stage.EXECUTOR, ALREADY_SENT, "SENT", "NEW")
    assert [intent.client_order_id for intent in vault.intents.open()] == [NAME]
    vault.holds(
        **{
            f"intent:{NAME}": row(state="SENT"),
            "open-intents": {NAME},
            "control": ...,
            "tally": {"orders": "1"},
            "execution:d-AAA": {"sent": NAME},
        }
    )
    assert all(0 < left <= 30 * 86_400 for left in vault.lives("execution:d-AAA").values())
    assert set(vault.lives(f"intent:{NAME}").values()) <= {-1}


@pytest.mark.parametrize(
    ("trading", "reduce_only", "under_halt", "rule"),
    [
        (TradingState.ACTIVE, False, False, None),
        (TradingState.REDUCING, False, False, "trading_state"),
        (TradingState.REDUCING, True, False, None),
        (TradingState.HALTED, True, False, "trading_state"),
        (TradingState.HALTED, True, True, None),
        (None, False, False, "trading_state"),
    ],
)
def test_the_trading_state_is_asked_last(
    vault: Vault, trading: TradingState | None, *, reduce_only: bool, under_halt: bool, rule: str | None
) -> None:
    """A missing control key is HALTED; only flatten goes through a halt."""
    if trading is not None:
        vault.control.set(trading, "ann", "test", NOW)
    vault.intents.create(replace(ORDER, reduce_only=reduce_only))
    refusal = vault.intents.mark_sent(NAME, NOW, LATER, under_halt=under_halt)

    assert (refusal.rule if refusal else None) == rule
    assert state(vault) == (None if rule else "SENT")  # what was refused is forgotten


@pytest.mark.parametrize(("now", "rule"), [(LATER, None), (LATER + timedelta(milliseconds=1), "max_age")])
def test_the_age_is_asked_last(vault: Vault, now: datetime, rule: str | None) -> None:
    """Good until `expires_at`, that moment included."""
    active(vault).intents.create(ORDER)
    refusal = vault.intents.mark_sent(NAME, now, LATER)

    assert (refusal.rule if refusal else None) == rule


def test_no_definite_answer_is_unknown_and_stays_open(vault: Vault) -> None:
    """Until a look-up says what became of it."""
    sent(vault).intents.record(NAME, None)

    assert state(vault) == "UNKNOWN"
    assert len(vault.intents.open()) == 1
    vault.intents.record(NAME, report())
    assert state(vault) == "SENT"


def test_unknown_does_not_forget_an_answer(vault: Vault) -> None:
    """A late time-out after the answer changes nothing."""
    sent(vault).intents.record(NAME, report())
    vault.intents.record(NAME, None)
    intent = vault.intents.get(NAME)

    assert intent is not None
    assert (intent.state, intent.report) == ("SENT", report())


def test_a_report_that_says_less_never_replaces_one_that_says_more(vault: Vault) -> None:
    """Fewer fills, or open after closed: it is older."""
    full, empty = report(OrderStatus.FILLED, 1), report()
    sent(vault).intents.record(NAME, full)
    vault.intents.record(NAME, empty)
    first = vault.intents.get(NAME)
    vault.intents.record(NAME, report(OrderStatus.FILLED, 2, closed=True))
    vault.intents.record(NAME, report(OrderStatus.FILLED, 2))
    second = vault.intents.get(NAME)

    assert first is not None
    assert second is not None
    assert first.report == full
    assert second.report == report(OrderStatus.FILLED, 2, closed=True)


def test_a_closed_answer_that_is_not_booked_stays_open(vault: Vault) -> None:
    """Its fills are not in the ledger yet: settlement must still see it."""
    sent(vault).intents.record(NAME, report(OrderStatus.FILLED, 2, closed=True))
    vault.intents.acknowledge([NAME])

    assert state(vault) == "SENT"
    assert len(vault.intents.open()) == 1


@pytest.mark.parametrize("acknowledged_first", [True, False])
def test_an_intent_is_over_when_it_is_booked_closed_and_acknowledged(vault: Vault, *, acknowledged_first: bool) -> None:
    """In either order; then it lives one more week."""
    closed = report(OrderStatus.FILLED, 2, closed=True)
    sent(vault)
    if acknowledged_first:
        vault.intents.acknowledge([NAME])
    vault.intents.booked(NAME, closed)
    assert len(vault.intents.open()) == (0 if acknowledged_first else 1)
    vault.intents.acknowledge([NAME])
    vault.intents.acknowledge([NAME])

    assert state(vault) == "DONE"
    assert vault.intents.open() == ()
    over = row(state="DONE", fills="2", closed="1", booked="2", settled="1", report=dump(closed))
    vault.holds(**{f"intent:{NAME}": over, "control": ..., "tally": {"orders": "1"}, "execution:d-AAA": ...})
    assert all(0 < left <= 7 * 86_400 for left in vault.lives(f"intent:{NAME}").values())


def test_a_done_intent_does_not_change_any_more(vault: Vault) -> None:
    """Whatever anybody still says."""
    sent(vault).intents.booked(NAME, report(OrderStatus.UNFILLED, closed=True))
    vault.intents.record(NAME, None)
    vault.intents.record(NAME, report(OrderStatus.FILLED, 1))

    assert state(vault) == "DONE"


def test_booked_fills_are_counted(vault: Vault) -> None:
    """Settlement books only what comes after them."""
    sent(vault).intents.booked(NAME, report(OrderStatus.FILLED, 1))
    intent = vault.intents.get(NAME)

    assert intent is not None
    assert (intent.state, intent.booked) == ("SENT", 1)


def test_open_intents_come_by_name(vault: Vault) -> None:
    """The same order in every run."""
    active(vault)
    for symbol in ("CCC", "AAA", "BBB"):
        vault.intents.create(an_order(symbol))
        vault.intents.mark_sent(f"o-{symbol}", NOW, LATER)

    assert [intent.symbol for intent in vault.intents.open()] == ["AAA", "BBB", "CCC"]


def test_live_the_age_is_the_servers(redis_client: redis.Redis) -> None:
    """An old event is not made young by the time the worker passes in."""
    RedisControl(redis_client, KEYS).set(TradingState.ACTIVE, "ann", "test", NOW)
    live = RedisIntents(redis_client, KEYS, "live")
    live.create(ORDER)
    late = live.mark_sent(NAME, NOW, CLOSE)
    live.create(ORDER)
    in_time = live.mark_sent(NAME, NOW, datetime(2999, 1, 1, tzinfo=UTC))

    assert (late.rule if late else None, in_time) == ("max_age", None)


def test_of_eight_workers_one_writes_sent(redis_client: redis.Redis, server_url: str) -> None:
    """The compare-and-set is the single flight."""
    RedisControl(redis_client, KEYS).set(TradingState.ACTIVE, "ann", "test", NOW)

    def race(_: int) -> bool:
        with redis.Redis.from_url(server_url, decode_responses=True) as client:
            intents = RedisIntents(client, KEYS, "event")
            intents.create(ORDER)
            return intents.mark_sent(NAME, NOW, LATER) is None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1
