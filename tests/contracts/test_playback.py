"""A recorded day played over and over: the same market and the same posts for whoever asks, at any moment."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest

from pipeline.errors import MarketDataError, SettingsError
from pipeline.models import Phase
from workers.adapters.bars_csv import CsvMarketData
from workers.adapters.calendar import AlwaysOpen, ExchangeSessions
from workers.adapters.lines import Mark
from workers.adapters.playback import Playback, PlayedMarketData
from workers.adapters.source_played import PlayedSource

DEMO = Path(__file__).parents[2] / "config" / "demo"
FIRST = datetime(2025, 9, 17, 13, 30, tzinfo=UTC)
PLAYBACK = Playback(FIRST, 2340, 10)
ROUND = 700_000
BEGIN = datetime.fromtimestamp(ROUND * 2340, UTC)


@pytest.fixture(scope="module")
def sessions() -> AlwaysOpen:
    """An exchange that never closes."""
    return AlwaysOpen()


@pytest.fixture(scope="module")
def recording() -> CsvMarketData:
    """The demo's bars."""
    return CsvMarketData(DEMO / "bars", sessions=ExchangeSessions(), daily_folder=DEMO / "daily")


@pytest.fixture
def market(recording: CsvMarketData, sessions: AlwaysOpen) -> PlayedMarketData:
    """The demo's day, over and over."""
    return PlayedMarketData(recording, PLAYBACK, sessions)


def after(seconds: float) -> datetime:
    """A moment of the round, so many seconds after its beginning."""
    return BEGIN + timedelta(seconds=seconds)


# ---- time --------------------------------------------------------------------------------------------------


def test_a_round_plays_ten_seconds_a_second() -> None:
    """60 s into the round are ten minutes of the recording: 13:40. A round later it is 13:40 again."""
    assert PLAYBACK.round_of(after(60)) == ROUND
    assert PLAYBACK.recorded(after(60)) == FIRST + timedelta(minutes=10)
    assert PLAYBACK.played(ROUND, FIRST + timedelta(minutes=10)) == after(60)
    assert PLAYBACK.recorded(after(60 + 2340)) == FIRST + timedelta(minutes=10)
    assert PLAYBACK.round_of(after(2340)) == ROUND + 1
    assert PLAYBACK.last == datetime(2025, 9, 17, 20, tzinfo=UTC)


def test_an_exchange_that_never_closes_has_a_session_a_day(sessions: AlwaysOpen) -> None:
    """From midnight to midnight UTC, also on a Sunday night; midnight itself belongs to the new day."""
    sunday = datetime(2026, 11, 29, 3, 15, tzinfo=UTC)
    midnight = datetime(2026, 11, 30, tzinfo=UTC)

    assert sessions.phase(sunday) is Phase.REGULAR
    assert sessions.session_of(sunday).day == sunday.date()
    assert sessions.session_of(sunday).close == midnight
    assert sessions.session_of(midnight).day == midnight.date()
    assert sessions.next_open(sunday) == midnight
    assert sessions.session_seconds(sunday, sunday + timedelta(days=2)) == 2 * 86_400
    assert sessions.sessions_between(sunday, sunday + timedelta(days=2)) == 2
    with pytest.raises(MarketDataError, match="beyond the calendar"):
        sessions.phase(datetime(2036, 2, 1, tzinfo=UTC))


# ---- bars --------------------------------------------------------------------------------------------------


def test_bars_of_a_minute_are_bars_of_six_seconds(market: PlayedMarketData, recording: CsvMarketData) -> None:
    """At 62 s of a round ten are complete; before them come the last ones of the round before."""
    found = market.bars("GRPL", after(62), 12)
    recorded = recording.bars("GRPL", FIRST + timedelta(minutes=10), 10)
    last = recording.bars("GRPL", PLAYBACK.last, 2)

    assert found.interval == timedelta(seconds=6)
    assert found.end[-1] == after(60).timestamp()
    assert np.array_equal(np.diff(found.end), [6] * 11)
    assert np.array_equal(found.close, [*last.close, *recorded.close])


def test_no_bar_is_known_before_it_ends(market: PlayedMarketData) -> None:
    """One microsecond before, the quote is the last bar's."""
    early = market.quote("GRPL", after(60) - timedelta(microseconds=1))
    there = market.quote("GRPL", after(60))

    assert early is not None
    assert there is not None
    assert (early.at, there.at) == (after(54), after(60))


def test_every_bar_between_two_moments_comes_once_across_rounds(market: PlayedMarketData) -> None:
    """The venue lives through them in steps: no step may lose or repeat one."""
    marks = [after(seconds) for seconds in (-30, -6, 0, 3, 6, 2334, 2340, 2346, 9000)]
    steps = [end for start, stop in pairwise(marks) for end in market.bars_between("GRPL", start, stop).end]
    whole = market.bars_between("GRPL", marks[0], marks[-1]).end

    assert steps == list(whole)
    assert len(set(steps)) == len(steps) == (9000 + 30) // 6


