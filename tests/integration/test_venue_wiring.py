"""The configured venue behind the one property `Runtime.broker`, with its breaker in `fleet status`."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.errors import BrokerError
from tests.delivery import a_runtime
from tests.money import an_order
from tests.venue import LyingVenue, Toxic
from workers.adapters.broker_guarded import GuardedBroker
from workers.adapters.paper import PaperBroker
from workers.screen import status_table
from workers.status import status
from workers.wiring import Runtime


def a_fleet(server_url: str, folder: Path, venue: LyingVenue) -> Runtime:
    """A runtime that trades at this venue."""
    variables = {
        "FLEET_VENUE__KIND": "http",
        "FLEET_VENUE__BASE_URL": venue.url,
        "FLEET_VENUE__API_KEY": venue.key,
        "FLEET_VENUE__SANDBOX": "true",
        "FLEET_VENUE__GET_ATTEMPTS": "1",
    }
    return a_runtime(server_url, folder, **variables)


def shown(found: dict[str, Any]) -> str:
    """The status as a terminal shows it."""
    console = Console(file=io.StringIO(), width=200)
    console.print(status_table(found))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_without_a_venue_the_fleet_trades_on_paper(server_url: str, redis_client: Any, tmp_path: Path) -> None:
    """Rule: a newcomer's orders stay here, without a breaker between."""
    fleet = a_runtime(server_url, tmp_path)

    assert isinstance(fleet.broker, PaperBroker)
    assert fleet.executor._breaker is None
    assert status(fleet)["venue"] == {
        "kind": "paper",
        "breaker": "closed",
        "failures": 0,
        "waits": None,
        "trial_at": None,
    }


def test_status_shows_the_venue_and_what_holds_entries_back(server_url: str, redis_client: Any, tmp_path: Path) -> None:
    """Rule: orders go to the venue; its failures are counted, and the fifth is seen by everybody, venue or not."""
    with LyingVenue() as venue:
        fleet = a_fleet(server_url, tmp_path, venue)
        assert isinstance(fleet.broker, GuardedBroker)
        fleet.broker.submit(an_order("ZELK"))
        found = status(fleet)
        assert (found["venue"]["breaker"], found["book"]["cash"]) == ("closed", "99000")
        venue.poison(*[Toxic("refuse_504", method="GET")] * 4)
        for _ in range(4):
            with pytest.raises(BrokerError):
                fleet.broker.account()
        assert status(fleet)["venue"] | {"trial_at": None} == {
            "kind": "http",
            "breaker": "closed",
            "failures": 4,
            "waits": None,
            "trial_at": None,
        }
    found = status(fleet)  # asking the venue that is gone was the fifth

    assert found["book"] == {"unknown": "GET account: ConnectError", "positions": {}}
    assert status(fleet)["venue"]["breaker"] == "open"
    assert "entries held back: breaker open" in shown(status(fleet))
    assert fleet.executor._breaker is fleet.breaker
    assert fleet.breaker.permit() is not None
