"""One chain with no mock between stages: raw lines, real processes, a real server, bracket orders at the end."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from config.settings import load_settings
from pipeline.executor import ENTRY, client_order_id
from pipeline.models import INTERIM, TERMINAL, OrderStatus, Outcome, Position, Side
from tests.delivery import NOON, QUICK, assert_bounded, later
from tests.e2e.recording import children_of, clean_environ, running
from tests.integration.test_embedded import eventually, is_gone
from workers.adapters.embedded import EmbeddedServer, find
from workers.fleet import Crew, router, workers
from workers.supervisor import ChildSpec, fleet_command
from workers.wiring import Runtime

DEMO = Path(__file__).parents[2] / "config" / "demo"
URGENT = "test-u1:ZELK"
LINES = [
    {"id": "u1", "text": "$ZELK beats estimates, upgraded to strong buy, raises guidance, shares surge to record high"},
    {"id": "v1", "author": "bob", "text": "$OLVN likely lower by friday 41"},
    {"id": "v2", "author": "cat", "text": "$OLVN likely lower by friday 42"},
    {"id": "c1", "text": "$TVRN is on my list today"},
    {"id": "d1", "text": "RT @bob: $OLVN likely lower by friday 41 https://t.example/1"},
    {"id": "n1", "text": "the coffee machine is down"},
    {"id": "l1", "text": "$ZELK $OLVN $TVRN $NMBO $GRPL all on my list"},
    {"id": "u1", "text": "the same id again"},
]
LEGS = 7  # one a line, but for the repeated id; the list post has one null leg


def a_line(at: datetime, **changes: Any) -> str:
    """A post of `at`, known at once."""
    moment = at.isoformat()
    return json.dumps({"created_at": moment, "received_at": moment, "source": "test", "author": "ann"} | changes)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the processes left behind: the fleet to ask, the venue's positions, the children's logs."""

    fleet: Runtime
    positions: dict[str, Position]
    logs: Path


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Collector, router and three workers as processes; the test is the clock: drain at 12:01, settlement at 12:10."""
    folder = tmp_path_factory.mktemp("chain")
    posts = folder / "posts.jsonl"
    lines = [a_line(later(number), **line) for number, line in enumerate(LINES)]
    posts.write_text("\n".join([*lines, "no JSON", ""]))
    with EmbeddedServer(folder / "server") as server:
        environ = clean_environ(
            **QUICK, FLEET_REDIS_URL=server.url, FLEET_PROFILE="demo", FLEET_REDIS__KEY_PREFIX="fleet"
        )
        fleet = Runtime(load_settings(environ=environ))
        fleet.initialise_if_empty("test", NOON)
        collector = ChildSpec("collect", fleet_command("collect", str(posts)), restart="on_failure")
        crew = Crew(fleet, [collector, router(), *workers(fleet.settings, 1)], environ, folder / "logs")
        try:
            crew.wait_until_ready(3)
            wait(crew, lambda: fleet.journal.tally().get("legs", 0) == LEGS and idle(fleet))
            fleet.scheduler.queue_drain(later(60), event_time=True)
            wait(crew, lambda: idle(fleet))
            fleet.scheduler.queue_settle(later(600))
            wait(crew, lambda: idle(fleet))
            yield Chain(fleet, fleet.broker.positions(), folder / "logs")
        finally:
            crew.supervisor.shut_down()
            fleet.client.close()
            fleet.rq_client.close()


def idle(fleet: Runtime) -> bool:
    """Whether nothing waits to be routed and no job waits or runs."""
    return fleet.inbox.waiting() == 0 and fleet.queues.busy() == 0


def wait(crew: Crew, condition: Callable[[], bool], seconds: float = 240) -> None:
    """Keep the processes alive until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        crew.tend()
        time.sleep(0.02)
        assert time.monotonic() < deadline, "the chain stands still; see the children's logs"


def decision_of(chain: Chain, leg: str) -> str:
    """The decision that ended a leg."""
    return str(chain.fleet.client.hget(chain.fleet.keys.outcome(leg), "decision"))


def test_an_urgent_post_became_a_bracket_with_stop_and_target(chain: Chain) -> None:
    """Rule: the purpose of it all: a raw line in, a long position with both exits working at the paper broker."""
    order = client_order_id(chain.fleet.settings.environment, URGENT, "ZELK", Side.BUY, ENTRY)
    report, position = chain.fleet.broker.order(order), chain.positions["ZELK"]

    assert report is not None
    assert report.stop is not None
    assert report.target is not None
    assert report.status is OrderStatus.FILLED
    assert report.stop < position.average_price < report.target
    assert position.quantity == report.filled_quantity > 0
    assert chain.fleet.journal.outcome(URGENT) is Outcome.EXECUTED


def test_two_agreeing_posts_became_one_short_bracket(chain: Chain) -> None:
    """Rule: consensus of a minute; the mirror image, and both votes end with it."""
    decision = decision_of(chain, "test-v1:OLVN")
    order = client_order_id(chain.fleet.settings.environment, decision, "OLVN", Side.SELL, ENTRY)
    report, position = chain.fleet.broker.order(order), chain.positions["OLVN"]

    assert decision == decision_of(chain, "test-v2:OLVN")
    assert report is not None
    assert report.stop is not None
    assert report.target is not None
    assert report.target < position.average_price < report.stop
    assert position.quantity == -report.filled_quantity < 0
    assert chain.fleet.journal.outcome("test-v2:OLVN") is Outcome.EXECUTED


