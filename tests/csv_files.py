"""Writes bars as the CSV files users bring."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.models import Bars
from workers.adapters.bars_csv import file_name


def write_bars(folder: Path, bars: Bars) -> Path:
    """One symbol's file, daily or shorter by the bars' interval."""
    folder.mkdir(parents=True, exist_ok=True)
    daily = bars.interval >= timedelta(days=1)
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    rows = [
        ",".join([_time(int(start), daily=daily), *(repr(float(column[row])) for column in columns)])
        for row, start in enumerate(bars.start)
    ]
    path = folder / file_name(bars.symbol)
    path.write_text("\n".join([f"{'date' if daily else 'timestamp'},open,high,low,close,volume", *rows, ""]))
    return path


def _time(start: int, *, daily: bool) -> str:
    at = datetime.fromtimestamp(start, tz=UTC)
    return at.date().isoformat() if daily else at.isoformat()
