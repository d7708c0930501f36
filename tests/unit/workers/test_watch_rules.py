"""What is an alarm: each rule at its limit and right beside it."""

import ast
import inspect
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from config.watch import ExpectedProcesses, WatchSettings
from pipeline.models import OrchestratorState, Position, TradingState
from pipeline.ports import BookSnapshot
from pipeline.risk import RiskManager, RiskSettings
from workers import reconcile
from workers.alarm_codes import CODES, SETTLING, WATCHED
from workers.protection import NO_STOP
from workers.standing import Lag, QueueStanding, RedisStanding, Standing, limits_used
from workers.watch import Window
from workers.watch_rules import RULES, Bounds, judge

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
D = Decimal
HERE: dict[str, tuple[float, ...]] = dict.fromkeys(
    ("collect", "route", "schedule", "immediate", "consensus", "maintenance"), (1.0,)
)
WELL = Standing(at=NOW, state_by="fleet start", processes=HERE, message_age_s=1.0)
BOUNDS = Bounds(WatchSettings(), max_buffered=1_000)


def alarms(**facts: Any) -> list[tuple[str, str, str]]:
    """What is wrong with a fleet that is well but for these facts."""
    return [(alarm.code, alarm.subject, alarm.detail) for alarm in judge(replace(WELL, **facts), BOUNDS)]


def names(**facts: Any) -> list[str]:
    """The same as names."""
    return [alarm.name for alarm in judge(replace(WELL, **facts), BOUNDS)]


def test_a_fleet_that_is_well_has_no_alarm() -> None:
    """The first line of every table below."""
    assert alarms() == []


@pytest.mark.parametrize(
    ("facts", "beside", "expected"),
    [
        ({"trading": TradingState.HALTED, "trading_why": "eve: drill"}, {}, ["halted"]),
        ({"trading": TradingState.REDUCING, "trading_why": "risk: week loss"}, {}, ["reducing"]),
        ({"limits": {"session_loss": 1.0}}, {"limits": {"session_loss": 0.999}}, ["day_lock"]),
        ({"entries_wait": "120 s ago"}, {"entries_wait": None}, ["books_unknown"]),
        ({"breaker": "open"}, {"breaker": "closed", "breaker_failures": 4}, ["breaker_open"]),
        ({"breaker": "half_open"}, {"breaker": "closed"}, ["breaker_open"]),
        ({"given_up": {"three_strikes": 1}}, {"given_up": {"three_strikes": 0}}, ["dead_letter:three_strikes"]),
        ({"refused": {"not_json": 60, "bad_time": 40}}, {"refused": {"not_json": 99}}, ["input_refused"]),
        ({"stream": Lag(5_000, 1)}, {"stream": Lag(4_999, 29.9)}, ["stream_lag"]),
        ({"stream": Lag(1, 30)}, {"stream": Lag(1, 29.9)}, ["stream_lag"]),
        ({"lists": Lag(1, 180)}, {"lists": Lag(1, 179.9)}, ["lists_lag"]),
        ({"lists": Lag(1_000, 1)}, {"lists": Lag(999, 1)}, ["backlog_full"]),
        (
            {"queues": {"immediate": QueueStanding(Lag(500, 1)), "consensus": QueueStanding(Lag(1, 60))}},
            {"queues": {"immediate": QueueStanding(Lag(499, 59.9))}},
            ["queue_lag:consensus", "queue_lag:immediate"],
        ),
        ({"claims": 9, "claims_overdue": 1}, {"claims": 9, "claims_overdue": 0}, ["claims_overdue"]),
        ({"redis": RedisStanding(80, 100)}, {"redis": RedisStanding(79, 100)}, ["redis_memory"]),
        ({"redis": RedisStanding(80, 0)}, {}, []),
        (
            {"redis": RedisStanding(policy="allkeys-lru", append_only=False, write_ok=False)},
            {"redis": RedisStanding()},
            ["redis_unsafe:append_only", "redis_unsafe:policy", "redis_unsafe:write"],
        ),
    ],
)
def test_a_limit_that_is_reached_is_an_alarm(
    facts: dict[str, Any], beside: dict[str, Any], expected: list[str]
) -> None:
    """At the limit it is raised; what is beside it is not."""
    assert names(**facts) == expected
    assert names(**beside) == []


def test_an_alarm_says_what_was_seen() -> None:
    """Numbers, so that nobody has to look for them first."""
    assert alarms(stream=Lag(6_000, 45.4)) == [("stream_lag", "", "6000 messages wait, the oldest 45 s")]
    assert alarms(refused={"bad_time": 40, "not_json": 60}) == [
        ("input_refused", "", "100 posts in 900 s: not_json 60, bad_time 40")
    ]
    assert alarms(trading=TradingState.HALTED, trading_why="eve: drill") == [("halted", "", "eve: drill")]


def test_who_was_not_seen_for_30_seconds_is_missing() -> None:
    """A heartbeat lives 30 s; a collector has an alarm of its own; a role that nobody expects is missed by nobody."""
    assert names(processes=HERE | {"route": (29.9, 31.0)}) == []
    assert names(processes=HERE | {"route": (30.0,)}) == ["process_missing:route"]
    assert names(processes=HERE | {"collect": (30.0,)}) == ["source_down"]
    expected = ExpectedProcesses(collect=0, route=2)
    found = judge(replace(WELL, processes=HERE | {"collect": ()}), Bounds(WatchSettings(expected=expected)))
    assert [(alarm.name, alarm.detail) for alarm in found] == [("process_missing:route", "1 of 2 give signs of life")]


