"""The exchange's calendar as facts a trader can check by eye, over XNYS and its in-memory twin alike."""

from datetime import UTC, date, datetime

import pytest

from pipeline.errors import MarketDataError
from pipeline.models import Phase, Session
from pipeline.ports import Sessions
from tests.market_builders import FIRST, LAST, at, xnys
from workers.adapters.calendar import ExchangeSessions, SessionTable
from workers.adapters.market_memory import MemorySessions


def from_memory() -> SessionTable:
    """The sessions of March to December 2014, given one by one."""
    days = [date.fromordinal(number) for number in range(date(2014, 3, 3).toordinal(), date(2015, 1, 1).toordinal())]
    found = [session for day in days if (session := xnys().session(day)) is not None]
    return MemorySessions(found, date(2014, 3, 1), date(2014, 12, 31))


@pytest.fixture(params=["exchange", "memory"])
def sessions(request: pytest.FixtureRequest) -> Sessions:
    """Either adapter."""
    return xnys() if request.param == "exchange" else from_memory()


@pytest.mark.parametrize(
    ("day", "opened", "closed"),
    [
        ("2014-03-07", "14:30", "21:00"),  # Friday before the clocks change
        ("2014-03-10", "13:30", "20:00"),  # Monday after
        ("2014-10-31", "13:30", "20:00"),  # Friday before they change back
        ("2014-11-03", "14:30", "21:00"),  # Monday after
        ("2014-07-03", "13:30", "17:00"),  # half day before Independence Day
        ("2014-11-28", "14:30", "18:00"),  # half day after Thanksgiving
        ("2014-12-24", "14:30", "18:00"),  # Christmas Eve
        ("2014-12-26", "14:30", "21:00"),  # surprisingly a whole day
        ("2014-11-11", "14:30", "21:00"),  # Veterans Day is a session
        ("2014-10-13", "13:30", "20:00"),  # Columbus Day too
    ],
)
def test_sessions_have_the_hours_of_new_york(sessions: Sessions, day: str, opened: str, closed: str) -> None:
    """09:30 to 16:00 New York, 13:00 on half days."""
    expected = Session(date.fromisoformat(day), at(f"{day} {opened}"), at(f"{day} {closed}"))

    assert sessions.session(date.fromisoformat(day)) == expected
    assert sessions.session_of(at(f"{day} 12:00")) == expected


@pytest.mark.parametrize(
    "day",
    [
        "2014-04-18",  # Good Friday
        "2014-05-26",  # Memorial Day
        "2014-07-04",
        "2014-09-01",  # Labor Day
        "2014-11-27",  # Thanksgiving
        "2014-12-25",
        "2014-07-05",  # Saturday
        "2014-07-06",
    ],
)
def test_there_is_no_session_on_holidays_and_weekends(sessions: Sessions, day: str) -> None:
    """None, and the phase is closed at noon."""
    assert sessions.session(date.fromisoformat(day)) is None
    assert sessions.phase(at(f"{day} 16:00")) is Phase.CLOSED


