"""Execution ids: of many runs of one decision only the newest acts, and an order that was sent has the last word."""

from datetime import timedelta
from typing import Any

import pytest
import redis

from pipeline.errors import TakenOverError, TransientError
from pipeline.models import (
    ExecutionResult,
    OrderReport,
    OrderStatus,
    Outcome,
    ProcessResult,
    Refusal,
    Reservation,
    Stage,
    TradingState,
)
from pipeline.ports import ALREADY_ENDED, TAKEN_OVER, Execution
from tests.contracts.conftest import KEYS, Vault
from tests.deciding import CLOSED, Gate, Worker, active
from tests.money import NOW, SESSION, D, a_request, a_signal, an_open_gate, an_order, at
from workers.adapters.intents_redis import RedisIntents
from workers.sweep import sweep

ORDER = an_order()
NAME, DECISION = ORDER.client_order_id, ORDER.decision_id
LEG = "d-AAA:AAA"
LATER = NOW + timedelta(minutes=1)


def two_runs(vault: Vault) -> tuple[int, int]:
    """An old and a new run of the decision."""
    active(vault)
    return vault.intents.begin(DECISION).id, vault.intents.begin(DECISION).id


def result(outcome: Outcome, decision: str = LEG) -> ProcessResult:
    """An end of the decision."""
    return ProcessResult(outcome, NOW, symbol="AAA", decision_id=decision, refusal=Refusal(Stage.GATE, "vix"))


# ---- the ids -----------------------------------------------------------------------------------------


def test_every_run_has_a_larger_id_than_the_one_before(vault: Vault) -> None:
    """Each decision counts for itself."""
    first, second = two_runs(vault)

    assert second > first
    assert vault.intents.begin(DECISION).sent is None
    vault.holds(**{"control": ..., f"execution:{DECISION}": ...})
    assert all(0 < left <= 30 * 86_400 for left in vault.lives(f"execution:{DECISION}").values())


def test_a_server_that_forgot_the_last_runs_still_gives_larger_ids(redis_client: redis.Redis) -> None:
    """AOF everysec may lose a second: the server's clock keeps ids growing."""
    intents = RedisIntents(redis_client, KEYS, "event")
    before = intents.begin(DECISION)
    redis_client.flushall()

    assert intents.begin(DECISION).id > before.id


def test_a_clock_that_went_back_still_gives_larger_ids(redis_client: redis.Redis) -> None:
    """One more than the last."""
    redis_client.hset(KEYS.execution(DECISION), "id", str(9 * 10**15))

    assert RedisIntents(redis_client, KEYS, "event").begin(DECISION).id == 9 * 10**15 + 1


# ---- what an old run may not do ----------------------------------------------------------------------


def test_an_old_run_cannot_reserve(vault: Vault) -> None:
    """Its reservation would outlive the decision."""
    old, new = two_runs(vault)
    with pytest.raises(TakenOverError, match=DECISION):
        vault.ledger.reserve(a_request(execution=old))

    assert vault.ledger.reservations() == {}
    assert isinstance(vault.ledger.reserve(a_request(execution=new)), Reservation)
    assert vault.ledger.reservations() == {DECISION: NOW}


def test_an_old_run_cannot_give_the_new_ones_risk_back(vault: Vault) -> None:
    """Refused by the gate here, being sent there."""
    old, new = two_runs(vault)
    vault.ledger.reserve(a_request(execution=new))

    assert not vault.ledger.release(DECISION, unused=True, execution=old)
    assert vault.ledger.snapshot(SESSION).reserved == {"AAA": D(1000)}
    assert vault.ledger.release(DECISION, unused=True, execution=new)
    assert vault.ledger.snapshot(SESSION).reserved == {}
    assert vault.ledger.release(DECISION, unused=True, execution=new)  # twice is once


