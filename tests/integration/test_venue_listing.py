"""The listing of a venue over HTTP: whole, page by page, or no answer."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipeline.errors import BrokerError, TransientError
from pipeline.models import OrderStatus, Side
from tests.money import NOW, D, an_order, at
from tests.venue import FOR_EVER_S, LyingVenue, Toxic
from workers.adapters.broker_http import HttpBroker
from workers.adapters.http_bounded import BoundedHttp


@pytest.fixture
def venue() -> Iterator[LyingVenue]:
    """Two orders a page."""
    with LyingVenue(page_size=2) as running:
        yield running


def broker(venue: LyingVenue, *, hasty: bool = False) -> HttpBroker:
    """A client of the venue."""
    return HttpBroker(BoundedHttp(venue.settings(hasty=hasty)))


def five_orders(venue: LyingVenue) -> HttpBroker:
    """o-0 to o-4 are placed and wait for their fills."""
    client = broker(venue)
    for number in range(5):
        venue.poison(Toxic("rest"))
        client.submit(an_order(client_order_id=f"o-{number}"))
    return client


def pages(venue: LyingVenue) -> list[str]:
    """What was asked of the listing, in turn."""
    return [path for _, path, _ in venue.requests if path.startswith("/orders?state")]


def names(client: HttpBroker, since: str | None = None) -> list[str]:
    """What the venue lists; `since` a clock time."""
    return [one.name for one in client.orders(at(since) if since else None)]


def test_every_page_is_read(venue: LyingVenue) -> None:
    """Five orders, two a page: three requests, each after the last name of the one before."""
    assert names(five_orders(venue)) == ["o-0", "o-1", "o-2", "o-3", "o-4"]
    assert pages(venue) == ["/orders?state=open", "/orders?state=open&after=o-1", "/orders?state=open&after=o-3"]


@pytest.mark.parametrize("side", list(Side))
def test_a_listed_order_is_the_one_that_was_posted(venue: LyingVenue, side: Side) -> None:
    """Every fact, and both prices again: 100 with a stop 2 and a target 4 away, on the side's side."""
    stop, target = (D(98), D(104)) if side is Side.BUY else (D(102), D(96))
    posted = an_order(side=side)
    posted = replace(posted, levels=replace(posted.levels, stop=stop, target=target))
    broker(venue).submit(posted)
    (listed,) = broker(venue).orders(None)

    assert listed.order == posted
    assert (listed.report.status, listed.report.filled_quantity) == (OrderStatus.FILLED, 10)


def test_an_order_that_ended_is_listed_only_since_a_moment_not_after_it(venue: LyingVenue) -> None:
    """Stopped out at 15:20: since 15:20 it is there, since 15:21 and without a moment it is not."""
    client = broker(venue)
    client.submit(an_order())
    venue.venue.move("AAA", "97.9", at("15:20").isoformat())

    assert (names(client), names(client, "15:21"), names(client, "15:20")) == ([], [], ["o-AAA"])


@pytest.mark.parametrize(
    "change",
    [{"decision_id": ""}, {"tick": "0"}, {"quantity": 1.5}, {"submitted_at": "15:00"}, {"client_order_id": "by hand!"}],
)
def test_an_order_that_is_no_bracket_of_ours_is_listed_without_its_facts(
    venue: LyingVenue, change: dict[str, Any]
) -> None:
    """Placed in the venue's own window: its report counts, nothing is invented."""
    client = broker(venue)
    client.submit(an_order())
    order = venue.venue._by_id["o-AAA"]
    order.body = order.body | change
    (listed,) = client.orders(None)

    assert listed.order is None
    assert listed.name == change.get("client_order_id", "o-AAA")
    assert (listed.report.symbol, listed.report.status) == ("AAA", OrderStatus.FILLED)


def test_a_page_that_comes_again_is_no_answer(venue: LyingVenue) -> None:
    """A listing that turns in a circle would never end."""
    client = five_orders(venue)
    venue.poison(*[Toxic("same_page", method="GET")] * 9)
    with pytest.raises(BrokerError, match="lists order o-0 twice"):
        client.orders(None)


def test_a_listing_without_end_ends_at_the_bound_of_pages(venue: LyingVenue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pages that promise another one: three are read where three are allowed."""
    monkeypatch.setattr("workers.adapters.broker_http.LISTING_PAGES", 3)
    venue.poison(*[Toxic("same_page", method="GET")] * 9)
    with pytest.raises(BrokerError, match="more than 3 pages"):
        broker(venue).orders(None)

    assert len(pages(venue)) == 3


def test_an_order_whose_facts_are_not_its_reports_is_no_answer(venue: LyingVenue) -> None:
    """10 shares filled of an order for 5."""
    client = broker(venue)
    client.submit(an_order())
    order = venue.venue._by_id["o-AAA"]
    order.body = order.body | {"quantity": 5}
    with pytest.raises(BrokerError, match="other facts"):
        client.orders(None)


@pytest.mark.parametrize("kind", ["accept_504", "reset", "garbage", "wrong_shape", "half_closed", "plain_404"])
def test_a_listing_that_breaks_off_is_no_answer(venue: LyingVenue, kind: str) -> None:
    """Half the orders would make the other half look forgotten."""
    client = five_orders(venue)
    venue.poison(Toxic("none", method="GET"), *[Toxic(kind, method="GET")] * 9)
    with pytest.raises(BrokerError):
        client.orders(NOW - timedelta(hours=1))


def test_all_pages_share_one_bound(venue: LyingVenue) -> None:
    """The second page hangs for an hour: the whole call is over in its own time, without a bound for each page."""
    five_orders(venue)
    venue.poison(Toxic("none", method="GET"), *[Toxic("hang", seconds=FOR_EVER_S, method="GET")] * 9)
    before = len(venue.requests)
    with pytest.raises((BrokerError, TransientError)):
        broker(venue, hasty=True).orders(None)

    assert len(venue.requests) - before <= 4
