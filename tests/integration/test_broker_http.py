"""The broker over HTTP against a venue that lies: what is definite is told, everything else leaves the fate open."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.errors import BrokerError, TransientError
from pipeline.models import OrderStatus, Side
from tests.money import CLOSE, NOW, D, an_order
from tests.venue import FOR_EVER_S, SILENT, LyingVenue, Toxic, VenueBook, VenueProcess
from workers.adapters.broker_http import HttpBroker
from workers.adapters.http_bounded import BoundedHttp

OPEN_FATE = (BrokerError, TransientError)
#: Toxics after which nobody knows whether the order exists, and whether it does.
UNKNOWN = {
    "late": True,
    "accept_hang": True,
    "hang": False,
    "accept_504": True,
    "refuse_504": False,
    "accept_429": True,
    "rate_limit": False,
    "deny_422": False,
    "half_closed": True,
    "reset": True,
    "close": False,
    "garbage": True,
    "wrong_shape": True,
    "other_order": True,
    "float_money": True,
    "drip": True,
    "drip_head": True,
    "redirect": False,
    "plain_404": False,
    "huge": True,
}


@pytest.fixture
def venue() -> Iterator[LyingVenue]:
    """An honest venue until it is poisoned."""
    with LyingVenue() as running:
        yield running


def broker(venue: LyingVenue, *, hasty: bool = False, **changes: Any) -> HttpBroker:
    """A client of the venue; a hasty one waits for a second of silence, and two in all."""
    return HttpBroker(BoundedHttp(venue.settings(hasty=hasty, **changes)))


def test_an_accepted_bracket_is_reported_exactly(venue: LyingVenue) -> None:
    """Money arrives as the decimals the venue said, times aware."""
    report = broker(venue).submit(an_order())

    assert (report.status, report.filled_quantity, report.closed) == (OrderStatus.FILLED, 10, False)
    assert [(f.quantity, f.price, f.fee, f.at) for f in report.fills] == [(10, D(100), D(0), NOW)]
    assert (report.stop, report.target) == (D(98), D(104))


def test_the_venue_gets_every_fact_of_the_order(venue: LyingVenue) -> None:
    """Nothing is left to the venue's defaults."""
    broker(venue).submit(an_order(side=Side.SELL, max_gap=D("0.0500")))

    assert venue.book().orders["o-AAA"]["body"] == {
        "client_order_id": "o-AAA",
        "decision_id": "d-AAA",
        "symbol": "AAA",
        "side": "sell",
        "quantity": 10,
        "reduce_only": False,
        "reference": "100",
        "stop_distance": "2",
        "target_distance": "4",
        "tick": "0.01",
        "max_gap": "0.0500",
        "max_hold_sessions": 10,
        "submitted_at": NOW.isoformat(),
        "good_until": CLOSE.isoformat(),
    }


def test_a_partial_fill_is_told_as_it_grows(venue: LyingVenue) -> None:
    """4 of 10, then the other 6: each look sees what is true then."""
    venue.poison(Toxic("partial", quantity=4))
    client = broker(venue)
    first = client.submit(an_order())
    venue.venue.fill("o-AAA", 6, "100.25")
    second = client.order("o-AAA")

    assert (first.status, first.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, 4)
    assert second is not None
    assert (second.status, [f.quantity for f in second.fills]) == (OrderStatus.FILLED, [4, 6])
    assert second.fills[1].price == D("100.25")


def test_a_refusal_is_definite_and_carries_the_venues_word(venue: LyingVenue) -> None:
    """4xx with a code: rejected, nothing can fill."""
    venue.poison(Toxic("refuse"))
    report = broker(venue).submit(an_order())

    assert (report.status, report.reason, report.closed) == (OrderStatus.REJECTED, "insufficient_buying_power", True)
    assert venue.book().orders == {}


