"""Which stocks a post names: the rules of section 1 as tables, near-misses beside hits."""

import pytest

from pipeline.errors import InvalidInputError
from pipeline.models import TickerReading
from pipeline.tickers import TickerReader, TickerSettings, canonical, file_name

UNIVERSE = frozenset({"AAPL", "BRK.A", "C", "CAT", "D", "F", "FB", "GE", "GOOG", "JPM", "MSFT", "T", "TSLA", "V", "VZ"})


def read(text: str, universe: frozenset[str] = UNIVERSE) -> TickerReading:
    """The reading under default settings."""
    return TickerReader(universe).read(text)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("$AAPL beats", ("AAPL",)),
        ("long ($AAPL), short $MSFT.", ("AAPL", "MSFT")),
        ("$AAPL's chart", ("AAPL",)),
        ("$AAPL... we will see", ("AAPL",)),
        ("🚀$AAPL🚀", ("AAPL",)),
        ("❤️$AAPL", ("AAPL",)),
        ("1️⃣$AAPL 2️⃣$MSFT", ("AAPL", "MSFT")),
        ("#$AAPL up", ("AAPL",)),
        ("S&amp;P &amp;$AAPL", ("AAPL",)),
        ("$MSFT and again $AAPL, $MSFT", ("MSFT", "AAPL")),
        ("RT @a: $AAPL rips", ("AAPL",)),
        ("$AAPL.Great day", ("AAPL",)),
        ("at the same multiple $AAPL=$1,245 a share", ("AAPL",)),
        ("how long can he be short $CAT = $120??", ("CAT",)),
    ],
)
def test_a_dollar_and_one_to_five_capitals_is_a_symbol(text: str, symbols: tuple[str, ...]) -> None:
    """`$` + 1-5 capitals, no repeats, in order of appearance."""
    assert read(text).symbols == symbols


@pytest.mark.parametrize(
    "text",
    [
        "BREAKFA$T W/ friends",
        "HIGHWAY HEI$T",
        "TWI$T",
        "A$AP Rocky",
        "U$D 25.000",
        "$TÄ$P",
        "TÄ$CAT",
        "é$AAPL",
        "$AAPLé",
        "$AAPL\u0308 decomposed",
        "$$R$$I$$C$$O",
        "$AAPLs",
        "$AAPL2",
        "$AAPL_x",
        "x_$AAPL",
        "9$AAPL",
        "$AAPL€",
        "€$AAPL",
        "株$AAPL",
        "$AAPL株",
        "$AAPL$",
        "$TOOLONG",
        "$1,000",
        "$",
        "$$$",
        "$../x",
        "../x",
        "$AaPL",
        "http://x.co/$AAPL",
        "@user$AAPL",
        "COUNTIF($C$2:$C$9)",
        "$PCG.PRA",
        "$V.TLT",
    ],
)
def test_what_is_glued_to_a_letter_digit_or_dollar_is_no_symbol(text: str) -> None:
    """Boundaries know every alphabet; links and hostile names are no cashtags."""
    reading = read(text)

    assert reading == TickerReading()


@pytest.mark.parametrize(
    ("text", "symbols", "why"),
    [
        ("$C 49.67 new long", ("C",), "a price, and the post starts with it"),
        ("Citigroup fails the test $C", ("C",), "the company's name"),
        ("AT&amp;T and DirecTV $T", ("T",), "the name behind an HTML entity"),
        ("who else is in $T, $VZ?", ("T", "VZ"), "another cashtag of the universe"),
        ("look at $C and $NFLX", ("C",), "another cashtag of three letters"),
        ("earnings of $T tonight", ("T",), "a market word"),
        ("what a day ($V) +2%", ("V",), "a percentage"),
        ("$GE's plan for shares", ("GE",), "a possessive"),
        ("RT @x: $F recalls trucks", ("F",), "the repeated post starts with it"),
        ("I am $C", (), "no second sign"),
        ("we are $T forever", (), "no second sign"),
        ("oh wow is it $C $O $ZZ time already?", (), "short cashtags outside the universe prove nothing"),
        ("$C 200M", (), "an amount of Canadian dollars"),
        ("priced its placement $C 350M FRN, yield 2%", (), "an amount in spite of the market word"),
        ("reopening $C 2B of shares", (), "same, billions"),
        ("$C 52Wk High", ("C",), "52Wk is no amount"),
        ("$V$ vector space price", (), "a formula"),
        ("=COUNTIF($C) price", ("C",), "plain parentheses and a market word: nothing to tell them apart"),
        ("#$C stock", (), "# is not plain"),
        ("$C~chart price", (), "~ is not plain"),
        ("$T-Mobile shares", (), "joined to a word"),
        ("A-$T shares", (), "joined to a word"),
        ("the JU$T $T album shares", (), "leet spelling around it"),
        ("the JU$T $T album $MSFT", ("T", "MSFT"), "leet, but with a long cashtag of the universe"),
        ("$C.O.D$ new track, buy it", (), "letters with dots"),
        ("stocks: $AAPL $C…", ("AAPL",), "cut by an ellipsis: may have been $CAT"),
        ("stocks: $AAPL $C..", ("AAPL",), "same"),
    ],
)
def test_a_short_symbol_needs_plain_surroundings_and_a_second_sign(
    text: str, symbols: tuple[str, ...], why: str
) -> None:
    """One- and two-letter symbols: white space or plain punctuation around, and one more sign."""
    assert read(text).symbols == symbols, why