def test_an_old_run_cannot_hold(vault: Vault) -> None:
    """The decision would be decided a second time at the open."""
    old, new = two_runs(vault)
    vault.ledger.reserve(a_request(execution=new))
    with pytest.raises(TakenOverError):
        vault.ledger.hold(a_signal(), at("13:30", 3), old)

    assert (vault.ledger.held(at("13:30", 3)), vault.ledger.reservations()) == ((), {DECISION: NOW})
    vault.ledger.hold(a_signal(), at("13:30", 3), new)
    assert len(vault.ledger.held(at("13:30", 3))) == 1


def test_an_old_run_cannot_write_new(vault: Vault) -> None:
    """Nobody would ever send or forget it."""
    old, new = two_runs(vault)
    with pytest.raises(TakenOverError):
        vault.intents.create(ORDER, old)

    assert vault.intents.get(NAME) is None
    assert vault.intents.create(ORDER, new).state == "NEW"


def test_an_old_run_cannot_write_sent(vault: Vault) -> None:
    """And leaves the intent to the new one, which sends it."""
    old, new = two_runs(vault)
    vault.intents.create(ORDER, new)
    refusal = vault.intents.mark_sent(NAME, NOW, LATER, execution=old)

    assert refusal is not None
    assert (refusal.stage, refusal.rule) == (Stage.EXECUTOR, TAKEN_OVER)
    assert vault.intents.mark_sent(NAME, NOW, LATER, execution=new) is None


@pytest.mark.parametrize("halted", [TradingState.HALTED, TradingState.ACTIVE])
def test_an_old_run_is_told_so_before_any_other_reason(vault: Vault, halted: TradingState) -> None:
    """It must not end the decision by a halt or its age."""
    old, new = two_runs(vault)
    vault.intents.create(ORDER, new)
    vault.control.set(halted, "ann", "test", NOW)
    refusal = vault.intents.mark_sent(NAME, LATER, NOW, execution=old)

    assert refusal is not None
    assert refusal.rule == TAKEN_OVER
    assert vault.intents.get(NAME) is not None


def test_an_old_run_cannot_discard_the_new_ones_intent(vault: Vault) -> None:
    """Nor anybody what was sent."""
    old, new = two_runs(vault)
    vault.intents.create(ORDER, new)
    vault.intents.discard(DECISION, old)
    assert vault.intents.get(NAME) is not None
    vault.intents.discard(DECISION, new)
    vault.intents.discard(DECISION, new)
    assert vault.intents.get(NAME) is None
    vault.intents.create(ORDER, new)
    vault.intents.mark_sent(NAME, NOW, LATER, execution=new)
    vault.intents.discard(DECISION, new)
    assert vault.intents.get(NAME) is not None


def test_a_missing_intent_cannot_be_sent(vault: Vault) -> None:
    """What was not written first is not sent."""
    refusal = active(vault).intents.mark_sent("nobody", NOW, LATER)

    assert refusal == Refusal(Stage.EXECUTOR, "intent_missing", "missing", "NEW")


# ---- sent has the last word --------------------------------------------------------------------------


def test_a_new_run_learns_what_was_sent(vault: Vault) -> None:
    """It is settled, never repeated."""
    _, new = two_runs(vault)
    vault.intents.create(ORDER, new)
    vault.intents.mark_sent(NAME, NOW, LATER, execution=new)
    third = vault.intents.begin(DECISION)

    assert third == Execution(DECISION, third.id, NAME)
    assert third.id > new


def test_unused_risk_of_a_sent_order_is_not_given_back(vault: Vault) -> None:
    """Whoever asks; settlement gives it back when the order is definite."""
    _, new = two_runs(vault)
    vault.ledger.reserve(a_request(execution=new))
    vault.intents.create(ORDER, new)
    vault.intents.mark_sent(NAME, NOW, LATER, execution=new)

    for execution in (new, None):
        assert not vault.ledger.release(DECISION, unused=True, execution=execution)
    assert vault.ledger.snapshot(SESSION).reserved == {"AAA": D(1000)}
    assert vault.ledger.release(DECISION)
    assert vault.ledger.snapshot(SESSION).reserved == {}