def test_a_duplicate_id_answers_the_order_that_is_there(venue: LyingVenue) -> None:
    """422 on an id the venue has: it is looked up, not refused and not made twice."""
    client = broker(venue)
    first = client.submit(an_order())

    assert client.submit(an_order()) == first
    assert venue.book().made == {"o-AAA": 1}


def test_a_false_duplicate_that_was_really_made_is_found(venue: LyingVenue) -> None:
    """422 for an order the venue made in this very request."""
    venue.poison(Toxic("accept_422"))

    assert broker(venue).submit(an_order()).status is OrderStatus.FILLED


def test_a_duplicate_with_other_facts_is_no_answer(venue: LyingVenue) -> None:
    """The id is taken by an order of another side: that is not ours."""
    client = broker(venue)
    client.submit(an_order(side=Side.SELL))
    with pytest.raises(BrokerError, match="other facts"):
        client.submit(an_order(side=Side.BUY))


@pytest.mark.parametrize(("kind", "made"), UNKNOWN.items())
def test_an_unclear_answer_leaves_the_fate_open_and_sends_nothing_again(
    venue: LyingVenue, kind: str, *, made: bool
) -> None:
    """One POST and an error; who is silent for an hour is not waited for; the look-up tells the truth afterwards."""
    client = broker(venue)
    venue.poison(Toxic(kind, seconds=0.1 if "drip" in kind else FOR_EVER_S))
    with pytest.raises(OPEN_FATE):
        broker(venue, hasty=kind in SILENT).submit(an_order())

    assert venue.book().asked == {"o-AAA": 1}
    assert [method for method, _, _ in venue.requests].count("POST") == 1
    if kind != "late":  # it is still on its way
        found = client.order("o-AAA")
        assert (found is not None) is made
        assert venue.book().made == ({"o-AAA": 1} if made else {})


def test_a_slow_answer_within_the_bound_is_an_answer(venue: LyingVenue) -> None:
    """0.1 s of silence are fewer than the 8 s allowed."""
    venue.poison(Toxic("delay", seconds=0.1))

    assert broker(venue).submit(an_order()).status is OrderStatus.FILLED


def test_an_answer_that_comes_half_a_minute_late_is_none(venue: LyingVenue) -> None:
    """30 s are more than any call may take: the order is there, and only a look-up says so."""
    venue.poison(Toxic("delay", seconds=30))
    with pytest.raises(BrokerError):
        broker(venue, hasty=True).submit(an_order())

    found = broker(venue).order("o-AAA")
    assert found is not None
    assert (found.status, venue.book().asked) == (OrderStatus.FILLED, {"o-AAA": 1})


