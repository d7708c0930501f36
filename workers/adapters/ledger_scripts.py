"""The Lua of the ledger. All amounts are integer micro-dollars; sums stay exact below 2^53 (9 billion dollars)."""

from workers.adapters.truth import UNTRUSTED as _UNTRUSTED

# Cash + every position at its mark; fails when a position has no mark, so that no limit is computed from a guess.
_EQUITY = """
local function whole(n) return string.format('%.0f', n) end
local function positions(key)
  local flat, found = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do found[flat[i]] = cjson.decode(flat[i + 1]) end
  return found
end
local function equity(account, held, marks)
  local sum = tonumber(redis.call('HGET', account, 'cash_micro'))
  for symbol, position in pairs(positions(held)) do
    sum = sum + position.quantity * tonumber(redis.call('HGET', marks, symbol))
  end
  return sum
end
local function opened(account, held, marks, cash, ttl, session, week)
  if cash ~= '' then redis.call('HSETNX', account, 'cash_micro', cash) end
  if redis.call('HEXISTS', account, 'cash_micro') == 0 then return false end
  for _, key in ipairs({session, week}) do
    if redis.call('EXISTS', key) == 0 then
      redis.call('HSET', key, 'start_equity_micro', whole(equity(account, held, marks)),
        'realised_micro', 0, 'worst_micro', 0)
      redis.call('EXPIRE', key, ttl)
    end
  end
  return true
end
local function realise(keys, micro)
  for _, key in ipairs(keys) do
    local realised = redis.call('HINCRBY', key, 'realised_micro', micro)
    if realised < tonumber(redis.call('HGET', key, 'worst_micro')) then
      redis.call('HSET', key, 'worst_micro', whole(realised))
    end
  end
end
"""

# An order's fills are kept for a while after the last one; orders are forgotten with them.
_FILLED = """
local function filled(index, key, order, ttl)
  local now = redis.call('TIME')[1]
  redis.call('EXPIRE', key, ttl)
  redis.call('ZADD', index, string.format('%.0f', now * 1000), order)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', string.format('%.0f', (now - ttl) * 1000))
end
"""

# The whole book at one moment; opens the account, the session and the week when first seen.
# KEYS: 1 account, 2 positions, 3 marks, 4 session risk, 5 week risk, 6 reservations, 7 held signals
# ARGV: 1 starting cash (micro; '' = somebody else opens the account), 2 TTL of session and week (s)
# Returns: HGETALL of the seven keys, in order; {} without an account. Cost: O(positions + reservations + held).
SNAPSHOT = (
    _EQUITY
    + """
if not opened(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], KEYS[4], KEYS[5]) then return {} end
local all = {}
for i = 1, 7 do all[i] = redis.call('HGETALL', KEYS[i]) end
return all
"""
)

