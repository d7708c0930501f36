"""Each rule of a reservation alone: what it sees, what it allows, and whose numbers it reads, in both books."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipeline.models import Position, Refusal, Reservation, Side
from pipeline.ports import Statement
from tests.contracts.conftest import Vault
from tests.money import NOW, SESSION, D, WeekdaySessions, a_fill, a_request, a_signal, at

TUESDAY = WeekdaySessions().session_of(at("15:00", 3))
WIDE: dict[str, Any] = {
    "max_session_loss": D(10_000),
    "max_week_loss": D(10_000),
    "max_open_positions": 100,
    "same_side_window_s": 1,
    "max_per_symbol_per_minute": 100,
    "max_per_minute": 100,
    "max_entries_per_hour_after_loss": 100,
}


def words(answer: Reservation | Refusal) -> tuple[str, str, str] | None:
    """Rule, observed value and limit; None for a reservation."""
    return (answer.rule, answer.observed, answer.limit) if isinstance(answer, Refusal) else None


def lose(vault: Vault, dollars: int = 100) -> None:
    """A round trip of ten shares two hours ago that lost this much on Monday."""
    for side, price in ((Side.BUY, D(100)), (Side.SELL, D(100) - D(dollars) / 10)):
        fill = a_fill(side, symbol="LOS", fill_id=f"LOS-{side}", at=NOW - timedelta(hours=2))
        vault.ledger.apply("d-los", replace(fill, price=price), SESSION)


def ask(vault: Vault, **facts: Any) -> tuple[str, str, str] | None:
    """What a request with these limits, and all others wide, is told."""
    return words(vault.ledger.reserve(a_request(**(WIDE | facts))))


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"max_session_loss": D(90)}, ("session_loss", "100.00 USD", "90.00 USD")),
        ({"max_week_loss": D(80)}, ("week_loss", "100.00 USD", "80.00 USD")),
        ({"max_open_positions": 1}, ("open_positions", "2", "1")),
        ({"max_gross_exposure": D(70)}, ("gross_exposure", "2000.00 USD", "70.00 USD")),
        ({"same_side_window_s": 60}, ("same_side_window", "3", "1")),
        ({"max_per_symbol_per_minute": 2}, ("symbol_rate", "3", "2")),
        ({"max_per_minute": 2}, ("fleet_rate", "3", "2")),
        ({"max_entries_per_hour_after_loss": 2}, ("entries_after_loss", "3", "2")),
        ({"expected_position": 5}, ("position_changed", "0", "5")),
    ],
)
def test_each_rule_alone_says_what_it_saw_and_what_it_allows(
    vault: Vault, limit: dict[str, Any], told: tuple[str, str, str]
) -> None:
    """100 lost on Monday; BBB has 1,000 reserved; AAA was bought 30 and 20 seconds ago, and is asked for again."""
    lose(vault)
    vault.ledger.reserve(a_request("BBB", as_of=NOW - timedelta(hours=3), **WIDE))
    for age in (30, 20):
        vault.ledger.reserve(a_request(decision_id=f"e{age}", as_of=NOW - timedelta(seconds=age), **WIDE))
        vault.ledger.release(f"e{age}")

    assert ask(vault, **limit) == told


def test_a_loss_of_monday_does_not_lock_tuesday_but_counts_for_its_week(vault: Vault) -> None:
    """Session and week have books of their own."""
    lose(vault)
    tuesday: dict[str, Any] = {"as_of": at("15:00", 3), "session": TUESDAY.day, "week": TUESDAY.week}

    assert ask(vault, **tuesday, max_week_loss=D(100)) == ("week_loss", "100.00 USD", "100.00 USD")
    assert ask(vault, **tuesday, max_session_loss=D(1)) is None


@pytest.mark.parametrize("rule", ["session_loss", "week_loss"])
def test_a_millionth_of_a_dollar_short_of_the_limit_passes(vault: Vault, rule: str) -> None:
    """The limit itself refuses: 100 lost of 100, but not of 100.000001."""
    lose(vault)

    assert ask(vault, **{f"max_{rule}": D(100)}) == (rule, "100.00 USD", "100.00 USD")
    assert ask(vault, **{f"max_{rule}": D("100.000001")}) is None


@pytest.mark.parametrize("rule", ["session_loss", "week_loss"])
def test_a_limit_of_nothing_is_reached_by_an_account_that_never_traded(vault: Vault, rule: str) -> None:
    """Nobody opened the session yet: nothing is lost, and nothing may be."""
    assert ask(vault, **{f"max_{rule}": D(0)}) == (rule, "0.00 USD", "0.00 USD")


def test_a_forgiven_week_is_counted_from_there(vault: Vault) -> None:
    """100 lost refuse at 100; a person resumed; 3 lost since then refuse at 3 and not at 3.01."""
    lose(vault)
    vault.ledger.forgive_week(SESSION)
    assert ask(vault, decision_id="first", max_week_loss=D("0.01")) is None
    vault.ledger.release("first", unused=True)
    vault.ledger.apply("d", a_fill(symbol="FEE", fee=D(3)), SESSION)

    assert ask(vault, max_week_loss=D(3)) == ("week_loss", "3.00 USD", "3.00 USD")
    assert ask(vault, max_week_loss=D("3.01")) is None


def test_a_position_that_nothing_else_knows_takes_a_slot(vault: Vault) -> None:
    """BBB is held, not reserved and not queued: with AAA two symbols."""
    vault.ledger.apply("d", a_fill(symbol="BBB"), SESSION)

    assert ask(vault, max_open_positions=1) == ("open_positions", "2", "1")
    assert ask(vault, max_open_positions=2) is None


def test_a_signal_that_waits_for_the_open_takes_a_slot(vault: Vault) -> None:
    """BBB is queued only."""
    vault.ledger.hold(a_signal("BBB"), at("13:30", 3))

    assert ask(vault, max_open_positions=1) == ("open_positions", "2", "1")
    assert ask(vault, max_open_positions=2) is None


def test_the_other_side_is_no_entry_of_this_side(vault: Vault) -> None:
    """Sold a second ago, bought now: the same-side window does not speak, the symbol's rate does."""
    vault.ledger.reserve(
        a_request(decision_id="sold", side=Side.SELL, as_of=NOW - timedelta(seconds=1), same_side_window_s=60)
    )
    vault.ledger.release("sold")

    assert ask(vault, max_per_symbol_per_minute=1) == ("symbol_rate", "2", "1")
    assert ask(vault, same_side_window_s=60) is None


