"""The bound of a call, with its true default of 8 s, on a clock that only moves when somebody waits."""

from dataclasses import dataclass, field

import httpx
import pytest
from pydantic import SecretStr

from config.venue import VenueSettings
from pipeline.errors import BrokerError, TransientError
from tests.money import NOW, an_order
from workers.adapters.broker_http import HttpBroker
from workers.adapters.http_bounded import BoundedHttp


@dataclass
class FakeClock:
    """Seconds that pass by sleeping and by waiting for the venue; `jitter` is what the die shows."""

    now: float = 100.0
    jitter: float = 1.0
    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@dataclass
class FakeVenue(httpx.BaseTransport):
    """Answers `status` after `seconds`, or never; keeps the waits that httpx was told."""

    clock: FakeClock
    seconds: float = 0.0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    waits: list[dict[str, float]] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        limits: dict[str, float] = request.extensions["timeout"]
        self.waits.append(limits)
        if self.status is None or self.seconds > limits["read"]:
            self.clock.now += limits["read"]
            raise httpx.ReadTimeout("", request=request)
        self.clock.now += self.seconds
        return httpx.Response(self.status, headers=self.headers, stream=httpx.ByteStream(b"{}"), request=request)


def broker(venue: FakeVenue) -> HttpBroker:
    """A client with the default settings."""
    settings = VenueSettings(kind="http", base_url="https://venue.example", api_key=SecretStr("marked-key"))
    clock = venue.clock
    http = BoundedHttp(
        settings, monotonic=clock.monotonic, sleep=clock.sleep, jitter=lambda: clock.jitter, transport=venue
    )
    return HttpBroker(http)


def test_a_question_to_a_silent_venue_ends_after_8_s() -> None:
    """5 s for the first try, a pause of 0.1 s, 2.9 s for the second: 8 s, and no third."""
    venue = FakeVenue(FakeClock())
    with pytest.raises(BrokerError):
        broker(venue).order("o-1")

    assert venue.clock.now - 100 == pytest.approx(8.0)
    assert [round(wait["read"], 6) for wait in venue.waits] == [5.0, 2.9]
    assert [wait["connect"] for wait in venue.waits] == [2.0, 2.0]


def test_an_order_to_a_silent_venue_is_sent_once_and_ends_after_5_s() -> None:
    """The read time-out ends it; there is no second try that could use the rest."""
    venue = FakeVenue(FakeClock())
    with pytest.raises(BrokerError):
        broker(venue).submit(an_order())

    assert venue.clock.now - 100 == pytest.approx(5.0)
    assert len(venue.waits) == 1


def test_pauses_double_below_the_die() -> None:
    """0.1 s and 0.2 s at most: at half they are 0.05 s and 0.1 s."""
    venue = FakeVenue(FakeClock(jitter=0.5), status=503)
    with pytest.raises(BrokerError, match="503"):
        broker(venue).positions()

    assert venue.clock.pauses == [0.05, 0.1]


def test_a_wait_that_just_fits_is_waited_for_and_one_that_does_not_is_told_at_once() -> None:
    """7 s of 8 fit; 8 s do not leave time to ask."""
    venue = FakeVenue(FakeClock(), status=429, headers={"Retry-After": "7"})
    with pytest.raises(TransientError, match="wait 7"):
        broker(venue).account()
    assert venue.clock.pauses == [7.0]

    venue = FakeVenue(FakeClock(), status=429, headers={"Retry-After": "8"})
    with pytest.raises(TransientError, match="wait 8"):
        broker(venue).account()
    assert venue.clock.pauses == []


def test_a_wait_may_be_told_as_a_date() -> None:
    """RFC 9110: beside the answer's own date, so that no clock of ours counts."""
    dates = {"Date": "Mon, 02 Jun 2014 15:00:00 GMT", "Retry-After": "Mon, 02 Jun 2014 15:00:30 GMT"}
    venue = FakeVenue(FakeClock(), status=429, headers=dates)
    with pytest.raises(TransientError, match="wait 30"):
        broker(venue).clock(NOW)


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e3", "٣", "99999999"])
def test_a_wait_that_cannot_be_read_is_a_short_pause(text: str) -> None:
    """Whatever the venue writes there, the call stays within its bound."""
    venue = FakeVenue(FakeClock(), status=429, headers={"Retry-After": text} if text.isascii() else {})
    with pytest.raises(TransientError):
        broker(venue).account()

    assert venue.clock.pauses == [0.1, 0.2]


def test_an_order_after_429_is_not_sent_again() -> None:
    """Even when the wait would fit."""
    venue = FakeVenue(FakeClock(), status=429, headers={"Retry-After": "1"})
    with pytest.raises(TransientError, match="nothing is sent again"):
        broker(venue).submit(an_order())

    assert len(venue.waits) == 1


@pytest.mark.parametrize("status", [100, 204, 301, 307, 408, 409, 425, 500, 502, 503, 504, 599])
def test_a_status_that_does_not_say_what_happened_is_an_open_fate(status: int) -> None:
    """Only 2xx with a report and a clear 4xx with a code are definite."""
    venue = FakeVenue(FakeClock(), status=status)
    with pytest.raises(BrokerError):
        broker(venue).submit(an_order())

    assert len(venue.waits) == 1