@pytest.mark.parametrize("outcome", [Outcome.VETOED, Outcome.ERROR, Outcome.EXECUTED])
def test_nothing_is_sent_for_a_decision_that_has_ended(vault: Vault, outcome: Outcome) -> None:
    """An older run, or somebody who gave up, was faster with its end."""
    active(vault).journal.record([(result(outcome, DECISION), ())])
    vault.intents.create(ORDER)
    refusal = vault.intents.mark_sent(NAME, NOW, LATER)

    assert refusal is not None
    assert refusal.rule == ALREADY_ENDED
    assert vault.intents.get(NAME) is None


@pytest.mark.parametrize("outcome", [Outcome.HELD, Outcome.SUBMITTED, Outcome.BUFFERED])
def test_an_interim_outcome_does_not_forbid_sending(vault: Vault, outcome: Outcome) -> None:
    """A held signal is decided again."""
    active(vault).journal.record([(result(outcome, DECISION), ())])
    vault.intents.create(ORDER)

    assert vault.intents.mark_sent(NAME, NOW, LATER) is None


@pytest.mark.parametrize("word", [Outcome.VETOED, Outcome.ERROR, Outcome.GATE_CLOSED, Outcome.HELD])
@pytest.mark.parametrize("fate", [Outcome.EXECUTED, Outcome.UNFILLED, Outcome.BROKER_REJECTED])
def test_once_sent_only_the_orders_fate_ends_the_decision(vault: Vault, word: Outcome, fate: Outcome) -> None:
    """A run that vetoes it, or gives up, records "submitted" at most; a leg it brings along ends with the rest."""
    two_runs(vault)
    vault.intents.create(ORDER)
    vault.intents.mark_sent(NAME, NOW, LATER)
    vault.journal.record([(result(word, DECISION), ("leg-1",))])
    assert (vault.journal.outcome(DECISION), vault.journal.outcome("leg-1")) == (Outcome.SUBMITTED,) * 2

    vault.journal.record([(result(fate, DECISION), ())])
    vault.journal.record([(result(word, DECISION), ("leg-2",))])
    assert [vault.journal.outcome(name) for name in (DECISION, "leg-1", "leg-2")] == [fate] * 3


# ---- two workers, one decision -----------------------------------------------------------------------


def test_a_run_refused_by_the_gate_gives_nothing_back_that_another_run_is_sending(vault: Vault) -> None:
    """The old run asks its gate while a new one sends the order: the reservation stays, the order's fate is the end."""
    active(vault)
    new = Worker(vault)
    old = Worker(vault, gate=Gate([CLOSED], before=new.decide))
    with pytest.raises(TakenOverError):
        old.decide()

    assert len(new.orders) == 1
    assert vault.ledger.snapshot(SESSION).reserved == {"AAA": D(10_000)}
    assert vault.journal.outcome(LEG) is Outcome.SUBMITTED


def test_a_taken_over_run_sends_nothing_after_the_new_one_was_refused(vault: Vault) -> None:
    """The old run has reserved and asks its gate; the new one is refused by its own: the end is the new one's."""
    active(vault)
    new = Worker(vault, gate=Gate([CLOSED]))
    old = Worker(vault, gate=Gate(before=new.decide))
    with pytest.raises(TakenOverError):
        old.decide()

    assert (old.orders, vault.ledger.reservations()) == ([], {})
    assert vault.journal.outcome(LEG) is Outcome.GATE_CLOSED
    assert vault.intents.open() == ()


def test_a_run_taken_over_at_its_last_look_settles_what_the_new_one_sent(vault: Vault) -> None:
    """NEW is written, the gate is asked a second time, meanwhile a new run sends the same order."""
    active(vault)
    new, gate = Worker(vault), Gate()
    old = Worker(vault, gate=gate)

    def second_look() -> None:
        gate.before = new.decide

    gate.before = second_look

    assert old.decide().outcome is Outcome.SUBMITTED
    assert len(new.orders) == 1
    assert vault.journal.outcome(LEG) is Outcome.SUBMITTED


