"""What is wrong with the fleet, from how it stands: one function an alarm, each answers subject -> what was seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from config.watch import WatchSettings
from pipeline.models import OrchestratorState, TradingState
from workers.adapters.alarms import Alarm
from workers.adapters.keys import HEARTBEAT_TTL_S
from workers.standing import Lag, Standing

COLLECTOR: Final = "collect"
NOBODY: Final = ""
Found = dict[str, str]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the rules compare with. `max_buffered`: votes from which routers read no more."""

    watch: WatchSettings
    max_buffered: int = 100_000


def judge(now: Standing, bounds: Bounds) -> list[Alarm]:
    """Every alarm that `fleet watch` looks for and that is true now."""
    return [
        Alarm(code, subject, detail, now.at)
        for code, rule in RULES.items()
        for subject, detail in sorted(rule(now, bounds).items())
    ]


# ---- trading ---------------------------------------------------------------------------------------------


def halted(now: Standing, _: Bounds) -> Found:
    """The trading state is HALTED, or missing."""
    return _whole(now.trading_why) if now.trading is TradingState.HALTED else {}


def reducing(now: Standing, _: Bounds) -> Found:
    """The trading state is REDUCING."""
    return _whole(now.trading_why) if now.trading is TradingState.REDUCING else {}


def day_lock(now: Standing, _: Bounds) -> Found:
    """The day's loss limit is reached."""
    used = now.limits.get("session_loss", 0.0)
    return _whole(f"{used:.0%} of the limit was lost") if used >= 1 else {}


def books_unknown(now: Standing, _: Bounds) -> Found:
    """Entries wait for a comparison of the books."""
    return _whole(f"books compared {now.entries_wait}") if now.entries_wait is not None else {}


def breaker_open(now: Standing, _: Bounds) -> Found:
    """The venue failed so often that it gets no entries; half open it is still under trial."""
    return _whole(f"the breaker is {now.breaker}") if now.breaker != "closed" else {}


# ---- work ------------------------------------------------------------------------------------------------


def dead_letter(now: Standing, bounds: Bounds) -> Found:
    """Work was given up within the window."""
    return {reason: f"{n} in {bounds.watch.window_s:g} s" for reason, n in now.given_up.items() if n}


def input_refused(now: Standing, bounds: Bounds) -> Found:
    """Too many posts of the window could not be used."""
    total = sum(now.refused.values())
    if total < bounds.watch.refused:
        return {}
    return _whole(f"{total} posts in {bounds.watch.window_s:g} s: {_counts(now.refused)}")


def stream_lag(now: Standing, bounds: Bounds) -> Found:
    """Routers do not keep up. While the fleet is STOPPED messages wait by intent."""
    if now.state is OrchestratorState.STOPPED:
        return {}
    return _behind("messages", now.stream, bounds.watch.stream_messages, bounds.watch.stream_s)


def lists_lag(now: Standing, bounds: Bounds) -> Found:
    """A vote waits for a drain that does not come."""
    if now.state is OrchestratorState.STOPPED or now.lists.oldest_s < bounds.watch.lists_s:
        return {}
    return _whole(f"{now.lists.waiting} votes wait, the oldest {now.lists.oldest_s:.0f} s")


def queue_lag(now: Standing, bounds: Bounds) -> Found:
    """Jobs of a queue wait longer, or are more, than they should."""
    most, oldest = bounds.watch.queue_jobs, bounds.watch.queue_s
    found = {name: _behind("jobs", queue.lag, most, oldest) for name, queue in now.queues.items()}
    return {name: words[NOBODY] for name, words in found.items() if words}


def claims_overdue(now: Standing, bounds: Bounds) -> Found:
    """Claims nobody decided for two leases."""
    if now.claims_overdue < bounds.watch.claims_overdue:
        return {}
    return _whole(f"{now.claims_overdue} of {now.claims} claims")


def backlog_full(now: Standing, bounds: Bounds) -> Found:
    """All lists together are full: messages stay in the stream."""
    if now.lists.waiting < bounds.max_buffered:
        return {}
    return _whole(f"{now.lists.waiting} votes, limit {bounds.max_buffered}")


# ---- processes -------------------------------------------------------------------------------------------


def fleet_stopped(now: Standing, _: Bounds) -> Found:
    """The fleet takes nothing, and it was no person who said so: the scheduler did, or the key is gone."""
    by_itself = now.state_by.startswith("scheduler:") or not now.state_by
    stopped = now.state is not OrchestratorState.RUNNING
    return _whole(f"{now.state.value}, {now.state_by or 'nobody started it'}") if stopped and by_itself else {}


def source_down(now: Standing, bounds: Bounds) -> Found:
    """Fewer collectors than there should be give signs of life."""
    return _missing(now, COLLECTOR, bounds.watch.expected.collect)


def source_silent(now: Standing, bounds: Bounds) -> Found:
    """Nothing new for long, although messages are wanted."""
    limit, age = bounds.watch.silent_s, now.message_age_s
    if limit is None or now.state is not OrchestratorState.RUNNING or (age is not None and age < limit):
        return {}
    return _whole("no message yet" if age is None else f"no message for {age:.0f} s")


def process_missing(now: Standing, bounds: Bounds) -> Found:
    """Fewer processes of a role than there should be; the collector has an alarm of its own."""
    expected = bounds.watch.expected.model_dump()
    return {
        role: words[NOBODY]
        for role, least in expected.items()
        if role != COLLECTOR and (words := _missing(now, role, least))
    }


# ---- Redis -----------------------------------------------------------------------------------------------


def redis_memory(now: Standing, bounds: Bounds) -> Found:
    """Little memory is left."""
    server = now.redis
    if not server.memory_limit_bytes or server.memory_used < bounds.watch.memory:
        return {}
    return _whole(f"{server.memory_used:.0%} of {server.memory_limit_bytes / 2**20:.0f} MiB")


def redis_unsafe(now: Standing, _: Bounds) -> Found:
    """Keys may be evicted, or are not written down."""
    server = now.redis
    faults = {
        "policy": "" if server.policy == "noeviction" else f"maxmemory-policy is {server.policy}; valid: noeviction",
        "append_only": "" if server.append_only else "appendonly is off; valid: yes",
        "write": "" if server.write_ok else "the last write to its file failed",
    }
    return {subject: words for subject, words in faults.items() if words}


RULES: Final[dict[str, Callable[[Standing, Bounds], Found]]] = {
    rule.__name__: rule
    for rule in (
        halted,
        reducing,
        day_lock,
        books_unknown,
        breaker_open,
        dead_letter,
        input_refused,
        stream_lag,
        lists_lag,
        queue_lag,
        claims_overdue,
        backlog_full,
        fleet_stopped,
        source_down,
        source_silent,
        process_missing,
        redis_memory,
        redis_unsafe,
    )
}


def _whole(words: str) -> Found:
    return {NOBODY: words}


def _behind(what: str, lag: Lag, most: int, oldest_s: float) -> Found:
    if lag.waiting < most and lag.oldest_s < oldest_s:
        return {}
    return _whole(f"{lag.waiting} {what} wait, the oldest {lag.oldest_s:.0f} s")


def _missing(now: Standing, role: str, least: int) -> Found:
    fresh = sum(1 for age in now.processes.get(role, ()) if age < HEARTBEAT_TTL_S)
    return _whole(f"{fresh} of {least} give signs of life") if fresh < least else {}


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(found.items(), key=lambda one: (-one[1], one[0])) if n)
