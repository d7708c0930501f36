"""Intents to the last field and word: what a refused one says, what an adopted one holds, and the server's clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from pipeline.models import OrderReport, OrderStatus, Outcome, ProcessResult, Refusal, Stage, TradingState
from tests.contracts.conftest import KEYS, Vault
from tests.deciding import active
from tests.money import NOW, a_fill, an_order
from workers.adapters.control_redis import RedisControl
from workers.adapters.intents_redis import RedisIntents
from workers.adapters.keys import to_ms
from workers.adapters.wire import dump

ORDER = an_order()
NAME, DECISION = ORDER.client_order_id, ORDER.decision_id
LATER = NOW + timedelta(minutes=1)


def no(rule: str, observed: str, limit: str) -> Refusal:
    """A refusal of the step that writes SENT."""
    return Refusal(Stage.EXECUTOR, rule, observed, limit)


def report(fills: int, *, closed: bool = False) -> OrderReport:
    """The broker's answer with this many fills of ten shares."""
    made = tuple(a_fill(fill_id=f"f{n}") for n in range(fills))
    return OrderReport(NAME, "AAA", OrderStatus.FILLED, filled_quantity=10, fills=made, closed=closed)


def server_us(client: redis.Redis) -> int:
    """The server's clock in microseconds."""
    server: Any = client
    seconds, micros = server.time()
    return int(seconds) * 1_000_000 + int(micros)


# ---- the words of a refusal --------------------------------------------------------------------------


@pytest.mark.parametrize("trading", [TradingState.HALTED, TradingState.REDUCING])
def test_a_trading_state_that_forbids_is_named_and_the_intent_forgotten(vault: Vault, trading: TradingState) -> None:
    """Nothing of the order stays; a later run decides again."""
    vault.control.set(trading, "ann", "test", NOW)
    vault.intents.create(ORDER)

    assert vault.intents.mark_sent(NAME, NOW, LATER) == no("trading_state", trading, "ACTIVE")
    vault.holds(control=...)


def test_a_fleet_whose_trading_state_is_missing_is_halted(vault: Vault) -> None:
    """Nobody has switched it on."""
    vault.intents.create(ORDER)

    assert vault.intents.mark_sent(NAME, NOW, LATER) == no("trading_state", "HALTED", "ACTIVE")


def test_a_decision_that_ended_says_so_and_forgets_the_intent(vault: Vault) -> None:
    """By another run's veto."""
    ended = ProcessResult(Outcome.VETOED, NOW, symbol="AAA", decision_id=DECISION, refusal=Refusal(Stage.GATE, "vix"))
    active(vault).journal.record([(ended, ())])
    vault.intents.create(ORDER)

    assert vault.intents.mark_sent(NAME, NOW, LATER) == no("already_ended", "a terminal outcome", "no outcome yet")
    assert vault.intents.get(NAME) is None


def test_an_old_run_is_told_whose_turn_it_is(vault: Vault) -> None:
    """And the intent stays, for the newest."""
    old = active(vault).intents.begin(DECISION).id
    new = vault.intents.begin(DECISION).id
    vault.intents.create(ORDER, new)
    told = no("taken_over", "an older execution", "the decision's newest execution")

    assert vault.intents.mark_sent(NAME, NOW, LATER, execution=old) == told
    assert vault.intents.get(NAME) is not None


@pytest.mark.parametrize("rule", ["max_age", "trading_state"])
def test_a_refused_order_leaves_no_trace_of_having_been_sent(vault: Vault, rule: str) -> None:
    """Not counted, not open, and its decision may be run again."""
    vault.control.set(TradingState.ACTIVE if rule == "max_age" else TradingState.HALTED, "ann", "test", NOW)
    vault.intents.create(ORDER)
    refusal = vault.intents.mark_sent(NAME, LATER + timedelta(seconds=1), LATER)

    assert refusal is not None
    assert refusal.rule == rule
    assert vault.intents.open() == ()
    assert vault.intents.begin(DECISION).sent is None