def test_a_repeated_run_settles_what_the_first_sent(vault: Vault) -> None:
    """The same order, once at the venue."""
    active(vault)
    first, second = (Worker(vault).decide() for _ in range(2))

    assert first.execution_result is not None
    assert second.execution_result == first.execution_result
    assert len(Worker(vault).orders) == 1


# ---- the last look -----------------------------------------------------------------------------------


def test_a_gate_that_closes_between_decision_and_order_sends_nothing(vault: Vault) -> None:
    """Asked again in the step before SENT: risk and intent are gone."""
    worker = Worker(active(vault), gate=Gate([an_open_gate(), CLOSED]))
    ended = worker.decide()

    assert (ended.outcome, ended.refusal) == (Outcome.GATE_CLOSED, CLOSED.refusal)
    assert (worker.gate.asked, worker.orders, vault.ledger.reservations()) == (2, [], {})
    vault.holds(
        **{
            "control": ...,
            "account": ...,
            "risk:2014-06-02": ...,
            "risk:2014-W23": ...,
            f"execution:{LEG}": ...,
            f"outcome:{LEG}": ...,
            f"decision:{LEG}": ...,
            "decisions": ...,
            "tally": ...,
        }
    )


@pytest.mark.parametrize(("now", "outcome"), [("0.5", Outcome.GATE_CLOSED), ("1", Outcome.SUBMITTED)])
def test_a_gate_that_lets_less_through_than_the_order_was_made_for_is_closed(
    vault: Vault, now: str, outcome: Outcome
) -> None:
    """The order is immutable: smaller would be another order."""
    worker = Worker(active(vault), gate=Gate([an_open_gate("1"), an_open_gate(now)]))
    ended = worker.decide()

    assert ended.outcome is outcome
    if outcome is Outcome.GATE_CLOSED:
        assert ended.refusal == Refusal(Stage.GATE, "gate_narrowed", "factor 0.5", "factor 1")


def test_a_halt_at_the_last_look_forgets_intent_and_risk(vault: Vault) -> None:
    """No NEW, no reservation stays behind."""
    worker = Worker(active(vault))

    def halt() -> None:
        vault.control.set(TradingState.HALTED, "ann", "drill", NOW)

    worker.gate.before = halt
    ended = worker.decide()

    assert (ended.outcome, ended.refusal and ended.refusal.rule) == (Outcome.RISK_REJECTED, "trading_state")
    assert (worker.orders, vault.ledger.reservations(), vault.intents.open()) == ([], {}, ())


# ---- what dead workers leave -------------------------------------------------------------------------