@pytest.mark.parametrize(
    ("state", "by", "expected"),
    [
        (OrchestratorState.STOPPED, "eve", []),
        (OrchestratorState.STOPPED, "scheduler: no fresh collector", ["fleet_stopped"]),
        (OrchestratorState.STOPPING, "scheduler: no fresh collector", ["fleet_stopped"]),
        (OrchestratorState.STOPPED, "", ["fleet_stopped"]),
        (OrchestratorState.RUNNING, "", []),
    ],
)
def test_a_stop_is_an_alarm_when_no_person_asked_for_it(state: OrchestratorState, by: str, expected: list[str]) -> None:
    """The scheduler did, or the key is gone."""
    assert names(state=state, state_by=by) == expected


def test_what_waits_in_a_stopped_fleet_waits_by_intent() -> None:
    """A person stopped it: its lag is no news."""
    stopped = {"state": OrchestratorState.STOPPED, "state_by": "eve"}

    assert names(stream=Lag(9_000, 900), lists=Lag(5, 900), message_age_s=None, **stopped) == []


def test_a_feed_may_be_silent_unless_a_limit_is_set() -> None:
    """At the limit, also when there never was a message; not in a fleet that wants none."""
    limited = Bounds(WatchSettings(silent_s=600))

    def found(**facts: Any) -> list[str]:
        return [alarm.name for alarm in judge(replace(WELL, **facts), limited)]

    assert names(message_age_s=1e6) == []
    assert found(message_age_s=599.9) == []
    assert found(message_age_s=600.0) == ["source_silent"]
    assert found(message_age_s=None) == ["source_silent"]
    assert found(message_age_s=600.0, state=OrchestratorState.STOPPED, state_by="eve") == []


def test_every_code_is_looked_for_by_somebody() -> None:
    """Watched codes are the rules; what else is raised in the code is in the table, and nothing else is."""
    spelled = {reconcile.DRIFT, reconcile.RESTORED, reconcile.SILENT, reconcile.LATE, NO_STOP, "redis_down"}
    reviewed = {
        node.args[0].value
        for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(RiskManager)).replace("\t", " ")))  # type: ignore[arg-type]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_refuse"
        if isinstance(node.args[0], ast.Constant) and node.args[0].value in {"week_loss", "unrealised_drawdown"}
    }

    assert set(WATCHED) == set(RULES)
    assert set(CODES) == set(RULES) | spelled | reviewed
    assert set(WATCHED) >= SETTLING


def test_alarms_are_raised_where_they_are_known_to_be() -> None:
    """A new place that raises one must be looked at: its code needs an entry in the table."""
    root = Path(reconcile.__file__).parent
    places = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Alarm"
    }

    raising = {"protection.py", "reconcile.py", "settlement.py", "watch_rules.py", "wiring.py"}
    assert places == {"adapters/alarms.py", *raising}


# ---- limits ----------------------------------------------------------------------------------------------


def a_book(**facts: Any) -> BookSnapshot:
    """100,000 $ at the start of day and week, nothing held."""
    known = {"equity": D(100_000), "cash": D(100_000), "start_equity_session": D(100_000)}
    return BookSnapshot(**known | {"start_equity_week": D(100_000)} | facts)


def test_an_unused_book_uses_no_limit() -> None:
    """Zero of each."""
    assert set(limits_used(a_book(), RiskSettings()).values()) == {0.0}


def test_how_much_of_each_limit_is_used() -> None:
    """Worked by hand with the default limits, on 100,000 $ of equity.

    50 A at 100 = 5,000, bought for 6,500: 1,500 unrealised; limit 3 % = 3,000: a half. 10 % in one symbol = 10,000:
    a half. A reservation of 20,000: 25,000 of 100,000. A, B and C: three of ten. Lost today at worst 750 of 1,000,
    this week 750 of 3,000.
    """
    book = a_book(
        positions={"A": Position("A", 50, D(6_500), NOW)},
        marks={"A": D(100)},
        reserved={"B": D(20_000)},
        held=frozenset({"C"}),
        realised_session=D(100),
        worst_session=D(-750),
        worst_week=D(-750),
    )

    assert limits_used(book, RiskSettings()) == {
        "session_loss": 0.75,
        "week_loss": 0.25,
        "drawdown": 0.5,
        "gross_exposure": 0.25,
        "open_positions": 0.3,
        "largest_position": 0.5,
    }


def test_of_no_equity_everything_is_used() -> None:
    """A limit of zero is reached by anything, and by nothing not."""
    broke = a_book(equity=D(0), positions={"A": Position("A", 1, D(1), NOW)}, marks={"A": D(1)})

    assert limits_used(broke, RiskSettings())["gross_exposure"] == float("inf")
    assert limits_used(a_book(equity=D(0)), RiskSettings())["gross_exposure"] == 0.0


# ---- the window ------------------------------------------------------------------------------------------


def test_counters_grow_within_their_window_only() -> None:
    """3 before the first look (one of them lately), one more at 5 min, gone 15 min after each."""
    window = Window(timedelta(minutes=15))
    window.begin(NOW, {"dead:a": 3}, {"dead:a": 1})

    def growth(minutes: float, **counters: int) -> dict[str, int]:
        return window.growth(
            NOW + timedelta(minutes=minutes), {name.replace("_", ":"): n for name, n in counters.items()}
        )

    assert growth(0, dead_a=3) == {"dead:a": 1}
    assert growth(5, dead_a=4, dead_b=2) == {"dead:a": 2, "dead:b": 2}
    assert growth(14.9, dead_a=4, dead_b=2) == {"dead:a": 2, "dead:b": 2}
    assert growth(20, dead_a=4, dead_b=2) == {}