# Test every counter, then set the risk aside. Never resizes. Idempotent by decision id; a later run of the decision
# enters the market later, so its rates are tested again and count from then on.
# KEYS: 1 reservations, 2 positions, 3 marks, 4 held signals, 5 session risk, 6 week risk, 7 entries,
#       8 entries of the symbol, 9 account, 10 execution, 11 truth
# ARGV: 1 decision id, 2 symbol, 3 side, 4 reservation (JSON), 5 notional (micro), 6 as_of (ms), 7 expected position,
#       8 max open positions, 9 max gross (micro), 10 max session loss (micro), 11 max week loss (micro),
#       12 same-side window (ms), 13 per symbol and minute, 14 per minute, 15 per hour after a loss,
#       16 reduce only (0/1), 17 TTL of the entries (s), 18 execution id ('' = any),
#       19 longest age of a comparison with the broker (ms; '' = not asked)
# Returns: {'reserved', JSON} | {'taken_over'} | {'unreconciled', since when} | {'busy', other decision} |
#       {'refused', rule, observed, limit}.
# Cost: O(positions + reservations + held + entries of a minute).
RESERVE = (
    _EQUITY
    + _UNTRUSTED
    + """
local decision, symbol, side, as_of = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[6])
if ARGV[18] ~= '' and redis.call('HGET', KEYS[10], 'id') ~= ARGV[18] then return {'taken_over'} end
local unknown = ARGV[16] == '0' and untrusted(KEYS[11], ARGV[19])
if unknown then return {'unreconciled', unknown} end
local member = side .. ':' .. decision
local function entries(key, window, prefix)
  local n = 1
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. whole(as_of - window), whole(as_of + 7200000))) do
    if name ~= member and string.sub(name, 1, #prefix) == prefix then n = n + 1 end
  end
  return n
end
local function too_soon()
  local n = entries(KEYS[8], tonumber(ARGV[12]), side .. ':')
  if n > 1 then return {'refused', 'same_side_window', whole(n), '1'} end
  n = entries(KEYS[8], 60000, '')
  if n > tonumber(ARGV[13]) then return {'refused', 'symbol_rate', whole(n), ARGV[13]} end
  n = entries(KEYS[7], 60000, '')
  if n > tonumber(ARGV[14]) then return {'refused', 'fleet_rate', whole(n), ARGV[14]} end
  if redis.call('HEXISTS', KEYS[9], 'last_loss_ms') == 0 then return nil end
  n = entries(KEYS[7], 3600000, '')
  if n > tonumber(ARGV[15]) then return {'refused', 'entries_after_loss', whole(n), ARGV[15]} end
end
local function enter()
  for _, key in ipairs({KEYS[7], KEYS[8]}) do
    redis.call('ZADD', key, whole(as_of), member)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(as_of - 1000 * ARGV[17]))
    redis.call('EXPIRE', key, ARGV[17])
  end
end
local mine = redis.call('HGET', KEYS[1], decision)
if mine then
  local entered = ARGV[16] == '0' and redis.call('ZSCORE', KEYS[8], member)
  if entered and tonumber(entered) < as_of then
    local refused = too_soon()
    if refused then return refused end
    enter()
  end
  return {'reserved', mine}
end
local gross, symbols = tonumber(ARGV[5]), {[symbol] = true}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local other = cjson.decode(flat[i + 1])
  if other.symbol == symbol then return {'busy', flat[i]} end
  symbols[other.symbol] = true
  gross = gross + other.counted_micro
end
local held = positions(KEYS[2])
local quantity = held[symbol] and held[symbol].quantity or 0
if quantity ~= tonumber(ARGV[7]) then return {'refused', 'position_changed', whole(quantity), ARGV[7]} end
if ARGV[16] == '1' then
  redis.call('HSET', KEYS[1], decision, ARGV[4])
  return {'reserved', ARGV[4]}
end
local lost = -tonumber(redis.call('HGET', KEYS[5], 'worst_micro') or 0)
if lost >= tonumber(ARGV[10]) then return {'refused', 'session_loss', whole(lost), ARGV[10]} end
lost = tonumber(redis.call('HGET', KEYS[6], 'forgiven_micro') or 0)
       - tonumber(redis.call('HGET', KEYS[6], 'worst_micro') or 0)
if lost >= tonumber(ARGV[11]) then return {'refused', 'week_loss', whole(lost), ARGV[11]} end
for name, position in pairs(held) do
  symbols[name] = true
  gross = gross + math.abs(position.quantity) * tonumber(redis.call('HGET', KEYS[3], name))
end
for _, text in ipairs(redis.call('HVALS', KEYS[4])) do symbols[cjson.decode(text).symbol] = true end
local count = 0
for _ in pairs(symbols) do count = count + 1 end
if count > tonumber(ARGV[8]) then return {'refused', 'open_positions', whole(count), ARGV[8]} end
if gross > tonumber(ARGV[9]) then return {'refused', 'gross_exposure', whole(gross), ARGV[9]} end
local refused = too_soon()
if refused then return refused end
redis.call('HSET', KEYS[1], decision, ARGV[4])
enter()
return {'reserved', ARGV[4]}
"""
)