def test_a_venue_that_slept_for_a_month_is_given_an_end(market: PlayedMarketData) -> None:
    """500 rounds, thirteen days: longer than any position is held."""
    assert len(market.bars_between("GRPL", after(-30 * 86_400), after(0))) == 500 * 390


def test_daily_bars_are_those_before_the_recorded_day(market: PlayedMarketData, recording: CsvMarketData) -> None:
    """The recorded day itself is not over: its range would be the future. The last is yesterday's."""
    found = market.daily_bars("GRPL", after(60), 20)
    recorded = recording.daily_bars("GRPL", FIRST, 20)
    midnight = after(60).replace(hour=0, minute=0, second=0, microsecond=0)

    assert np.array_equal(found.close, recorded.close)
    assert found.end[-1] == midnight.timestamp()
    assert np.array_equal(np.diff(found.end), [86_400] * 19)


def test_bars_that_give_no_whole_seconds_are_refused(recording: CsvMarketData, sessions: AlwaysOpen) -> None:
    """A minute at 7 times the speed."""
    odd = PlayedMarketData(recording, Playback(FIRST, 2340, 7), sessions)

    with pytest.raises(MarketDataError, match=r"playback\.speed 7 are no whole seconds"):
        odd.bars("GRPL", after(60), 10)


# ---- posts -------------------------------------------------------------------------------------------------


class Clock:
    """The collector's clock."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def played(at: datetime, mark: Mark | None = None) -> tuple[PlayedSource, Clock]:
    """The demo's posts, with the clock at `at`."""
    clock = Clock(at)
    source = PlayedSource(DEMO / "posts.jsonl", PLAYBACK, clock)
    source.connect(mark)
    return source, clock


def a_round(source: PlayedSource, clock: Clock) -> list[dict[str, object]]:
    """What is read in the seconds of one round, each post in the second it was due."""
    found = []
    for _ in range(2340):
        before, clock.at = clock.at, clock.at + timedelta(seconds=1)
        for post in map(orjson.loads, (raw.line for raw in source.read(200))):
            assert before < datetime.fromisoformat(post["created_at"]) <= clock.at
            found.append(post)
    return found


def test_a_post_is_due_when_its_moment_is_played() -> None:
    """Never before, and at most a second late when asked every second; its id is its round's."""
    source, clock = played(after(-1))
    source.read(10_000)  # what was due in the last round
    posts = a_round(source, clock)

    assert len(posts) > 250
    assert len({post["id"] for post in posts}) == len(posts)
    assert all(str(post["id"]).startswith(f"{ROUND}-") for post in posts)
    assert {"received_at"} & set().union(*posts) == set()


def test_every_round_has_the_same_posts_under_other_ids() -> None:
    """Nothing of the second round was accepted before."""
    source, clock = played(after(-1))
    source.read(10_000)
    first, second = a_round(source, clock), a_round(source, clock)

    assert [post["text"] for post in first] == [post["text"] for post in second]
    assert {post["id"] for post in first} & {post["id"] for post in second} == set()


def test_a_collector_that_died_goes_on_after_its_mark() -> None:
    """What was handed over is not read again, what was due in the seconds between is."""
    source, clock = played(BEGIN)
    for _ in range(60):
        clock.at += timedelta(seconds=5)
        if posts := source.read(200):
            break
    rest, later = played(clock.at + timedelta(seconds=10), posts[-1].mark)
    whole, _ = played(later.at, posts[0].mark)

    assert [post.line for post in rest.read(500)] == [post.line for post in whole.read(500)][len(posts) - 1 :]


def test_posts_of_long_ago_are_left_out() -> None:
    """After a night without a collector they would all end as expired."""
    source, _ = played(BEGIN + timedelta(days=1), Mark(f"round-{ROUND}", 3))
    lines = [orjson.loads(post.line) for post in source.read(10_000)]

    oldest = BEGIN + timedelta(days=1) - timedelta(seconds=15)
    assert all(datetime.fromisoformat(line["created_at"]) > oldest for line in lines)


def test_a_recording_without_a_post_to_play_is_refused(tmp_path: Path) -> None:
    """A wrong window would be a fleet that waits for ever."""
    (tmp_path / "posts.jsonl").write_text('{"id": "1", "created_at": "2020-01-01T00:00:00Z", "source": "x"}\n')

    with pytest.raises(SettingsError, match=r"has no post from playback\.first"):
        PlayedSource(tmp_path / "posts.jsonl", PLAYBACK, Clock(BEGIN)).connect()