def dies(vault: Vault, *, after_sent: bool) -> Worker:
    """A worker that dies right before, or right after SENT was written."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    worker = Worker(active(vault))
    where: Any = worker.broker if after_sent else vault.intents
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, "submit" if after_sent else "mark_sent", killed)
        with pytest.raises(KeyboardInterrupt):
            worker.decide()
    return worker


@pytest.mark.parametrize(("seconds", "freed"), [(179, []), (180, []), (181, [LEG])])
def test_what_a_dead_worker_reserved_is_freed_after_the_bound(vault: Vault, seconds: int, freed: list[str]) -> None:
    """At 180 s it may still be alive, later nobody waits for it; the NEW intent goes with the reservation."""
    worker = dies(vault, after_sent=False)

    assert sweep(vault.ledger, worker.executor, 180, NOW + timedelta(seconds=seconds)) == freed
    assert (vault.ledger.reservations() == {}) is bool(freed)
    assert sweep(vault.ledger, worker.executor, 10_000, NOW) == []


def test_a_slow_worker_whose_risk_was_freed_cannot_send(vault: Vault) -> None:
    """The janitor took the decision over."""
    worker = Worker(active(vault))

    def janitor() -> None:
        assert sweep(vault.ledger, worker.executor, 180, at("15:10")) == [LEG]

    worker.gate.before = janitor
    with pytest.raises(TakenOverError):
        worker.decide()

    assert (worker.orders, vault.ledger.reservations()) == ([], {})


def test_the_janitor_leaves_a_sent_order_to_settlement(vault: Vault) -> None:
    """SENT is settled by looking it up: here it never arrived, which is known at the close."""
    worker = dies(vault, after_sent=True)

    assert sweep(vault.ledger, worker.executor, 180, at("15:10")) == []
    assert len(vault.ledger.reservations()) == 1
    assert [one.outcome for one in worker.settlement.settle(at("19:59"))] == []
    assert [one.outcome for one in worker.settlement.settle(at("20:00"))] == [Outcome.UNFILLED]
    assert vault.ledger.reservations() == {}


def test_a_decision_that_is_given_up_is_taken_over(vault: Vault) -> None:
    """Three strikes: nothing of it is sent later, its risk is free."""
    worker = Worker(active(vault))

    def given_up() -> None:
        worker.orchestrator.abandon(LEG)
        vault.journal.record([(result(Outcome.ERROR), (LEG,))])

    worker.gate.before = given_up
    with pytest.raises(TakenOverError):
        worker.decide()

    assert (worker.orders, vault.ledger.reservations()) == ([], {})
    assert vault.journal.outcome(LEG) is Outcome.ERROR


def test_a_decision_given_up_after_its_order_was_sent_ends_with_the_order(vault: Vault) -> None:
    """The order is at the venue: giving up changes nothing."""
    worker = Worker(active(vault))
    worker.decide()
    worker.orchestrator.abandon(LEG)
    vault.journal.record([(result(Outcome.ERROR), (LEG,))])

    assert vault.journal.outcome(LEG) is Outcome.SUBMITTED
    assert len(vault.ledger.reservations()) == 1


def test_a_lost_answer_to_sent_gives_nothing_back(vault: Vault) -> None:
    """SENT was written, the connection broke: whether it was written is unknown, so the risk stays set aside.

    The repetition finds it sent, and asks the venue for it.
    """
    worker, mark_sent = Worker(active(vault)), vault.intents.mark_sent

    def answer_lost(*args: object, **facts: object) -> None:
        mark_sent(*args, **facts)  # type: ignore[arg-type] # the same call
        raise TransientError("connection lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault.intents, "mark_sent", answer_lost)
        with pytest.raises(TransientError):
            worker.decide()
    worker.decide()

    assert (worker.orders, len(vault.ledger.reservations())) == ([], 1)
    assert vault.journal.outcome(LEG) is Outcome.SUBMITTED
    assert [one.refusal and one.refusal.rule for one in worker.settlement.settle(at("20:00"))] == ["never_arrived"]


def test_an_order_whose_intent_is_no_longer_kept_is_an_error_and_sends_nothing(vault: Vault) -> None:
    """A job of a month ago."""
    worker = Worker(active(vault))
    worker.decide()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault.intents, "get", lambda _name: None)
        answer = worker.executor.begin(a_signal(decision_id=LEG))

    assert isinstance(answer, ExecutionResult)
    assert answer.error == "FleetError: its order is no longer kept"


def test_an_adopted_order_is_followed_and_ends_no_decision(vault: Vault) -> None:
    """Somebody else's order under our account: its fills will be ours."""
    report = OrderReport(NAME, "AAA", OrderStatus.ACCEPTED)
    for _ in range(2):
        vault.intents.adopt(ORDER, report, ours=False)
    intent = vault.intents.get(NAME)

    assert intent is not None
    assert (intent.state, intent.report, intent.entry_settled, intent.booked) == ("SENT", report, True, 0)
    assert [one.client_order_id for one in vault.intents.open()] == [NAME]
