"""Eight workers, one hot symbol and forty cold ones: each limit alone is met exactly, however they are scheduled.

A siege is a book of its own and a few rounds. In a round every worker makes every try, in an order of its own, until it
has a definite answer; so what is granted in all depends on the limits alone, and the rest is refused by the rule named.
"""

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
import redis

from pipeline.errors import SymbolBusyError
from pipeline.models import Refusal, Reservation, Side
from pipeline.risk import RiskManager, RiskSettings
from tests.money import (
    NOW,
    SESSION,
    D,
    FakeControl,
    FakeMarket,
    WeekdaySessions,
    a_fill,
    a_recommendation,
    a_request,
    a_signal,
)
from tests.sieges import ALL, SIEGES, SORRY, Round, Siege
from tests.tools.bench_halt import WORKERS, starter
from workers.adapters.keys import Keys
from workers.adapters.ledger_redis import RedisLedger
from workers.adapters.ledger_scripts import RESERVE

CASH: Final = D(100_000)
PATIENCE_S: Final = 120
LIMITS = RiskSettings()

# RESERVE, and in the same step what stands in the book then: no look can come too late. The order of a symbol that is
# held and reserved at once is one order: its fill is booked, its reservation not yet given back.
# KEYS and ARGV: those of RESERVE, then the key of the most symbols and dollars so far.
_AUDITED = f"""
local function asked() {RESERVE} end
local verdict = asked()
local each = {{}}
local flat = redis.call('HGETALL', KEYS[2])
for i = 1, #flat, 2 do
  each[flat[i]] = math.abs(cjson.decode(flat[i + 1]).quantity) * redis.call('HGET', KEYS[3], flat[i])
end
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
  local row = cjson.decode(text)
  each[row.symbol] = math.max(each[row.symbol] or 0, row.counted_micro)
end
local symbols, gross = 0, 0
for _, micro in pairs(each) do symbols, gross = symbols + 1, gross + micro end
for name, n in pairs({{symbols = symbols, gross = gross}}) do
  if n > tonumber(redis.call('HGET', KEYS[12], name) or 0) then
    redis.call('HSET', KEYS[12], name, string.format('%.0f', n))
  end
end
return verdict
"""


# ---- one worker --------------------------------------------------------------------------------------


class Attacker:
    """One worker process in one siege."""

    def __init__(self, client: redis.Redis, one: Siege, number: int) -> None:
        self.client: Any = client
        self.siege, self.number = one, number
        self.ledger = a_ledger(client, one)
        market = FakeMarket(dict.fromkeys(ALL, D(100)))
        self.stage = RiskManager(self.ledger, WeekdaySessions(), market, FakeControl(), LIMITS)

    def attack(self, turn: int, dice: random.Random) -> None:
        """Every try of a round, in an order of my own; the answers are counted on the server."""
        one = self.siege.rounds[turn]
        wanted = [(s, side) for s in one.symbols for side in one.sides] * one.tries
        dice.shuffle(wanted)
        answers = Counter(
            self.answer(one, symbol, side, f"w{self.number}-{turn}-{n}") for n, (symbol, side) in enumerate(wanted)
        )
        for answer, n in answers.items():
            self.client.hincrby(verdicts(self.siege, turn), answer, n)

    def answer(self, one: Round, symbol: str, side: Side, decision: str) -> str:
        """granted, the rule that refused, or busy where what is granted is kept: everybody else lets go."""
        while True:
            try:
                answer = self.ask(one, symbol, side, decision)
            except SymbolBusyError:
                if one.fate in {"kept", "whole"}:
                    return "busy"
                continue
            if isinstance(answer, Refusal):
                return answer.rule
            self.then(one, symbol, side, decision)
            return "granted"

    def ask(self, one: Round, symbol: str, side: Side, decision: str) -> Reservation | Refusal:
        """The reservation, or who refused it."""
        moment = one.day + one.after
        if one.fate == "whole":
            return self.stage.check(a_recommendation(a_signal(symbol, decision_id=decision)), moment)
        session, closing = WeekdaySessions().session_of(moment), one.fate == "closed"
        request = a_request(symbol, decision_id=decision, side=side, as_of=moment, **self.siege.limits)
        return self.ledger.reserve(
            replace(
                request,
                session=session.day,
                week=session.week,
                reduce_only=closing,
                expected_position=10 if closing else 0,
            )
        )

    def then(self, one: Round, symbol: str, side: Side, decision: str) -> None:
        """What becomes of it: its fills, then its reservation goes."""
        moment = one.day + one.after
        session = WeekdaySessions().session_of(moment)
        ways = {"bought": [(side, "100")], "closed": [(side, "100")], "lost": [(Side.BUY, "100"), (Side.SELL, "90")]}
        for way, price in ways.get(one.fate, []):
            fill = a_fill(way, price=price, symbol=symbol, fill_id=f"{decision}-{way}", at=moment)
            self.ledger.apply(decision, fill, session)
        if one.fate not in {"kept", "whole"}:
            self.ledger.release(decision)


def a_ledger(client: redis.Redis, one: Siege) -> RedisLedger:
    """The siege's book, audited at every reservation."""
    ledger: Any = RedisLedger(client, Keys(one.name), CASH)
    audited = client.register_script(_AUDITED)
    ledger._reserve = lambda keys, args: audited(keys=[*keys, f"most:{one.name}"], args=args)
    return ledger  # type: ignore[no-any-return] # one script of it is another


def verdicts(one: Siege, turn: int) -> str:
    """Where the answers of a round are counted."""
    return f"verdicts:{one.name}:{turn}"


def worker(url: str, number: int, barrier: Any) -> None:
    """All sieges, round by round; no round begins before all workers are through the one before."""
    dice = random.Random(number)
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=PATIENCE_S) as client:
        for one in SIEGES:
            attacker = Attacker(client, one, number)
            for turn in range(len(one.rounds)):
                barrier.wait(PATIENCE_S)
                attacker.attack(turn, dice)


# ---- the sieges --------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_every_limit_is_met_exactly_by_eight_processes(redis_client: redis.Redis, server_url: str) -> None:
    """What is granted is the limit's number, not one less, not one more; the rest is refused by that rule alone."""
    for name in SORRY:
        for way, price in ((Side.BUY, "100"), (Side.SELL, "99")):
            fill = a_fill(way, price=price, symbol="LOS", fill_id=f"LOS-{way}", at=NOW - timedelta(hours=2))
            RedisLedger(redis_client, Keys(name), CASH).apply("d-los", fill, SESSION)
    start = starter()
    barrier = start.Barrier(WORKERS)
    processes = [start.Process(target=worker, args=(server_url, n, barrier)) for n in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * WORKERS
    for one in SIEGES:
        check(redis_client, one)


def check(client: redis.Redis, one: Siege) -> None:
    """The answers of a siege, and the most that ever was in its book."""
    server: Any = client
    for turn, round_ in enumerate(one.rounds):
        answers = {rule: int(n) for rule, n in server.hgetall(verdicts(one, turn)).items()}
        tries = WORKERS * len(round_.symbols) * len(round_.sides) * round_.tries
        assert (one.name, turn, answers.get("granted", 0)) == (one.name, turn, round_.granted), answers
        assert sum(answers.values()) == tries, (one.name, turn)
        assert answers.keys() <= {"granted", "busy", *one.rules}, (one.name, turn)
    most = {name: int(n) for name, n in server.hgetall(f"most:{one.name}").items()}
    assert most["symbols"] <= one.most[0], one.name
    assert most["gross"] <= one.most[1], one.name
