"""One job's worth of decisions: gather from Redis, let the orchestrator decide, record, then forget."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Literal

from pipeline.consensus import window_of
from pipeline.errors import SymbolBusyError
from pipeline.models import Outcome, ProcessResult, Refusal, Stage, Vote
from pipeline.orchestrator import TradingOrchestrator, voting_legs
from pipeline.ports import Claim, Ledger, Sessions
from pipeline.router import leg_id
from workers.adapters.backlog_redis import RedisBacklog
from workers.adapters.dead_work import DeadWork, RedisDeadWork
from workers.adapters.followups_redis import RedisFollowUps
from workers.adapters.inbox_redis import RedisInbox
from workers.adapters.journal_redis import RedisJournal
from workers.adapters.rq_factory import CONSENSUS, IMMEDIATE
from workers.adapters.votes_cache import CachedVotes
from workers.adapters.wire_votes import named_by
from workers.canonical import log_decision
from workers.endings import Release, release_held, settle_orders
from workers.settlement import Settlement

FLUSH_AT = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """Votes of one symbol that are decided together at `as_of`."""

    decision_id: str
    claim_id: str
    symbol: str
    votes: tuple[Vote, ...]
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Decider:
    """What the job functions do. `clock` "event": a claim is cut into windows of its votes' own time."""

    orchestrator: TradingOrchestrator
    inbox: RedisInbox
    backlog: RedisBacklog
    journal: RedisJournal
    votes: CachedVotes
    followups: RedisFollowUps
    settlement: Settlement
    ledger: Ledger
    clock: Literal["live", "event"]
    interval_s: int
    lookback_s: float
    busy_delay_s: float
    sessions: Sessions
    release_max_age_s: float
    dead_work: RedisDeadWork

    # ---- urgent legs ----

    def urgent(self, message_id: str, symbol: str, as_of: datetime) -> str:
        """Decide one urgent leg; repeating it changes nothing."""
        leg = leg_id(message_id, symbol)
        known = self.journal.outcome(leg)
        if known not in (None, Outcome.BUFFERED):
            return str(known)
        self.votes.forget()
        analyzed = self.inbox.message(message_id)
        if analyzed is None:
            return self._fail(leg, symbol, (leg,), "message_missing", message_id, as_of)
        try:
            result = self.orchestrator.process_immediate(analyzed, as_of)
        except SymbolBusyError:
            self._later(IMMEDIATE, "trade", (message_id, symbol), as_of, analyzed.message.created_at)
            return "busy"
        self.journal.record([(result, (leg,))])
        self._tell(result)
        return result.status

    def has_end(self, message_id: str, symbol: str) -> bool:
        """Whether the urgent leg ended, or waits where something else will end it."""
        return self.journal.outcome(leg_id(message_id, symbol)) not in (None, Outcome.BUFFERED)

    def abandon_urgent(self, message_id: str, symbol: str, reason: str, as_of: datetime, job_id: str = "") -> str:
        """End an urgent leg whose job failed too often; a person may have it tried again."""
        leg = leg_id(message_id, symbol)
        self.dead_work.keep(DeadWork(leg, "leg", (leg,), job_id, reason, as_of))
        self.orchestrator.abandon(leg)
        return self._fail(leg, symbol, (leg,), "three_strikes", reason, as_of)

    # ---- claims ----

    def claims(self, claim_ids: Sequence[str], as_of: datetime, *, drained: bool = False) -> dict[str, int]:
        """Decide every batch of these claims in order of time; how many were decided or met a busy symbol.

        `as_of` is the moment of a live decision. In event time a batch is decided at the end of its window, but not
        before `as_of` (a follow-up's due), nor after it where `drained`: the lists were taken at that moment.
        Repeating it changes nothing.
        """
        claims = [claim for claim in self.backlog.claimed_many(claim_ids) if claim is not None]
        batches = sorted(
            (batch for claim in claims for batch in self._batches(claim, as_of, drained=drained)),
            key=lambda batch: (batch.as_of, batch.symbol),
        )
        self._load_votes(batches)
        busy = self._decide_batches(batches)
        finished = [claim.claim_id for claim in claims if claim.claim_id not in busy]
        self.backlog.finish_many(finished)
        for claim_id, batch in sorted(busy.items()):
            newest = max(vote.at for vote in batch.votes)
            self._later(CONSENSUS, "consensus", ([claim_id],), batch.as_of, newest)
        return dict(Counter("busy" if batch.claim_id in busy else "decided" for batch in batches))

    def agree(self, symbols: Collection[str], window_end: datetime) -> frozenset[str]:
        """Those of the symbols for which the votes of the window that ends then reach a consensus. Decides nothing.

        Event time only; one round trip. All votes up to then must be routed, all decisions before it made.
        """
        start = window_end - timedelta(seconds=self.interval_s)
        since = min(start, window_end - timedelta(seconds=self.lookback_s)) - timedelta(milliseconds=1)
        self.votes.forget()
        self.votes.load(dict.fromkeys(symbols, (since, window_end)))
        window = window_of(start, self.interval_s)
        return frozenset(symbol for symbol in symbols if self._agree(symbol, window, since, window_end))

    def abandon_claim(self, claim_id: str, reason: str, as_of: datetime, job_id: str = "") -> None:
        """End every leg of a claim whose job failed too often; its votes are kept for a person's second try."""
        try:
            claim = self.backlog.claimed(claim_id)
        except ValueError:
            self._abandon_damaged(claim_id, reason, as_of, job_id)
            return
        if claim is None:
            return
        batches = self._batches(claim, as_of)
        names = tuple(batch.decision_id for batch in batches)
        self.dead_work.keep(DeadWork(claim_id, "claim", names, job_id, reason, as_of))
        for batch in batches:
            legs = voting_legs(batch.symbol, batch.votes)
            self.orchestrator.abandon(batch.decision_id)
            self._fail(batch.decision_id, batch.symbol, legs, "three_strikes", reason, batch.as_of)
        self.dead_work.set_aside(claim_id)

    # ---- orders and held signals ----

    def settle(self, as_of: datetime) -> int:
        """Bring the book up to `as_of` and end the decisions whose order became definite; how many."""
        return settle_orders(self.settlement, self.journal, as_of)

    def release(self, as_of: datetime) -> int:
        """Net and decide again the signals held for an open at or before `as_of`; how many there were."""
        release = Release(as_of, self.sessions, timedelta(seconds=self.release_max_age_s))
        return release_held(self.orchestrator, self.ledger, self.journal, release, self._tell)

    # ---- inside ----

    def _batches(self, claim: Claim, as_of: datetime, *, drained: bool = False) -> list[Batch]:
        if self.clock == "live":
            return [Batch(claim.claim_id, claim.claim_id, claim.symbol, claim.votes, as_of)]
        bound = min if drained else max
        return [
            Batch(f"{claim.claim_id}-w{window}", claim.claim_id, claim.symbol, votes, bound(window_end, as_of))
            for window, votes in _by_window(claim.votes, self.interval_s)
            for window_end in (self._window_end(window),)
        ]

    def _agree(self, symbol: str, window: int, since: datetime, window_end: datetime) -> bool:
        votes = self.votes.votes(symbol, since, window_end)
        own = [vote for vote in votes if window_of(vote.at, self.interval_s) == window]
        return bool(own) and self.orchestrator.agrees(symbol, own, window_end)

    def _window_end(self, window: int) -> datetime:
        return datetime.fromtimestamp((window + 1) * self.interval_s, UTC)

    def _load_votes(self, batches: Sequence[Batch]) -> None:
        self.votes.forget()
        spans: dict[str, tuple[datetime, datetime]] = {}
        for batch in batches:
            since, until = batch.as_of - timedelta(seconds=self.lookback_s), batch.as_of
            first, last = spans.get(batch.symbol, (since, until))
            spans[batch.symbol] = (min(first, since), max(last, until))
        self.votes.load(spans)

    def _decide_batches(self, batches: Sequence[Batch]) -> dict[str, Batch]:
        """Claims with a batch that met a busy symbol, and that batch; all other batches are recorded."""
        busy: dict[str, Batch] = {}
        recorded: list[tuple[ProcessResult, tuple[str, ...]]] = []
        known = self.journal.outcomes([batch.decision_id for batch in batches])
        for batch, outcome in zip(batches, known, strict=True):
            if batch.claim_id in busy:
                continue
            try:
                result = self._decide_batch(batch, outcome)
            except SymbolBusyError:
                busy[batch.claim_id] = batch
                continue
            if result is None:
                continue
            recorded.append((result, result.legs))
            if result.status != Outcome.NO_CONSENSUS or len(recorded) >= FLUSH_AT:
                self.journal.record(recorded)
                recorded = []
                self.votes.forget(batch.symbol)
        self.journal.record(recorded)
        return busy

    def _decide_batch(self, batch: Batch, known: Outcome | None) -> ProcessResult | None:
        """The batch's result; None when an earlier decision counted all its votes. `known`: it was decided before."""
        symbol, name = batch.symbol, batch.decision_id
        if known is not None:  # its order may have been settled before its legs were recorded
            legs = voting_legs(symbol, self.orchestrator.unused(symbol, batch.votes))
            return ProcessResult(known, batch.as_of, symbol=symbol, decision_id=name, legs=legs)
        result = self.orchestrator.process_symbol_batch(symbol, batch.votes, batch.as_of, name)
        if result is not None:
            self._tell(result)
        return result

    def _tell(self, result: ProcessResult) -> None:
        log_decision(result, self.orchestrator.stage_ms)

    def _abandon_damaged(self, claim_id: str, reason: str, as_of: datetime, job_id: str) -> None:
        """Votes that cannot be read are kept as a dead letter; every leg that can be named ends."""
        symbol, raw = claim_id.rsplit("-", 1)[0], self.backlog.raw(claim_id)
        self.dead_work.keep(DeadWork(claim_id, "claim", (claim_id,), job_id, reason, as_of))
        self.inbox.bury("worker", "damaged_votes", claim_id, "\n".join(raw).encode(), refused=False)
        legs = [leg_id(name, symbol) for vote in raw if (name := named_by(vote)) is not None]
        self._fail(claim_id, symbol, legs, "three_strikes", reason, as_of)
        self.dead_work.set_aside(claim_id)

    def _later(self, queue: str, job: str, args: Sequence[object], as_of: datetime, since: datetime) -> None:
        """Ask for the job again after the delay; in event time, where each try is a wait for all, after its age."""
        delay = timedelta(seconds=self.busy_delay_s)
        if self.clock == "event":
            delay = max(delay, as_of - since)
        self.followups.add(queue, job, args, as_of + delay)

    def _fail(
        self, decision_id: str, symbol: str, legs: Sequence[str], rule: str, observed: str, as_of: datetime
    ) -> str:
        """End it as `error`, unless it was held or sent before: then release or settlement ends it."""
        known = self.journal.outcome(decision_id)
        if known not in (None, Outcome.BUFFERED):
            return known.value
        refusal = Refusal(Stage.EXECUTOR, rule, observed[:200], "a job that ends")
        result = ProcessResult(
            Outcome.ERROR, as_of, symbol=symbol, decision_id=decision_id, refusal=refusal, error=observed[:200]
        )
        self.journal.record([(result, tuple(legs))])
        return result.status


def _by_window(votes: Iterable[Vote], interval_s: int) -> list[tuple[int, tuple[Vote, ...]]]:
    ordered = sorted(votes, key=lambda vote: (vote.at, vote.id))
    windows = groupby(ordered, key=lambda vote: window_of(vote.at, interval_s))
    return [(window, tuple(group)) for window, group in windows]
