"""Many symbols with one good chart: posts on them become orders, each on a symbol of its own."""

import shutil
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from pathlib import Path
from typing import Final

import config

DEMO: Final = Path(config.__file__).parent / "demo"
CHART: Final = "GRPL"
#: A minute at which the chart says yes to a long.
AT: Final = datetime(2025, 9, 17, 13, 53, 20, tzinfo=UTC)
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def symbols(count: int) -> list[str]:
    """AAAA, AAAB, ..."""
    return ["".join(letters) for letters in islice(product(LETTERS, repeat=4), count)]


def many_symbols(folder: Path, count: int) -> dict[str, str]:
    """Bars for so many symbols, and limits that let all of them be bought; the fleet's variables for both."""
    for kind in ("bars", "daily"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for symbol in symbols(count):
            shutil.copy(DEMO / kind / f"{CHART}.csv", folder / kind / f"{symbol}.csv")
    shutil.copy(DEMO / "bars" / "ODX.csv", folder / "bars")
    return {
        "FLEET_MARKET__BARS_DIR": str(folder / "bars"),
        "FLEET_MARKET__DAILY_BARS_DIR": str(folder / "daily"),
        "FLEET_RISK__MAX_OPEN_POSITIONS": "1000",
        "FLEET_RISK__MAX_PER_MINUTE": "1000",
        "FLEET_RISK__MAX_GROSS_EXPOSURE": "4",
        "FLEET_RISK__MAX_ORDER_USD": "300",
    }


def bullish(number: int, symbol: str) -> str:
    """Words that are urgent, and no repost of any others."""
    return (
        f"${symbol} upgraded to buy at {_word(number).title()} Brothers, price target raised on record "
        f"{_word(7 * number + 3)} demand, strong growth and earnings beat"
    )


def bearish(number: int, symbol: str) -> str:
    """The same the other way."""
    return (
        f"${symbol} downgraded to sell at {_word(number).title()} Brothers, price target slashed on collapsing "
        f"{_word(7 * number + 3)} demand, heavy losses and earnings miss"
    )


def chatter(number: int, symbol: str) -> str:
    """Words that are a vote at most."""
    words = f"{_word(number)} and the {_word(3 * number)} meeting"
    return f"${symbol} what do people say about {words} today, waiting for news"


def moment(number: int, rate: int) -> datetime:
    """When the post is written, so many a second."""
    return AT + timedelta(seconds=number / rate)


def _word(number: int) -> str:
    letters = []
    for _ in range(4):
        number, letter = divmod(number, 26)
        letters.append(LETTERS[letter].lower())
    return "".join(letters)