@pytest.mark.parametrize(
    ("moment", "phase"),
    [
        ("2014-07-09 07:59:59", Phase.CLOSED),
        ("2014-07-09 08:00", Phase.PRE_MARKET),  # 04:00 New York
        ("2014-07-09 13:29:59.999999", Phase.PRE_MARKET),
        ("2014-07-09 13:30", Phase.REGULAR),
        ("2014-07-09 19:59:59.999999", Phase.REGULAR),
        ("2014-07-09 20:00", Phase.AFTER_HOURS),
        ("2014-07-09 23:59:59.999999", Phase.AFTER_HOURS),
        ("2014-07-10 00:00", Phase.CLOSED),  # 20:00 New York
        ("2014-07-03 16:59:59", Phase.REGULAR),
        ("2014-07-03 17:00", Phase.AFTER_HOURS),  # half day
        ("2014-12-10 08:59:59", Phase.CLOSED),
        ("2014-12-10 09:00", Phase.PRE_MARKET),  # winter
        ("2014-12-10 14:29:59", Phase.PRE_MARKET),
        ("2014-12-10 14:30", Phase.REGULAR),
    ],
)
def test_the_phases_of_a_day_change_at_the_exact_moment(sessions: Sessions, moment: str, phase: Phase) -> None:
    """Each phase contains its first moment and not its last."""
    assert sessions.phase(at(moment)) is phase


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2014-07-09 19:59:59", "2014-07-09"),
        ("2014-07-09 20:00", "2014-07-10"),  # the close belongs to the next
        ("2014-07-03 17:00", "2014-07-07"),  # over Independence Day and the weekend
        ("2014-07-05 00:00", "2014-07-07"),
    ],
)
def test_a_moment_belongs_to_the_first_session_that_closes_later(sessions: Sessions, moment: str, day: str) -> None:
    """After the close the next session has begun, as far as risk is concerned."""
    assert sessions.session_of(at(moment)).day == date.fromisoformat(day)


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2014-07-09 13:30", "2014-07-09 13:30"),  # the open itself
        ("2014-07-09 13:30:00.000001", "2014-07-10 13:30"),
        ("2014-07-03 17:00", "2014-07-07 13:30"),
        ("2014-03-07 21:00", "2014-03-10 13:30"),  # over the change of the clocks
        ("2014-10-31 20:00", "2014-11-03 14:30"),
    ],
)
def test_the_next_open_is_the_first_not_earlier(sessions: Sessions, moment: str, opens: str) -> None:
    """An open is its own next open."""
    assert sessions.next_open(at(moment)) == at(opens)


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("2014-07-09 13:30", "2014-07-09 20:00", 23_400),
        ("2014-07-09 13:00", "2014-07-09 13:31", 60),
        ("2014-07-09 20:00", "2014-07-10 13:30", 0),  # a night
        ("2014-07-03 13:30", "2014-07-07 13:31", 12_660),  # a half day of 3.5 h, a long weekend, one minute
        ("2014-07-09 16:00", "2014-07-09 16:00:00.250000", 0.25),
        ("2014-07-09 16:00", "2014-07-09 15:00", 0),  # backwards
        ("2014-03-07 14:30", "2014-03-10 20:00", 46_800),  # two whole sessions around the change of the clocks
    ],
)
def test_session_time_is_only_that_of_regular_sessions(
    sessions: Sessions, start: str, end: str, seconds: float
) -> None:
    """Nights, weekends, holidays, pre-market and after-hours are no session time."""
    assert sessions.session_seconds(at(start), at(end)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [
        ("2014-07-08 20:00", "2014-07-09 20:00", 1),  # start < close <= end
        ("2014-07-08 19:59:59", "2014-07-09 20:00", 2),
        ("2014-07-08 20:00", "2014-07-09 19:59:59", 0),
        ("2014-07-02 20:00", "2014-07-07 20:00", 2),  # Thursday's half day and Monday
        ("2014-07-09 20:00", "2014-07-08 20:00", 0),
    ],
)
def test_sessions_are_counted_by_their_closes(sessions: Sessions, start: str, end: str, count: int) -> None:
    """The first close is excluded, the last included."""
    assert sessions.sessions_between(at(start), at(end)) == count


def test_a_naive_time_is_a_mistake(sessions: Sessions) -> None:
    """A time without zone would mean the machine's."""
    with pytest.raises(ValueError, match="no time zone"):
        sessions.phase(datetime(2014, 7, 9, 16))  # noqa: DTZ001 - the point


@pytest.mark.parametrize("moment", ["2009-12-31 12:00", "2017-01-03 12:00"])
def test_a_moment_beyond_the_calendar_is_refused(sessions: Sessions, moment: str) -> None:
    """Never answered from the last session known."""
    with pytest.raises(MarketDataError, match="beyond the calendar, which knows"):
        sessions.phase(at(moment))
    with pytest.raises(MarketDataError, match="beyond the calendar"):
        sessions.session(at(moment).date())


def test_after_the_last_session_there_is_no_next_one() -> None:
    """The evening of the last day known."""
    with pytest.raises(MarketDataError, match="beyond the calendar"):
        xnys().next_open(at("2016-12-30 21:00"))
    with pytest.raises(MarketDataError, match="beyond the calendar"):
        xnys().session_of(at("2016-12-30 21:00"))


def test_before_the_first_session_nothing_has_been_traded() -> None:
    """2012 began with a holiday."""
    assert xnys().session_seconds(datetime(2012, 1, 1, 12, tzinfo=UTC), at("2012-01-03 14:31")) == 60


def test_a_calendar_without_sessions_is_refused() -> None:
    """Nothing could be answered."""
    with pytest.raises(MarketDataError, match="no session"):
        MemorySessions([])


def test_the_bounds_are_the_constructors_and_not_todays() -> None:
    """exchange_calendars' own default bounds slide with today."""
    table = ExchangeSessions(FIRST, LAST)

    assert table.session(date(2012, 1, 3)) is not None
    assert len(table.opens) == 252 + 252 + 252 + 250 + 252  # sessions of 2012 (less two for Sandy) to 2016, plus two
