"""What looks like a stock and is none, and the other ways to name one: a table for readers of markets."""

import pytest

from pipeline.models import TickerReading
from pipeline.tickers import TickerReader, TickerSettings

_SYMBOLS = (
    "AAPL ALL AMZN BA BAC BRK.B C CAT F FB GE GM GOOG GS HD IT JPM KO MS "
    "MSFT NFLX NOW NVDA PATH SHOP SNAP T TGT TSLA UPS V WMT"
)
UNIVERSE = frozenset(_SYMBOLS.split())
READER = TickerReader(UNIVERSE)


def read(text: str) -> TickerReading:
    """The reading under default settings."""
    return READER.read(text)


@pytest.mark.parametrize(
    "text",
    [
        # e-mail, web, handles
        "write to $AAPL@example.com for shares",
        "ir.AAPL@nasdaq.com answers questions on the dividend",
        "see stocktwits.com/symbol/$TSLA for the chart",
        "www.example.com/$AAPL price",
        "https://example.com/NASDAQ:AAPL is the price page",
        "@AAPL @TSLA what about the stock price",
        "follow @Apple and @Tesla for stock news",
        "#AAPL #TSLA stocks",
        # code
        "add it to your $PATH: then buy a coffee",
        "echo $AAPL prints the price",
        "export PRICE=3 in bash and use $SHOP then",
        "awk '{ print $NF }' stocks.csv",
        "${TSLA} is a template for prices",
        "<?php $AAPL = 3; // price",
        "=IF($T$4>0,$C$2,price)",
        "$AAPL->price()",
        "$AAPL = get_price(3); // shares",
        "if [ -n $SHOP ]; then sell",
        "if [[ $TSLA -gt 3 ]]; then buy",
        "PS C:\\> $MSFT = Get-Price",
        "<span>$NVDA{{price}}</span>",
        '<a href="$AAPL">price</a>',
        "$AAPL[0] price",
        "$AAPL() price",
        "$TSLA++; price",
        "x=$AAPL&y=$TSLA price",
        "SELECT * FROM $AMZN WHERE price > 3",
        # mathematics
        "$F = ma$ at any stock price",
        "$V = IR$ price",
        "we set $T \\cup V$ price",
        "$T_{n+1} = T_n$ price",
        # schemes
        "ftp://host/$AAPL stock price",
        "file:///tmp/$AAPL price",
        # currencies and crypto
        "US$50 and C$20 and HK$30 price",
        "$USD $EUR $JPY majors, euro long",
        "$BTC $ETH $DOGE $XRP to the moon, long all",
        "USD/JPY 150 calls",
        "$TSLA/USDT long",
        "$TSLA-PERP long",
        "BINANCE:BTCUSDT long",
        "paid $5K for a car, sold it for $6K",
        # spelled with other letters
        "$\u0410APL breaks out",
        "$A\u0410PL breaks out",
        "$TSL\u0391 calls",
        "\uff04\uff21\uff21\uff30\uff2c breaks out",
        "$\uff34\uff33\uff2c\uff21 calls",
        "$\u13aaAPL price",
        "$AA\u0301PL price",
        # art and slang
        "A$AP Rocky tour prices",
        "KE$HA stock photo",
        "get ri$$$ch trading",
        "$$$ making money $$$ buy",
        # capitals that are words
        "NOW is the time to buy, ALL of IT",
        "LONG ALL THE THINGS",
        "buy NOW, thank me later",
        "GM everyone, buy coffee",
        "I bought a CAT 2 weeks ago, price 50",
        "SHORT FB POSTS SELL BEST, TSLA AND AAPL FANS SAY BUY",
        "the CEO of the company sold shares, SEC filing shows",
        "US GDP up 2%, ECB and FED hold",
        "long AAPLX and short XTSLA",
        # words of companies in other lives
        "the apple harvest sold at a good price",
        "an Apple a day keeps the doctor away",
        "the Amazon burns",
        "ford the river and visa the passport, prices vary",
        "Target practice costs 20% more",
        # foreign listings and funds
        "(TSX:SHOP) and (LON:BA) shares",
        "LSE: T trades at 3%",
        "LON:AAPL shares",
        "ETR: TSLA stock",
        "$SHOP.TO up 2%",
        # options of nothing
        "AAPL241399C00150000",
        "XAAPL240119C00150000",
        "AAPL240119C00150000X",
        "the 150c 1/19 looks cheap",
    ],
)
def test_no_symbol_of_the_universe_comes_from_a_trap(text: str) -> None:
    """Mail, links, handles, code, currencies, look-alike letters, slang, words in capitals, foreign listings."""
    reading = read(text)

    assert (reading.symbols, reading.named, reading.primary in UNIVERSE) == ((), (), False)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("Apple Inc. (NASDAQ: AAPL) today announced", ("AAPL",)),
        ("(NYSE:BAC) declares", ("BAC",)),
        ("NasdaqGS:MSFT - new office", ("MSFT",)),
        ("nyse : GE completes the sale", ("GE",)),
        ("Berkshire (NYSE: BRK.B) and (NYSE: BRK/B)", ("BRK.B",)),
        ("NYSE: T and NASDAQ: $AAPL", ("AAPL", "T")),
        ("bot AAPL240119C00150000 today", ("AAPL",)),
        (".TSLA240119P200 for the win", ("TSLA",)),
        ("AAPL  240119C00150000", ("AAPL",)),
        ("AAPL 150c 1/19", ("AAPL",)),
        ("AAPL 1/19 150 calls look cheap", ("AAPL",)),
        ("grabbed TSLA Jan 250 puts", ("TSLA",)),
        ("F 12c 6/21 lotto", ("F",)),
        ("$AAPL 150c 1/19", ("AAPL",)),
        ("long AAPL into the print", ("AAPL",)),
        ("NVDA earnings tonight", ("NVDA",)),
        ("TSLA down 4% premarket", ("TSLA",)),
        ("Caterpillar (CAT) shares rise 3%", ("CAT",)),
        ("$BRK.B $BRK/B $BRK-B buy", ("BRK.B",)),
    ],
)
def test_a_listing_an_option_and_capitals_with_a_second_sign_name_a_stock(text: str, symbols: tuple[str, ...]) -> None:
    """After a US exchange, inside an option, or beside a word of the trade."""
    reading = read(text)

    assert reading.symbols == symbols
    assert reading.primary == symbols[0]