# Replace a reservation that is still what was read.
# KEYS: 1 reservations
# ARGV: 1 decision id, 2 JSON as read, 3 JSON to write
# Returns: 1 written, 0 it changed meanwhile. Cost: O(1).
SHRINK = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
"""

# Give a reservation back; an unused one leaves the rates too, but not while the decision's order is on its way.
# KEYS: 1 reservations, 2 entries (those of the reservation's symbol are `<KEYS[2]>:<symbol>`), 3 execution
# ARGV: 1 decision id, 2 unused (0/1), 3 execution id ('' = any)
# Returns: 1 when there is none any more, 0 when an older execution asks or an order was sent. Cost: O(log entries).
RELEASE = """
if ARGV[3] ~= '' and redis.call('HGET', KEYS[3], 'id') ~= ARGV[3] then return 0 end
if ARGV[2] == '1' and redis.call('HEXISTS', KEYS[3], 'sent') == 1 then return 0 end
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then return 1 end
if ARGV[2] == '1' then
  local mine = cjson.decode(text)
  local member = mine.side .. ':' .. ARGV[1]
  redis.call('ZREM', KEYS[2], member)
  redis.call('ZREM', KEYS[2] .. ':' .. mine.symbol, member)
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
"""

# Turn a reservation into a signal that waits for an open: its slot stays taken, the rates forget it.
# KEYS: 1 reservations, 2 entries, 3 entries of the symbol, 4 held, 5 held signals, 6 execution
# ARGV: 1 decision id, 2 side, 3 due (ms), 4 signal (JSON), 5 execution id ('' = any)
# Returns: 1 held, 0 an older execution asks. Cost: O(log entries).
HOLD = """
if ARGV[5] ~= '' and redis.call('HGET', KEYS[6], 'id') ~= ARGV[5] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[2] .. ':' .. ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[2] .. ':' .. ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[1])
redis.call('HSET', KEYS[5], ARGV[1], ARGV[4])
return 1
"""

# Held signals due by a moment, each with its due time.
# KEYS: 1 held, 2 held signals
# ARGV: 1 until (ms)
# Returns: {due (ms), JSON, due, JSON, ...} by due. Cost: O(due).
HELD = """
local found, out = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES'), {}
for i = 1, #found, 2 do
  out[#out + 1] = found[i + 1]
  out[#out + 1] = redis.call('HGET', KEYS[2], found[i])
end
return out
"""

# Book one fill: cash, position, mark and results in one step, if the position is still what was read.
# KEYS: 1 account, 2 positions, 3 marks, 4 session risk, 5 week risk, 6 fills of the order, 7 orders with fills
# ARGV: 1 starting cash (micro), 2 TTL of session and week (s), 3 fill id, 4 fill (JSON), 5 symbol,
#       6 position as read ('' = none), 7 position after ('' = flat), 8 change of cash (micro), 9 realised (micro),
#       10 mark (micro), 11 ended trade ('' = none, 'won', else the time of the loss in ms), 12 TTL of the fills (s),
#       13 client order id
# Returns: 1 booked, 0 booked before, -1 the position changed meanwhile, -2 there is no account.
# Cost: O(positions) once a session, else O(1).
APPLY = (
    _EQUITY
    + _FILLED
    + """
if redis.call('HEXISTS', KEYS[6], ARGV[3]) == 1 then return 0 end
if (redis.call('HGET', KEYS[2], ARGV[5]) or '') ~= ARGV[6] then return -1 end
if not opened(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], KEYS[4], KEYS[5]) then return -2 end
redis.call('HSET', KEYS[6], ARGV[3], ARGV[4])
filled(KEYS[7], KEYS[6], ARGV[13], ARGV[12])
redis.call('HINCRBY', KEYS[1], 'cash_micro', ARGV[8])
if ARGV[7] == '' then
  redis.call('HDEL', KEYS[2], ARGV[5])
  redis.call('HDEL', KEYS[3], ARGV[5])
else
  redis.call('HSET', KEYS[2], ARGV[5], ARGV[7])
  redis.call('HSET', KEYS[3], ARGV[5], ARGV[10])
end
realise({KEYS[4], KEYS[5]}, ARGV[9])
if ARGV[11] == 'won' then redis.call('HDEL', KEYS[1], 'last_loss_ms')
elseif ARGV[11] ~= '' then redis.call('HSET', KEYS[1], 'last_loss_ms', ARGV[11]) end
return 1
"""
)

# Count the week's loss from here on: a person resumed after it.
# KEYS: 1 week risk. ARGV: none. Returns: nothing. Cost: O(1).
FORGIVE = """
local realised = redis.call('HGET', KEYS[1], 'realised_micro')
if not realised then return end
redis.call('HSET', KEYS[1], 'forgiven_micro', realised, 'worst_micro', realised)
"""

# What the broker has becomes the book's money and holdings; the fills that made it count as booked.
# KEYS: 1 account, 2 positions, 3 marks, 4 orders with fills
# ARGV: 1 prefix, 2 TTL of fills (s), 3 cash (micro), 4 number of positions, each symbol, position (JSON), mark (micro);
#       then fills, each client order id, fill id, fill (JSON)
_TAKE = """
local function take()
  redis.call('HSET', KEYS[1], 'cash_micro', ARGV[3])
  redis.call('DEL', KEYS[2], KEYS[3])
  local last = 4 + 3 * ARGV[4]
  for i = 5, last, 3 do
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 2])
  end
  for i = last + 1, #ARGV - EXTRA, 3 do
    local key = ARGV[1] .. ':fills:' .. ARGV[i]
    redis.call('HSETNX', key, ARGV[i + 1], ARGV[i + 2])
    filled(KEYS[4], key, ARGV[i], ARGV[2])
  end
end
"""

# Begin the book with what the broker has.
# KEYS and ARGV: as above.
# Returns: 1, 0 when there is an account. Cost: O(positions + fills).
OPEN = (
    _FILLED
    + "local EXTRA = 0"
    + _TAKE
    + """
if redis.call('HEXISTS', KEYS[1], 'cash_micro') == 1 then return 0 end
take()
return 1
"""
)

# Replace the book's money and holdings by what the broker has; what that lost is a result of session and week.
# KEYS: as above, 5 session risk, 6 week risk
# ARGV: as above, then value (micro): cash and what the positions cost; cash flow (micro); TTL of session and week (s);
#       starting cash (micro; '' = none)
# Returns: the change of value without the cash flow (micro); '' without an account. Cost: O(positions + fills).
ADOPT = (
    _EQUITY
    + _FILLED
    + "local EXTRA = 4"
    + _TAKE
    + """
local value, flow, ttl, starting = unpack(ARGV, #ARGV - 3)
if not opened(KEYS[1], KEYS[2], KEYS[3], starting, ttl, KEYS[5], KEYS[6]) then return '' end
local before = tonumber(redis.call('HGET', KEYS[1], 'cash_micro'))
for _, position in pairs(positions(KEYS[2])) do before = before + math.floor(position.cost * 1000000 + 0.5) end
local change = value - before - flow
take()
if change < 0 then realise({KEYS[5], KEYS[6]}, whole(change)) end
return whole(change)
"""
)

# Value held symbols; a price for anything else is no mark.
# KEYS: 1 positions, 2 marks
# ARGV: symbol, price (micro), symbol, price, ...
# Returns: nothing. Cost: O(symbols).
MARK = """
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
"""