def test_another_symbol_s_entries_count_for_the_fleet_only(vault: Vault) -> None:
    """BBB was bought a second ago."""
    vault.ledger.reserve(a_request("BBB", as_of=NOW - timedelta(seconds=1), **WIDE))
    vault.ledger.release("d-BBB")

    assert ask(vault, max_per_minute=1) == ("fleet_rate", "2", "1")
    assert ask(vault, max_per_symbol_per_minute=1, same_side_window_s=60) is None


def test_after_a_loss_entries_of_every_symbol_count(vault: Vault) -> None:
    """BBB was bought half an hour ago, the loss is two hours old."""
    lose(vault)
    vault.ledger.reserve(a_request("BBB", as_of=NOW - timedelta(minutes=30), **WIDE))
    vault.ledger.release("d-BBB")

    assert ask(vault, max_entries_per_hour_after_loss=1) == ("entries_after_loss", "2", "1")
    assert ask(vault, max_entries_per_hour_after_loss=2) is None


def test_what_a_week_won_back_before_it_was_forgiven_is_not_lost_again(vault: Vault) -> None:
    """100 lost, 80 won back, forgiven at 20 below; 5 more are 5, not 85."""
    lose(vault)
    for side, price in ((Side.BUY, 100), (Side.SELL, 108)):
        vault.ledger.apply("d-won", a_fill(side, price=str(price), symbol="WON", fill_id=f"WON-{side}"), SESSION)
    vault.ledger.forgive_week(SESSION)
    assert vault.ledger.snapshot(SESSION).worst_week == 0
    vault.ledger.apply("d-fee", a_fill(symbol="FEE", fee=D(5)), SESSION)

    assert vault.ledger.snapshot(SESSION).worst_week == -5
    assert ask(vault, max_week_loss=D(5)) == ("week_loss", "5.00 USD", "5.00 USD")


def test_a_week_that_nobody_opened_has_nothing_to_forgive(vault: Vault) -> None:
    """No key appears."""
    vault.ledger.forgive_week(SESSION)

    vault.holds()


def test_the_broker_s_book_replaces_ours_whole(vault: Vault) -> None:
    """AAA goes, BBB and CCC come at their marks, cash is the broker's; what the session realised stays."""
    vault.ledger.apply("d", a_fill(fee=D(1)), SESSION)
    theirs = {
        name: Position(name, quantity, D(cost), NOW) for name, quantity, cost in (("BBB", 3, 30), ("CCC", -2, -9))
    }
    statement = Statement(D("500.5"), theirs, {"BBB": D(11), "CCC": D(4)})
    paid_out = D("-99477.5")  # 500.50 + 30 - 9 for 99,999
    assert vault.ledger.adopt(statement, SESSION, paid_out) == 0
    book = vault.ledger.snapshot(SESSION)

    assert (book.positions, book.marks) == (theirs, {"BBB": D(11), "CCC": D(4)})
    assert (book.cash, book.equity) == (D("500.5"), D("525.5"))  # 500.50 + 33 - 8
    assert book.realised_session == D(-1)
