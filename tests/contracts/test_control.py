"""Control: who may trade, asked by every decision. The same in memory and on the real server."""

import pytest
import redis

from pipeline.errors import TransientError
from pipeline.models import TradingState
from tests.contracts.conftest import KEYS, Vault
from tests.money import NOW
from workers.adapters.control_memory import Act
from workers.adapters.control_redis import RedisControl

AT = NOW.isoformat()


def test_a_missing_key_means_halted(vault: Vault) -> None:
    """An emptied server trades nothing."""
    assert vault.control.trading_state() is TradingState.HALTED
    assert vault.control.why() is None
    vault.holds()


@pytest.mark.parametrize("state", list(TradingState))
def test_a_state_is_kept_with_who_why_and_when(vault: Vault, state: TradingState) -> None:
    """Readable with redis-cli as a plain hash."""
    vault.control.set(state, "ann", "drill", NOW)
    why = vault.control.why()

    assert vault.control.trading_state() is state
    assert why is not None
    assert (why.by, why.reason, why.at) == ("ann", "drill", NOW)
    vault.holds(control={"trading_state": str(state), "by": "ann", "reason": "drill", "at": AT})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TradingState.ACTIVE, TradingState.REDUCING),
        (TradingState.REDUCING, TradingState.REDUCING),
        (TradingState.HALTED, TradingState.HALTED),
    ],
)
def test_reducing_never_softens_a_halt(vault: Vault, before: TradingState, after: TradingState) -> None:
    """Only ACTIVE is lowered."""
    vault.control.set(before, "ann", "drill", NOW)
    vault.control.reduce("risk", "week loss", NOW)

    assert vault.control.trading_state() is after
    by = "risk" if before is TradingState.ACTIVE else "ann"
    reason = "week loss" if before is TradingState.ACTIVE else "drill"
    vault.holds(control={"trading_state": str(after), "by": by, "reason": reason, "at": AT})


def test_reducing_sets_nothing_where_nothing_was_set(vault: Vault) -> None:
    """Missing stays HALTED."""
    vault.control.reduce("risk", "week loss", NOW)

    assert vault.control.trading_state() is TradingState.HALTED
    vault.holds()


def test_denied_names_are_found_symbol_first_then_authors_in_order(vault: Vault) -> None:
    """The answer names the entry."""
    vault.control.deny("author", "zed", "ann", "bot", NOW)
    vault.control.deny("author", "bob", "ann", "bot", NOW)

    assert vault.control.denied("AAA", frozenset({"carl"})) is None
    assert vault.control.denied("AAA", frozenset({"zed", "bob", "carl"})) == "author:bob"
    vault.control.deny("symbol", "AAA", "ann", "fraud", NOW)
    assert vault.control.denied("AAA", frozenset({"zed"})) == "symbol:AAA"
    entry = f'{{"v":1,"by":"ann","reason":"{{}}","at":"{AT}"}}'
    vault.holds(
        **{
            "deny:author": {name: entry.replace("{}", "bot") for name in ("bob", "zed")},
            "deny:symbol": {"AAA": entry.replace("{}", "fraud")},
            "control-history": ...,
        }
    )


def test_an_allowed_name_leaves_no_trace(vault: Vault) -> None:
    """And allowing it twice is no error."""
    vault.control.deny("source", "rss", "ann", "noise", NOW)
    assert list(vault.control.denials("source")) == ["rss"]
    for _ in range(2):
        vault.control.allow("source", "rss", "bob", "calm again", NOW)

    assert vault.control.denials("source") == {}
    vault.holds(**{"control-history": ...})


def test_every_act_is_kept_newest_first_with_who_why_and_when(vault: Vault) -> None:
    """Readable with redis-cli as a plain stream; an act that changed no key is kept too."""
    control = vault.control
    control.set(TradingState.ACTIVE, "ann", "morning", NOW)
    control.reduce("reconcile", "drift", NOW)
    control.reduce("reconcile", "drift again", NOW)
    control.deny("symbol", "AAA", "bob", "fraud", NOW)
    control.allow("symbol", "AAA", "bob", "cleared", NOW)
    control.note(Act("flatten", "ann", "drill", NOW))

    assert control.history(2) == (
        Act("flatten", "ann", "drill", NOW),
        Act("allow symbol AAA", "bob", "cleared", NOW),
    )
    assert [(act.what, act.reason) for act in control.history(100)[2:]] == [
        ("deny symbol AAA", "fraud"),
        ("REDUCING", "drift"),
        ("ACTIVE", "morning"),
    ]
    acts = [("ACTIVE", "ann", "morning"), ("REDUCING", "reconcile", "drift"), ("deny symbol AAA", "bob", "fraud")]
    more = [("allow symbol AAA", "bob", "cleared"), ("flatten", "ann", "drill")]
    stream = [{"what": what, "by": by, "reason": why, "at": AT} for what, by, why in acts + more]
    vault.holds(**{"control": ..., "control-history": stream})


def test_the_history_is_bounded(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old acts make room: Redis trims whole nodes of 100 entries."""
    monkeypatch.setattr("workers.adapters.control_redis.HISTORY_MAXLEN", 100)
    control = RedisControl(redis_client, KEYS)
    for n in range(350):
        control.set(TradingState.ACTIVE, "ann", str(n), NOW)

    kept = control.history(1000)
    assert len(kept) < 250
    assert kept[0].reason == "349"


def test_a_deny_list_that_nobody_reads_is_refused(vault: Vault) -> None:
    """A typing error must not look like protection."""
    with pytest.raises(ValueError, match="author, source, symbol"):
        vault.control.deny("symbols", "AAA", "ann", "typo", NOW)
    vault.holds()


def test_an_unknown_word_in_the_key_means_halted(redis_client: redis.Redis) -> None:
    """Whatever a hand wrote there."""
    redis_client.hset(KEYS.control(), "trading_state", "active")

    assert RedisControl(redis_client, KEYS).trading_state() is TradingState.HALTED


def test_a_server_that_does_not_answer_is_a_transient_error() -> None:
    """Callers refuse then; they do not guess."""
    with redis.Redis.from_url("redis://127.0.0.1:1/0", decode_responses=True) as nobody:
        control = RedisControl(nobody, KEYS)
        for ask in (control.trading_state, control.why, lambda: control.denied("AAA", frozenset({"ann"}))):
            with pytest.raises(TransientError, match="cannot be asked"):
                ask()
