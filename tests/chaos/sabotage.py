"""The protocol broken on purpose, one way at a time: a harness that does not notice proves nothing.

Each act is done in the harness before its children are forked, so every process of the run is broken the same way.
"""

from collections.abc import Callable
from typing import Any, Final

from pipeline.executor import TradeExecutor
from pipeline.models import ExecutionResult
from pipeline.risk import RiskManager
from workers.adapters import journal_redis
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.intents_redis import RedisIntents
from workers.decide import Decider
from workers.route import Router


def acknowledge_first() -> None:
    """The router forgets its stream entries before their legs are open and their jobs are queued."""
    route = Router._route

    def careless(self: Any, read: Any, behind: Any) -> None:
        self.inbox.acknowledge([delivery.entry_id for delivery in read.taken.deliveries])
        route(self, read, behind)

    _replace(Router, "_route", careless)


def forget_claims_first() -> None:
    """A claim is deleted before it is decided."""
    decide = Decider._decide_batches

    def careless(self: Any, batches: Any) -> Any:
        self.backlog.finish_many(sorted({batch.claim_id for batch in batches}))
        return decide(self, batches)

    _replace(Decider, "_decide_batches", careless)


def send_again() -> None:
    """What was SENT is sent again instead of looked up: SENT refuses nothing, and a known order is no reason."""
    sent = RedisIntents.mark_sent

    def always(self: Any, client_order_id: str, now: Any, expires_at: Any, **more: Any) -> None:
        sent(self, client_order_id, now, expires_at, **more)

    _replace(RedisIntents, "mark_sent", always)
    _replace(TradeExecutor, "_look_up", _submitted_again)


def _submitted_again(self: Any, order: Any) -> Any:
    report = self._broker.submit(order)
    return ExecutionResult(order.client_order_id, order.symbol, order.side, order.quantity, report)


def overwrite_outcomes() -> None:
    """An end is written whatever was there before, and counted each time."""
    guard = "if current and (rank[state] or 9) <= (rank[current] or 9) then return false end"
    if guard not in journal_redis.RECORD:
        raise ValueError("the journal's compare-and-set is not where it was; valid: the line of RECORD that refuses")
    _replace(journal_redis, "RECORD", journal_redis.RECORD.replace(guard, ""))


def double_the_limits() -> None:
    """The risk stage allows twice of what the settings say."""
    made = RiskManager.__init__
    doubled = ("max_position", "max_gross_exposure", "max_open_positions")

    def generous(self: Any, ledger: Any, sessions: Any, market: Any, control: Any, settings: Any) -> None:
        more = {name: getattr(settings, name) * 2 for name in doubled}
        made(self, ledger, sessions, market, control, settings.model_copy(update=more))

    _replace(RiskManager, "__init__", generous)


def forget_the_seen() -> None:
    """Every delivery of a message is routed as if it were the first."""
    accept = RedisBacklog.accept_chunk

    def forgetful(self: Any, chunk: Any, *more: Any) -> Any:
        for turn in chunk.turns:
            self._redis.delete(*(self._keys.outcome(leg.leg_id) for leg in turn.legs))
            self._redis.zrem(self._keys.seen_texts(), turn.message.fingerprint)
        return accept(self, chunk, *more)

    _replace(RedisBacklog, "accept_chunk", forgetful)


ACTS: Final[dict[str, Callable[[], None]]] = {
    act.__name__.replace("_", "-"): act
    for act in (
        acknowledge_first,
        forget_claims_first,
        send_again,
        overwrite_outcomes,
        double_the_limits,
        forget_the_seen,
    )
}


def _replace(owner: Any, name: str, new: Any) -> None:
    setattr(owner, name, new)