def test_nothing_in_the_environment_changes_the_way_to_the_venue(
    venue: LyingVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would read the key, and might send an order twice."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert broker(venue).submit(an_order()).status is OrderStatus.FILLED


def test_a_venue_that_is_not_there_is_an_open_question() -> None:
    """Refused connections too: something in between may have sent it on."""
    with LyingVenue() as gone:
        client = broker(gone)
    with pytest.raises(BrokerError, match="ConnectError"):
        client.submit(an_order())


# ---- questions -----------------------------------------------------------------------------------------


def test_an_unknown_id_is_none_only_in_the_venues_own_words(venue: LyingVenue) -> None:
    """A proxy's 404 is no answer: taking it for "never heard of it" would end a living order."""
    client = broker(venue, get_attempts=1)
    assert client.order("nobody") is None
    venue.poison(Toxic("plain_404", method="GET"))
    with pytest.raises(BrokerError, match="404"):
        client.order("nobody")


@pytest.mark.parametrize("kind", ["accept_504", "reset", "garbage", "half_closed"])
def test_a_question_is_asked_again_within_the_bound(venue: LyingVenue, kind: str) -> None:
    """Two failures, then the answer."""
    client = broker(venue)
    client.submit(an_order())
    venue.poison(Toxic(kind, method="GET"), Toxic(kind, method="GET"))
    found = client.order("o-AAA")

    assert found is not None
    assert [method for method, _, _ in venue.requests].count("GET") == 3


def test_a_question_is_not_asked_for_ever(venue: LyingVenue) -> None:
    """`get_attempts` tries at most."""
    venue.poison(*[Toxic("accept_504", method="GET")] * 9)
    with pytest.raises(BrokerError, match="504"):
        broker(venue, get_attempts=4).positions()

    assert len(venue.requests) == 4


def test_a_question_after_429_waits_as_long_as_told_or_not_at_all(venue: LyingVenue) -> None:
    """Retry-After 0 fits the bound; an hour does not, and the call ends without waiting for it."""
    client = broker(venue)
    venue.poison(Toxic("rate_limit", seconds=0, method="GET"))
    assert client.clock(NOW) is True
    venue.poison(Toxic("rate_limit", seconds=3_600, method="GET"))
    with pytest.raises(TransientError, match="wait 3600"):
        client.clock(NOW)


def test_questions_that_hang_end_within_the_bound(venue: LyingVenue) -> None:
    """Every try hangs for an hour: nine tries of a second each are not made in a call of two."""
    venue.poison(*[Toxic("hang", seconds=FOR_EVER_S, method="GET")] * 9)
    with pytest.raises(BrokerError):
        broker(venue, hasty=True, get_attempts=9).account()

    assert len(venue.requests) <= 3


def test_many_updates_share_one_bound(venue: LyingVenue) -> None:
    """120 ids are three requests; the second hangs for ever, and there is no bound of its own for each of them."""
    venue.poison(Toxic("none", method="GET"), *[Toxic("hang", seconds=FOR_EVER_S, method="GET")] * 9)
    with pytest.raises(BrokerError):
        broker(venue, hasty=True, get_attempts=9).updates(NOW, [f"o-{n}" for n in range(120)])

    assert len(venue.requests) <= 4


def test_updates_tell_the_orders_the_venue_knows(venue: LyingVenue) -> None:
    """In chunks, without those it never heard of."""
    client = broker(venue)
    names = [f"o-{n}" for n in range(60)]
    for name in names[::2]:
        client.submit(an_order(client_order_id=name))

    assert [report.client_order_id for report in client.updates(NOW, names)] == names[::2]


def test_updates_that_answer_for_another_order_are_no_answer(venue: LyingVenue) -> None:
    """The venue may not put words into the mouth of an order we did not ask for."""
    client = broker(venue)
    client.submit(an_order())
    venue.venue._by_id["o-BBB"] = venue.venue._by_id["o-AAA"]
    with pytest.raises(BrokerError, match="not asked"):
        client.updates(NOW, ["o-BBB"])


def test_a_withdrawal_is_sent_once_and_takes_the_exits(venue: LyingVenue) -> None:
    """DELETE is no question."""
    client = broker(venue)
    venue.poison(Toxic("rest"))
    client.submit(an_order())
    report = client.cancel("o-AAA", NOW)
    assert report is not None
    assert (report.status, report.closed) == (OrderStatus.CANCELLED, True)
    assert client.cancel("nobody", NOW) is None
    venue.poison(Toxic("accept_504", method="DELETE"))
    with pytest.raises(BrokerError):
        client.cancel("o-AAA", NOW)

    assert [method for method, _, _ in venue.requests].count("DELETE") == 3


def test_holdings_money_price_and_hours_are_read(venue: LyingVenue) -> None:
    """10 shares at 100 paid from 100,000."""
    client = broker(venue)
    client.submit(an_order())
    venue.venue.move("AAA", "101.5", "2014-06-02T16:00:00+00:00")
    held, money, price = client.positions(), client.account(), client.quote("AAA", NOW)

    assert {s: (p.quantity, p.cost, p.opened_at) for s, p in held.items()} == {"AAA": (10, D(1000), NOW)}
    assert (money.cash, money.equity) == (D(99_000), D(100_015))
    assert price is not None
    assert (price.symbol, price.price) == ("AAA", D("101.5"))
    assert client.quote("ZZZ", NOW) is None
    assert client.clock(NOW) is True


def test_a_wrong_key_is_a_definite_refusal(venue: LyingVenue) -> None:
    """Nothing was made, and the reason says why."""
    settings = venue.settings()
    http = BoundedHttp(settings.model_copy(update={"api_key": SecretStr("another-key")}))

    assert HttpBroker(http).submit(an_order()).reason == "unauthorized"


def test_errors_name_neither_key_nor_address(venue: LyingVenue) -> None:
    """What is logged and shown is free of secrets."""
    venue.poison(Toxic("garbage"))
    with pytest.raises(BrokerError) as found:
        broker(venue).submit(an_order())

    assert "venue-test-key" not in repr(found.value) + repr(found.value.__cause__)


# ---- the venue itself ------------------------------------------------------------------------------------


def test_the_venues_book_tells_what_was_at_stake_in_order() -> None:
    """Two entries of 1000 $, one resting: 1000 held, 2000 at worst; the stop takes the first."""
    book = VenueBook()
    with LyingVenue([Toxic("none"), Toxic("rest")], book=book) as venue:
        client = broker(venue)
        client.submit(an_order())
        client.submit(an_order("BBB"))
        book.move("AAA", "97.5", NOW.isoformat())
        client.cancel("o-BBB", NOW)
        events = venue.book().events

    assert [(e.kind, e.symbol, e.exposure, e.worst) for e in events] == [
        ("placed", "AAA", "0", "1000"),
        ("filled", "AAA", "1000", "1000"),
        ("placed", "BBB", "1000", "2000"),
        ("exited", "AAA", "0", "1000"),
        ("cancelled", "BBB", "0", "0"),
    ]
    assert book.account()["cash"] == "99975.0"  # 10 shares lost 2.50 each


def test_a_venue_without_memory_shows_a_double_order() -> None:
    """Otherwise "no double order" would be the venue's merit, not ours."""
    with LyingVenue(book=VenueBook(remembers_ids=False)) as venue:
        client = broker(venue)
        client.submit(an_order())
        client.submit(an_order())

        assert venue.book().doubled == {"o-AAA": 2}


def test_a_closing_order_is_only_taken_against_what_is_held(venue: LyingVenue) -> None:
    """The venue refuses a closing order that would open something."""
    client = broker(venue)
    closing = replace(an_order(side=Side.SELL, reduce_only=True), client_order_id="c-AAA")

    assert client.submit(closing).reason == "reduce_only"
    client.submit(an_order())
    assert client.submit(replace(closing, client_order_id="c2-AAA")).status is OrderStatus.FILLED
    assert venue.book().positions == {}


def test_the_venue_as_a_process_is_reached_over_its_control_endpoint() -> None:
    """The chaos harness poisons it, asks for its book, and kills the fleet around it."""
    with VenueProcess() as venue:
        variables = venue.environment()
        assert variables["FLEET_VENUE__KIND"] == "http"
        venue.poison(Toxic("rest"))
        with LyingVenue() as other:
            settings = other.settings().model_copy(update={"base_url": venue.url})
        client = HttpBroker(BoundedHttp(settings))
        client.submit(an_order())
        venue.fill("o-AAA", 3)
        venue.move("AAA", "104", datetime(2014, 6, 2, 16, tzinfo=UTC).isoformat())
        venue.expire("o-AAA", CLOSE.isoformat())
        report = client.order("o-AAA")
        book = venue.book()

        assert report is not None
        assert [(f.role.value, f.quantity) for f in report.fills] == [("entry", 3), ("target", 3)]
        assert report.closed
        assert [event.kind for event in book.events] == ["placed", "filled", "exited", "expired"]
        assert venue.requests()[0] == ("POST", "/orders", "rest")