# ---- what is written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [False, True])
def test_what_an_earlier_run_meant_and_did_not_send_goes_with_the_next_intent(vault: Vault, sent: bool) -> None:  # noqa: FBT001
    """It wrote an entry and died; the run after it meets a position and closes: one decision, one intent."""
    entry, close = an_order(), an_order(client_order_id="close-AAA", reduce_only=True)
    active(vault).intents.create(entry, vault.intents.begin(DECISION).id)
    if sent:
        assert vault.intents.mark_sent(entry.client_order_id, NOW, LATER) is None
    run = vault.intents.begin(DECISION).id
    vault.intents.create(close, run)
    again = vault.intents.create(close, run)

    assert (vault.intents.get(entry.client_order_id) is not None) is sent
    assert (again.state, vault.intents.get("close-AAA")) == ("NEW", again)


def test_a_closing_order_of_no_decision_is_forgotten_in_a_minute_unless_it_is_sent(vault: Vault) -> None:
    """Whoever wrote it has died, and by then the position may be another."""
    active(vault).intents.create(ORDER)
    assert all(0 < left <= 60 for left in vault.lives(f"intent:{NAME}").values())
    vault.intents.mark_sent(NAME, NOW, LATER)

    assert set(vault.lives(f"intent:{NAME}").values()) <= {-1}


def test_a_run_s_intent_is_known_to_its_execution(vault: Vault) -> None:
    """So that whoever takes the decision over can discard it; a run that nobody counts leaves no execution."""
    run = active(vault).intents.begin(DECISION).id
    vault.intents.create(ORDER, run)
    vault.intents.create(an_order("BBB"))

    vault.holds(
        **{
            "control": ...,
            f"execution:{DECISION}": {"id": str(run), "intent": NAME},
            f"intent:{NAME}": ...,
            "intent:o-BBB": ...,
        }
    )


@pytest.mark.parametrize("reduce_only", [False, True])
def test_an_adopted_order_is_written_as_sent_and_settled(vault: Vault, *, reduce_only: bool) -> None:
    """With the venue's report; it lives until it is over, and a second look changes nothing."""
    order = replace(ORDER, reduce_only=reduce_only)
    vault.intents.adopt(order, report(2, closed=True), ours=False)
    vault.intents.adopt(replace(order, quantity=99), report(0), ours=False)

    assert [intent.order for intent in vault.intents.open()] == [order]
    row = {
        "v": "1",
        "state": "SENT",
        "decision": DECISION,
        "symbol": "AAA",
        "order": dump(order),
        "reduce_only": str(int(reduce_only)),
        "fills": "2",
        "closed": "1",
        "booked": "0",
        "settled": "1",
        "report": dump(report(2, closed=True)),
    }
    vault.holds(**{f"intent:{NAME}": row, "open-intents": {NAME}})
    assert set(vault.lives(f"intent:{NAME}").values()) <= {-1}


def test_an_adopted_order_is_over_when_its_fills_are_booked(vault: Vault) -> None:
    """Nobody waits for an outcome of it."""
    vault.intents.adopt(ORDER, report(1), ours=False)
    vault.intents.booked(NAME, report(1))
    assert [intent.booked for intent in vault.intents.open()] == [1]
    vault.intents.booked(NAME, report(1, closed=True))

    assert vault.intents.open() == ()
    assert all(0 < left <= 7 * 86_400 for left in vault.lives(f"intent:{NAME}").values())


def test_an_order_is_adopted_beside_those_that_are_open(vault: Vault) -> None:
    """Each by its own name."""
    for symbol in ("AAA", "BBB"):
        vault.intents.adopt(
            an_order(symbol), replace(report(0), client_order_id=f"o-{symbol}", symbol=symbol), ours=False
        )

    assert [intent.client_order_id for intent in vault.intents.open()] == ["o-AAA", "o-BBB"]


# ---- reports -----------------------------------------------------------------------------------------


def sent(vault: Vault) -> Vault:
    """The vault with the order written SENT."""
    active(vault).intents.create(ORDER)
    assert vault.intents.mark_sent(NAME, NOW, LATER) is None
    return vault


def known(vault: Vault) -> tuple[str, OrderReport | None, int]:
    """State, report and booked fills of the intent."""
    intent = vault.intents.get(NAME)
    assert intent is not None
    return intent.state, intent.report, intent.booked