def test_every_other_line_has_its_own_end(chain: Chain) -> None:
    """Rule: one provable end each."""
    ends = {leg: chain.fleet.journal.outcome(leg) for leg in ("test-c1:TVRN", "test-d1:-", "test-n1:-", "test-l1:-")}

    assert ends == {
        "test-c1:TVRN": Outcome.NO_CONSENSUS,
        "test-d1:-": Outcome.DUPLICATE,
        "test-n1:-": Outcome.NO_SYMBOL,
        "test-l1:-": Outcome.LIST_POST,
    }
    assert [letter["reason"] for letter in chain.fleet.inbox.dead_letters(10)] == ["not_json"]


def test_outcomes_add_up_to_legs(chain: Chain) -> None:
    """Rule: DESIGN 4; two orders, nothing interim."""
    tally = chain.fleet.journal.tally()

    assert tally["legs"] == sum(tally.get(f"leg:{outcome}", 0) for outcome in TERMINAL) == LEGS
    assert not [outcome for outcome in INTERIM if tally.get(f"leg:{outcome}")]
    assert (tally["orders"], tally["buffered"], tally["accepted"]) == (2, 0, LEGS)


def test_nothing_of_the_work_is_left_behind(chain: Chain) -> None:
    """Rule: no list, claim, lease, reservation, strike, follow-up or job; everything else has a life or a bound."""
    names = {key.removeprefix("fleet:") for key in assert_bounded(chain.fleet.client, "fleet")}
    words = ("batch:", "batches", "claim:", "claims", "reservations", "held", "strikes:", "followups", "decision-legs:")

    assert [name for name in sorted(names) if name.startswith(words)] == []
    assert {"account", "positions", "decisions", "open-intents", "paper:positions"} <= names
    assert chain.fleet.queues.busy() == 0
    assert chain.fleet.inbox.waiting() == 0


def test_our_book_is_the_venues_book(chain: Chain) -> None:
    """Rule: positions come from fills, exactly."""
    session = chain.fleet.sessions.session_of(NOON)
    ours = chain.fleet.ledger.snapshot(session).positions

    assert {symbol: (one.quantity, one.cost) for symbol, one in ours.items()} == {
        symbol: (one.quantity, one.cost) for symbol, one in chain.positions.items()
    }


def test_no_words_of_a_post_are_in_the_logs(chain: Chain) -> None:
    """Rule: DESIGN 6; ids and reasons, never the text."""
    said = "".join(path.read_text() for path in chain.logs.iterdir())

    assert "coffee machine" not in said
    assert "record high" not in said


# ---- the wall clock ----------------------------------------------------------------------------------------


def test_a_whole_fleet_on_this_machine_decides_what_is_posted_now_and_ends_cleanly(tmp_path: Path) -> None:
    """Rule: `fleet run` tails a file; every post of now has its end within seconds; SIGTERM: exit 0, nobody left."""
    posts = tmp_path / "posts.jsonl"
    posts.touch()
    environ = {
        "FLEET_PROFILE": "paper",
        "FLEET_DATA_DIR": str(tmp_path / "data"),
        "FLEET_SOURCE__PATH": str(posts),
        "FLEET_MARKET__BARS_DIR": str(DEMO / "bars"),
        "FLEET_MARKET__DAILY_BARS_DIR": str(DEMO / "daily"),
        "FLEET_MARKET__CALENDAR_START": "2025-01-02",
        "FLEET_MARKET__CALENDAR_END": "2035-12-31",
        "FLEET_ORCHESTRATOR__BATCH_INTERVAL_SECONDS": "1",
        "FLEET_WORKERS__IMMEDIATE": "1",
    }
    with running("run", **environ) as process:
        assert eventually(lambda: find(tmp_path / "data") is not None)
        url = find(tmp_path / "data")
        assert url is not None
        with redis.Redis.from_url(url, decode_responses=True) as client:
            assert eventually(lambda: len(list(client.scan_iter("rq:worker:*"))) >= 3)
            moment = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - the wall clock is what is tested
            with posts.open("a") as file:
                file.write("\n".join([*(a_line(moment, **line) for line in LINES[:4]), ""]))
            assert eventually(lambda: all_ended(client, 4)), client.hgetall("fleet:tally")
        family = children_of(process.pid)
        assert len(family) >= 6
        process.terminate()
        assert process.wait(timeout=120) == 0
        assert eventually(lambda: all(is_gone(pid) for pid in family))

    assert "Traceback" not in "".join(path.read_text() for path in (tmp_path / "data" / "logs").iterdir())
    assert find(tmp_path / "data") is None


def all_ended(client: redis.Redis, legs: int) -> bool:
    """Whether so many legs were opened and all have their end."""
    tally: dict[str, str] = client.hgetall("fleet:tally")  # type: ignore[assignment]
    ended = sum(int(tally.get(f"leg:{outcome}", 0)) for outcome in TERMINAL)
    return int(tally.get("legs", 0)) == ended == legs
