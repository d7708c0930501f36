"""The paper venue's memory in Redis, shared by the whole fleet."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import redis

from pipeline.book import in_dollars, in_micros
from pipeline.models import Position
from workers.adapters.keys import OUTCOME_TTL_S, Keys
from workers.adapters.paper import Transition
from workers.adapters.paper_book import PaperOrder
from workers.adapters.redis_edge import asking_redis
from workers.adapters.wire import dump, load, load_frozen

# One transition of one order: order, cash, position and mark together, if they still are what was read.
# KEYS: 1 order, 2 working orders, 3 positions, 4 marks, 5 account
# ARGV: 1 client order id, 2 order as read ('' = none), 3 order after, 4 closed (0/1), 5 TTL once closed (s),
#       6 symbol, 7 whether it filled (0/1), 8 position as read ('' = flat), 9 position after ('' = flat),
#       10 change of cash (micro), 11 mark (micro; '' = unchanged), 12 starting cash (micro)
# Returns: 1 written, 0 something changed meanwhile. Cost: O(1).
WRITE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[7] == '1' and (redis.call('HGET', KEYS[3], ARGV[6]) or '') ~= ARGV[8] then return 0 end
redis.call('HSETNX', KEYS[5], 'cash_micro', ARGV[12])
if ARGV[4] == '1' then
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[5])
  redis.call('SREM', KEYS[2], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[3])
  redis.call('SADD', KEYS[2], ARGV[1])
end
if ARGV[7] == '1' then
  redis.call('HINCRBY', KEYS[5], 'cash_micro', ARGV[10])
  if ARGV[9] == '' then
    redis.call('HDEL', KEYS[3], ARGV[6])
    redis.call('HDEL', KEYS[4], ARGV[6])
  else
    redis.call('HSET', KEYS[3], ARGV[6], ARGV[9])
  end
end
if ARGV[11] ~= '' and redis.call('HEXISTS', KEYS[3], ARGV[6]) == 1 then
  redis.call('HSET', KEYS[4], ARGV[6], ARGV[11])
end
return 1
"""


class RedisPaperStore:
    """Orders, positions and cash of the venue. `starting_cash` in dollars opens its account."""

    def __init__(self, client: redis.Redis, keys: Keys, starting_cash: Decimal) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys
        self._starting_cash = starting_cash
        self._write = client.register_script(WRITE)

    def orders(self, client_order_ids: Sequence[str]) -> tuple[PaperOrder | None, ...]:
        """These orders, None where one is not known. One round trip."""
        if not client_order_ids:
            return ()
        with asking_redis():
            texts = self._redis.mget([self._keys.paper_order(name) for name in client_order_ids])
        return tuple(load_frozen(PaperOrder, text) if text else None for text in texts)

    def working(self) -> tuple[str, ...]:
        """Names of the orders with something that can fill, sorted."""
        with asking_redis():
            return tuple(sorted(self._redis.smembers(self._keys.paper_open())))

    def holdings(self) -> dict[str, Position]:
        """Positions by symbol."""
        with asking_redis():
            rows = self._redis.hgetall(self._keys.paper_positions())
        return {symbol: load(Position, text) for symbol, text in rows.items()}

    def marks(self) -> dict[str, Decimal]:
        """The last price of each position."""
        with asking_redis():
            rows = self._redis.hgetall(self._keys.paper_marks())
        return {symbol: in_dollars(int(micro)) for symbol, micro in rows.items()}

    def cash(self) -> Decimal:
        """Dollars after fees."""
        with asking_redis():
            micro = self._redis.hget(self._keys.paper_account(), "cash_micro")
        return self._starting_cash if micro is None else in_dollars(int(micro))

    def write(self, step: Transition) -> bool:
        """Write the step if order and position still are what was read."""
        name, keys = step.after.order.client_order_id, self._keys
        with asking_redis():
            written = self._write(
                keys=[
                    keys.paper_order(name),
                    keys.paper_open(),
                    keys.paper_positions(),
                    keys.paper_marks(),
                    keys.paper_account(),
                ],
                args=[name, *_step_args(step), in_micros(self._starting_cash)],
            )
        return bool(written)


def _step_args(step: Transition) -> list[str | int]:
    return [
        dump(step.before) if step.before is not None else "",
        dump(step.after),
        int(step.after.closed),
        OUTCOME_TTL_S,
        step.after.order.symbol,
        int(bool(step.fills)),
        dump(step.held) if step.held is not None else "",
        dump(step.position) if step.position is not None else "",
        in_micros(step.cash),
        "" if step.mark is None else in_micros(step.mark),
    ]