@pytest.mark.parametrize(
    ("text", "symbols", "primary"),
    [
        ("Tesla shares slide 4%", ("TSLA",), "TSLA"),
        ("Apple's dividend raised", ("AAPL",), "AAPL"),
        ("Netflix and Amazon stocks rally", ("NFLX", "AMZN"), None),
        ("Bank of America profit beats estimates", ("BAC",), "BAC"),
        ("Boeing upgraded at Goldman Sachs", ("BA",), "BA"),
        ("JPMorgan cuts Walmart to neutral", ("WMT",), "WMT"),
        ("Goldman Sachs raises its S&P price target", (), None),
        ("Tesla opens a canteen", (), None),
        ("Apple, Amazon, Netflix and Tesla shares in charts", (), None),
    ],
)
def test_companies_by_name_count_where_no_symbol_stands(
    text: str, symbols: tuple[str, ...], primary: str | None
) -> None:
    """In talk of the market, three at most; primary only alone; a broker that rates others is its speaker."""
    reading = read(text)

    assert (reading.symbols, reading.primary, reading.cashtags) == (symbols, primary, 0)


@pytest.mark.parametrize(
    ("text", "symbols", "named"),
    [
        ("$AMZN: Netflix shares soar", ("AMZN",), ("NFLX",)),
        ("$AAPL and Apple shares", ("AAPL",), ()),
        ("JPMorgan cuts $WMT to neutral", ("WMT",), ()),
        ("(NYSE:BAC) Bank of America and Tesla stock", ("BAC",), ("TSLA",)),
        ("$MSFT, Apple, Amazon, Netflix and Tesla shares", ("MSFT",), ()),
    ],
)
def test_companies_by_name_stand_apart_from_symbols(
    text: str, symbols: tuple[str, ...], named: tuple[str, ...]
) -> None:
    """Beside cashtags and listings a name makes nothing primary and is kept in `named`."""
    reading = read(text)

    assert (reading.symbols, reading.named, reading.primary) == (symbols, named, symbols[0])


def test_names_can_be_switched_off() -> None:
    """`names: false` reads cashtags alone."""
    reader = TickerReader(UNIVERSE, TickerSettings(names=False))

    assert reader.read("Tesla shares slide, NASDAQ: AAPL up, long MSFT") == TickerReading()
    assert reader.read("$TSLA shares slide").symbols == ("TSLA",)


@pytest.mark.parametrize(
    "text",
    [
        "**$AAPL** up",
        "_$AAPL_ sold",
        "__$AAPL__ sold",
        "~~$AAPL~~",
        "[$AAPL](http://x.co) up",
        "<b>$AAPL</b>",
        "&#36;AAPL &amp; co",
        "\u200b$AAPL\u200b up",
        "🚀$AAPL🚀",
        "$AAPL\ufe0f",
        "\u0645\u0631\u062d\u0628\u0627 $AAPL \u0633\u0647\u0645",
        "→$AAPL",
        "$AAPL@150",
        "$AAPL=buy",
        "$AAPL(if it holds)",
        "1)$AAPL",
        "#1 $AAPL",
    ],
)
def test_a_cashtag_in_other_dress_is_one(text: str) -> None:
    """Markdown, HTML, emoji, zero-width and right-to-left neighbours, arrows and lists change nothing."""
    assert read(text).symbols == ("AAPL",)