def test_the_same_report_twice_is_kept_as_the_newer(vault: Vault) -> None:
    """As many fills say at least as much; a closed one may be said again."""
    sent(vault).intents.record(NAME, report(1))
    changed = replace(report(1), reason="again")
    vault.intents.record(NAME, changed)
    assert known(vault) == ("SENT", changed, 0)
    for reason in ("closed", "closed again"):
        said = replace(report(1, closed=True), reason=reason)
        vault.intents.record(NAME, said)
        assert known(vault) == ("SENT", said, 0)


def test_a_closed_report_is_not_opened_again_by_one_with_as_many_fills(vault: Vault) -> None:
    """Closing is final."""
    closed = report(1, closed=True)
    sent(vault).intents.record(NAME, closed)
    vault.intents.booked(NAME, report(2))

    assert known(vault) == ("SENT", closed, 0)


def test_an_answer_settles_what_was_unknown(vault: Vault) -> None:
    """Open again as SENT; a fill that is booked counts."""
    sent(vault).intents.record(NAME, None)
    vault.intents.booked(NAME, report(2))

    assert known(vault) == ("SENT", report(2), 2)


def test_what_is_over_is_not_opened_again_by_a_closed_report_with_more_fills(vault: Vault) -> None:
    """Done is done: the fills of a done order are in the ledger."""
    over = report(1, closed=True)
    sent(vault).intents.booked(NAME, over)
    vault.intents.record(NAME, report(2, closed=True))

    assert known(vault) == ("DONE", over, 1)


def test_what_was_not_sent_has_no_report(redis_client: redis.Redis) -> None:
    """A NEW intent, and one that is no longer kept, stay as they are."""
    intents = RedisIntents(redis_client, KEYS, "event")
    intents.adopt(an_order("BBB"), replace(report(0), client_order_id="o-BBB", symbol="BBB"), ours=False)
    intents.create(ORDER)
    intents.record(NAME, report(1))
    intents.record(NAME, None)
    intents.record("nobody", report(1))
    intents.acknowledge(["nobody"])
    intent = intents.get(NAME)

    assert intent is not None
    assert (intent.state, intent.report) == ("NEW", None)
    assert intents.get("nobody") is None


def test_acknowledging_before_the_end_keeps_the_intent_open_and_for_ever(vault: Vault) -> None:
    """Its exit is still to be followed."""
    sent(vault).intents.acknowledge([NAME])

    assert [intent.entry_settled for intent in vault.intents.open()] == [True]
    assert set(vault.lives(f"intent:{NAME}").values()) <= {-1}


# ---- the server's clock ------------------------------------------------------------------------------


def test_an_execution_s_id_is_the_server_s_clock_in_microseconds(redis_client: redis.Redis) -> None:
    """So ids grow even over a server that lost its last second."""
    intents = RedisIntents(redis_client, KEYS, "event")
    before, run, after = server_us(redis_client), intents.begin(DECISION), server_us(redis_client)

    assert before <= run.id <= after


@pytest.mark.parametrize(("seconds", "refused"), [(-1, True), (3600, False)])
def test_live_an_order_is_too_old_by_the_server_s_clock(
    redis_client: redis.Redis, seconds: int, *, refused: bool
) -> None:
    """Expired a second ago by that clock, or good for another hour; it says the milliseconds it saw."""
    RedisControl(redis_client, KEYS).set(TradingState.ACTIVE, "ann", "test", NOW)
    live = RedisIntents(redis_client, KEYS, "live")
    live.create(ORDER)
    before = server_us(redis_client)
    expires_at = datetime.fromtimestamp(before // 1000 / 1000, UTC) + timedelta(seconds=seconds)
    refusal = live.mark_sent(NAME, NOW, expires_at)
    after = server_us(redis_client)

    assert (refusal is not None) is refused
    if refusal is not None:
        assert (refusal.rule, refusal.limit) == ("max_age", str(to_ms(expires_at)))
        assert before // 1000 <= int(refusal.observed) <= after // 1000
