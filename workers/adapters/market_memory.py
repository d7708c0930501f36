"""In-memory twins of the market's ports, for tests and for users who bring their own data."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from pipeline.errors import MarketDataError
from pipeline.models import Bars, Vote
from workers.adapters.calendar import SessionTable
from workers.adapters.series import SeriesMarketData


class MemorySessions(SessionTable):
    """`Sessions` over a given list of sessions."""


class MemoryMarketData(SeriesMarketData):
    """`MarketData` and `BarHistory` over given series. Without `daily` the series are gathered by session.

    `halted`: symbol -> whether it is halted; a symbol it does not name is unknown.
    """

    def __init__(
        self,
        series: Mapping[str, Bars],
        *,
        sessions: SessionTable,
        daily: Mapping[str, Bars] | None = None,
        halted: Mapping[str, bool] | None = None,
    ) -> None:
        super().__init__(sessions)
        self._given = series
        self._given_daily = daily
        self._halted = halted or {}

    def load(self, symbol: str) -> Bars:
        """The given series."""
        return _of(self._given, symbol)

    def load_daily(self, symbol: str) -> Bars:
        """The given daily series, else the given series as daily bars."""
        return super().load_daily(symbol) if self._given_daily is None else _of(self._given_daily, symbol)

    def universe(self) -> tuple[str, ...]:
        """The symbols that have a series, sorted."""
        return tuple(sorted(self._given))

    def halted(self, symbol: str, as_of: datetime) -> bool | None:
        """Whether the symbol is halted; None where nothing was given."""
        return self._halted.get(symbol, super().halted(symbol, as_of))


class MemoryConditions:
    """`MarketConditions` with one answer for every moment; what is not given is not configured."""

    def __init__(
        self, *, vix: Decimal | None = None, index: Bars | None = None, relative_volume: float | None = None
    ) -> None:
        self._vix = vix
        self._index = index
        self._relative_volume = relative_volume

    def vix(self, as_of: datetime) -> Decimal | None:  # noqa: ARG002 - one answer for every moment
        """The given VIX."""
        return self._vix

    def index_bars(self, as_of: datetime, count: int) -> Bars | None:
        """The given bars that are complete at `as_of`."""
        if self._index is None:
            return None
        known = int((self._index.end <= as_of.timestamp()).sum())
        return self._index.part(known - count, known)

    def relative_index_volume(self, as_of: datetime) -> float | None:  # noqa: ARG002 - one answer for every moment
        """The given ratio."""
        return self._relative_volume


class MemoryVoteHistory:
    """`VoteHistory` in a dict."""

    def __init__(self) -> None:
        self._votes: dict[str, dict[str, Vote]] = {}
        self._used: dict[str, set[str]] = {}

    def add(self, symbol: str, vote: Vote) -> None:
        """Remember a vote; the same id replaces."""
        self._votes.setdefault(symbol, {})[vote.id] = vote

    def votes(self, symbol: str, since: datetime, until: datetime) -> tuple[Vote, ...]:
        """Votes with `since < at <= until`, oldest first, then by id."""
        found = [vote for vote in self._votes.get(symbol, {}).values() if since < vote.at <= until]
        return tuple(sorted(found, key=lambda vote: (vote.at, vote.id)))

    def used(self, symbol: str, ids: Sequence[str]) -> frozenset[str]:
        """Those of the ids that were used."""
        return frozenset(ids) & self._used.get(symbol, set())

    def use(self, symbol: str, ids: Sequence[str], decided_at: datetime) -> None:  # noqa: ARG002 - never pruned here
        """Mark votes as used. Idempotent."""
        self._used.setdefault(symbol, set()).update(ids)


def _of(series: Mapping[str, Bars], symbol: str) -> Bars:
    if symbol not in series:
        raise MarketDataError(f"{symbol}: no bars; known are {', '.join(sorted(series)) or 'none'}")
    return series[symbol]