def test_the_length_called_short_is_a_setting() -> None:
    """With `short_letters` 0 a bare $C is enough; with 3 a bare $CAT is not."""
    lenient, strict = TickerSettings(short_letters=0), TickerSettings(short_letters=3)

    assert TickerReader(UNIVERSE, lenient).read("I am $C").symbols == ("C",)
    assert TickerReader(UNIVERSE, strict).read("I am $CAT").symbols == ()


@pytest.mark.parametrize(
    ("text", "symbols"),
    [("$aapl up", ("AAPL",)), ("$cat", ("CAT",)), ("$fb price", ()), ("$my money", ()), ("$nflx", ()), ("$Aapl", ())],
)
def test_lower_case_counts_in_the_universe_from_three_letters(text: str, symbols: tuple[str, ...]) -> None:
    """`$aapl` is a symbol, `$fb` (short), `$nflx` (outside) and `$Aapl` (mixed) are not."""
    reading = read(text)

    assert (reading.symbols, reading.outside) == (symbols, ())


@pytest.mark.parametrize("tag", ["BRK", "BRK.A", "BRK.B", "BRK/B", "BRK-B", "BRKB", "BRK.A.", "brk"])
def test_spellings_of_one_company_become_the_listing_in_the_universe(tag: str) -> None:
    """BRK in every spelling is BRK.A where only BRK.A is tradable."""
    assert read(f"buy ${tag} now").symbols == ("BRK.A",)


@pytest.mark.parametrize(
    ("tag", "universe", "symbols", "outside"),
    [
        ("BRK", frozenset({"BRK.A", "BRK.B"}), ("BRK.B",), ()),
        ("BRK.A", frozenset({"BRK.A", "BRK.B"}), ("BRK.A",), ()),
        ("BRK.B", frozenset({"AAPL"}), (), ("BRK.B",)),
        ("GOOGL", frozenset({"GOOG"}), ("GOOG",), ()),
        ("GOOG", frozenset({"GOOGL"}), ("GOOGL",), ()),
        ("GOOGL", frozenset({"GOOG", "GOOGL"}), ("GOOGL",), ()),
        ("JPM.N", frozenset({"JPM"}), ("JPM",), ()),
        ("MSFT.OQ", frozenset({"MSFT"}), ("MSFT",), ()),
        ("JPM.L", frozenset({"JPM"}), (), ("JPM.L",)),
        ("GOOG.TO", frozenset({"GOOG"}), (), ("GOOG.TO",)),
    ],
)
def test_aliases_and_exchange_suffixes(
    tag: str, universe: frozenset[str], symbols: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    """US exchange suffixes name the same listing, foreign ones another; aliases go to what is tradable."""
    reading = read(f"buy ${tag} now", universe)

    assert (reading.symbols, reading.outside) == (symbols, outside)


def test_currencies_are_dropped_unless_tradable() -> None:
    """$BTC is neither in nor outside the universe and never primary, but it is counted."""
    reading = read("$BTC $EUR then $AAPL")

    assert reading == TickerReading(symbols=("AAPL",), primary="AAPL", cashtags=3)
    assert read("$BTC then $AAPL", frozenset({"BTC"})).primary == "BTC"


def test_the_primary_is_the_first_cashtag_in_or_out_of_the_universe() -> None:
    """A post about NFLX that mentions AAPL has NFLX as its primary."""
    reading = read("$NFLX takes on $AAPL and $NFLX again")

    assert reading == TickerReading(symbols=("AAPL",), outside=("NFLX",), primary="NFLX", cashtags=3)


def test_a_symbol_cut_off_at_the_end_of_a_repeated_post_is_none() -> None:
    """`RT ... $MSF…` may be anything; in the middle of a post the ellipsis is the author's own."""
    assert read("RT @x: buy $AAPL $MSFT…").symbols == ("AAPL",)
    assert read("$MSFT… I wonder").symbols == ("MSFT",)


def test_ten_thousand_cashtags_take_bounded_time_and_space() -> None:
    """All are counted, also sixteen times over, and 50 symbols are kept."""
    letters = "ABCDEFGHIJ"
    text = " ".join(f"${a}{b}{c}{d}" for a in letters for b in letters for c in letters for d in letters)
    reading = read(" ".join([text] * 16))

    assert (reading.cashtags, len(reading.outside)) == (160_000, 50)


@pytest.mark.parametrize(
    ("symbol", "name"), [("BRK-B", "BRK.B"), ("brk/b", "BRK.B"), (" aapl ", "AAPL"), ("T", "T"), ("ABC.DE", "ABC.DE")]
)
def test_the_canonical_spelling_has_a_dot(symbol: str, name: str) -> None:
    """File names, slashes and lower case become the dot form."""
    assert canonical(symbol) == name


@pytest.mark.parametrize(
    "symbol", ["", "../x", "$$$", "TOOLONG", "A.BCD", "A..B", "ÄÖ", "A B", ".A", "A.", "A1", "A\n.B"]
)
def test_a_hostile_symbol_is_refused_by_name(symbol: str) -> None:
    """The message shows the value and the valid form; the reason is `bad_symbol`."""
    with pytest.raises(InvalidInputError, match="1 to 5 letters") as refusal:
        canonical(symbol)

    assert refusal.value.reason == "bad_symbol"


def test_the_file_name_of_a_symbol_has_a_hyphen() -> None:
    """BRK.B's bars are in BRK-B.csv; nothing but a symbol becomes a file name."""
    assert file_name("BRK.B") == "BRK-B"
    with pytest.raises(InvalidInputError):
        file_name("../../etc/passwd")


def test_a_universe_with_a_bad_symbol_is_refused() -> None:
    """The reader does not start on a list it cannot spell."""
    with pytest.raises(InvalidInputError):
        TickerReader(frozenset({"AAPL", "../x"}))
