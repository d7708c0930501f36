"""One chunk of routed messages as one step of the server: all it writes, or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from pipeline.models import Outcome
from pipeline.router import Fate, Leg, Routable, first_leg_id, leg_id, remembers_text
from workers.adapters.inbox_redis import GROUP, RAW_LIMIT
from workers.adapters.keys import DEAD_MAXLEN, OUTCOME_TTL_S, WINDOW_TTL_S, Keys, to_ms
from workers.adapters.packed_jobs import Line, PackedJob
from workers.adapters.wire_votes import vote_json

RECENT_WINDOW_MS: Final = 86_400_000
MOST_A_SCRIPT: Final = 500
AGAIN_URGENT, DUPLICATE = "again-urgent", "duplicate:"

# Open the legs of a chunk of messages, append their votes, queue their urgent jobs, keep what was no message, find
# near-duplicates, and forget the stream's entries, each once.
# It reads before it writes: whatever another key's wrong type would stop is stopped before anything has changed. A list
# of votes of the wrong type harms the legs of its own symbol only: they end `error`. The symbol is indexed
# and its recent votes get their life anew with the first vote after a drain and with every 64th.
# KEYS: 1 seen texts, 2 seen owners, 3 tally, 4 batches, 5 stream, 6 dead letters, 7 RQ's list of the urgent queue,
#       8 RQ's set of queues.
# ARGV: 1 prefix, 2 the chunk (msgpack), 3 duplicate window (ms), 4 outcome TTL (s), 5 window TTL (s),
#       6 recent window (ms), 7 consumer group, 8 bound of the dead letters,
#       9 votes that make a list full,
#       then the data of the jobs.
#       A message: id, fingerprint, at (ms), at (ISO), remembers its text, first leg, primary's leg, stream entry or '',
#       votes (leg, symbol, JSON, urgent), ends (leg, outcome, rule, observed, limit), job or nothing (key, id, symbol,
#       place of its data, other fields), letter or nothing (reason, detail, raw).
# Returns the symbols whose lists are full, after, for each message that did not go as asked, its number and: 'again'
#       (routed before), 'again-urgent' (and its urgent leg is still open and has no job; its entry is not forgotten),
#       'duplicate:<first message id>'.
# Cost: O(legs * log n).
ROUTE: Final = """
local prefix, chunk = ARGV[1], cmsgpack.unpack(ARGV[2])
local window, ttl, wttl = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local out, answers, entries = prefix .. ':outcome:', {}, {}
local opened, urgent_before, is_open = {}, {}, {}

redis.call('HGET', KEYS[3], 'legs')
redis.call('ZCARD', KEYS[4])
redis.call('LLEN', KEYS[7])
redis.call('SCARD', KEYS[8])
local texts, owner, last, fresh, newest = {}, {}, {}, {}, nil
for _, m in ipairs(chunk) do
  if m[5] then texts[#texts + 1] = m[2] end
end
if #texts > 0 then
  local owners = redis.call('HMGET', KEYS[2], unpack(texts))
  local scores = redis.call('ZMSCORE', KEYS[1], unpack(texts))
  for i, text in ipairs(texts) do
    owner[text], last[text] = owners[i], tonumber(scores[i] or nil)
  end
end

local function repeated(m)
  local at, first, before = m[3], owner[m[2]], last[m[2]]
  last[m[2]] = (before and before > at) and before or at
  if not newest or at > newest then newest = at end
  if first and first ~= m[1] and before and math.abs(at - before) < window then return first end
  owner[m[2]], fresh[m[2]] = m[1], true
  return false
end
for i, m in ipairs(chunk) do
  local routed = opened[m[1]] or redis.call('EXISTS', out .. m[1] .. ':-', out .. m[6]) > 0
  if m[8] ~= '' then entries[#entries + 1] = m[8] end
  if routed then
    local primary = opened[m[1]] and {} or redis.call('HMGET', out .. m[7], 'urgent', 'state')
    if primary[1] == '1' and primary[2] == 'buffered' then
      if m[8] ~= '' then entries[#entries] = nil end
      answers[#answers + 1] = {i, 'again-urgent'}
    else
      answers[#answers + 1] = {i, 'again'}
    end
  else
    opened[m[1]], is_open[i] = true, true
    local first = m[5] and repeated(m)
    if first then
      answers[#answers + 1] = {i, 'duplicate:' .. first}
      m[9], m[11] = {}, {}
      m[10] = {{m[1] .. ':-', 'duplicate', 'near_duplicate', first, 'a text of its own within the window'}}
    end
  end
end

local symbols, lists, recent, since = {}, {}, {}, {}
for i, m in ipairs(chunk) do
  if is_open[i] then
    for _, vote in ipairs(m[9]) do
      local symbol = vote[2]
      if not lists[symbol] then
        symbols[#symbols + 1] = symbol
        lists[symbol], recent[symbol], since[symbol] = {}, {}, {first = m[3], newest = m[3]}
      end
      local list, scored = lists[symbol], recent[symbol]
      list[#list + 1] = vote[3]
      scored[#scored + 1], scored[#scored + 2] = m[3], vote[3]
      since[symbol].newest = math.max(since[symbol].newest, m[3])
    end
  end
end
local unusable, counts, full = {}, {}, {}
local function count(name, by) counts[name] = (counts[name] or 0) + (by or 1) end
for _, symbol in ipairs(symbols) do
  local size = redis.pcall('RPUSH', prefix .. ':batch:' .. symbol, unpack(lists[symbol]))
  if type(size) == 'table' then
    if not string.find(size.err, 'WRONGTYPE', 1, true) then return size end
    unusable[symbol] = true
  else
    local added, key = #lists[symbol], prefix .. ':recent:' .. symbol
    count('buffered', added)
    if size >= tonumber(ARGV[9]) then full[#full + 1] = symbol end
    redis.pcall('ZADD', key, unpack(recent[symbol]))
    redis.pcall('ZREMRANGEBYSCORE', key, '-inf', since[symbol].newest - tonumber(ARGV[6]))
    if size == added or math.floor(size / 64) > math.floor((size - added) / 64) then
      redis.call('ZADD', KEYS[4], 'NX', since[symbol].first, symbol)
      redis.call('EXPIRE', key, wttl)
    end
  end
end

local function over(leg, at, state, rule, observed, limit)
  redis.call('HSET', out .. leg, 'state', state, 'stage', 'router', 'rule', rule,
             'observed', observed, 'limit', limit, 'at', at)
  redis.call('EXPIRE', out .. leg, ttl)
  count('legs')
  count('leg:' .. state)
  count('rule:' .. state .. ':' .. rule)
end
local function open(leg, at, urgent)
  if urgent then
    redis.call('HSET', out .. leg, 'state', 'buffered', 'at', at, 'urgent', 1)
  else
    redis.call('HSET', out .. leg, 'state', 'buffered', 'at', at)
  end
  redis.call('EXPIRE', out .. leg, ttl)
  count('legs')
end
local jobs = {}
for i, m in ipairs(chunk) do
  if is_open[i] then
    for _, vote in ipairs(m[9]) do
      if unusable[vote[2]] then
        over(vote[1], m[4], 'error', 'unusable_list', vote[2], 'a list of votes')
      else
        open(vote[1], m[4], vote[4])
      end
    end
    for _, ending in ipairs(m[10]) do over(ending[1], m[4], ending[2], ending[3], ending[4], ending[5]) end
    local job, letter = m[11], m[12]
    if job[1] and not unusable[job[3]] and redis.call('EXISTS', job[1]) == 0 then
      redis.call('HSET', job[1], 'data', ARGV[job[4]], unpack(job[5]))
      jobs[#jobs + 1] = job[2]
    end
    if letter[1] then
      redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[8], '*', 'stage', 'router', 'reason', letter[1],
                 'detail', letter[2], 'raw', letter[3])
      count('dead:' .. letter[1])
    end
  end
end
if #jobs > 0 then
  redis.call('SADD', KEYS[8], KEYS[7])
  redis.call('RPUSH', KEYS[7], unpack(jobs))
end
for name, by in pairs(counts) do redis.call('HINCRBY', KEYS[3], name, by) end

if newest then
  local scores, owners, done = {}, {}, {}
  for _, text in ipairs(texts) do
    if last[text] and not done[text] then
      done[text] = true
      scores[#scores + 1], scores[#scores + 2] = last[text], text
      if fresh[text] then owners[#owners + 1], owners[#owners + 2] = text, owner[text] end
    end
  end
  redis.call('ZADD', KEYS[1], 'GT', unpack(scores))
  if #owners > 0 then redis.call('HSET', KEYS[2], unpack(owners)) end
  local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', newest - window, 'LIMIT', 0, 4 * #texts)
  if #old > 0 then
    redis.call('ZREM', KEYS[1], unpack(old))
    redis.call('HDEL', KEYS[2], unpack(old))
  end
end
if #entries > 0 then
  redis.call('XACK', KEYS[5], ARGV[7], unpack(entries))
  redis.call('XDEL', KEYS[5], unpack(entries))
end
return {answers, full}
"""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An accepted message that cannot be read: why, and its body as it is (None: there is no body, no letter)."""

    message_id: str
    reason: str
    at: datetime
    detail: str = ""
    body: bytes | None = None

    @property
    def ends(self) -> list[tuple[str, ...]]:
        """Its one null leg, `error`."""
        leg = leg_id(self.message_id, None)
        return [(leg, Outcome.ERROR, self.reason, self.message_id, "a message of this version")]

    @property
    def letter(self) -> tuple[str, ...]:
        """What is kept of it."""
        if self.body is None:
            return ()
        return (self.reason, self.detail[:500], self.body[:RAW_LIMIT].decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Turn:
    """One message's part of a chunk: itself and its legs, its entry in the stream, the job of its urgent leg."""

    message: Routable
    legs: tuple[Leg, ...]
    entry_id: str = ""
    job: PackedJob | None = None


class RouteScript:
    """Runs ROUTE on a server."""

    def __init__(self, client: Any, keys: Keys, duplicate_window_ms: int) -> None:
        self._script = client.register_script(ROUTE)
        self._keys = keys
        self._settings = (duplicate_window_ms, OUTCOME_TTL_S, WINDOW_TTL_S, RECENT_WINDOW_MS, GROUP, DEAD_MAXLEN)
        self._pack = msgspec.msgpack.Encoder().encode

    def run(
        self, turns: Sequence[Turn], unreadable: Sequence[tuple[Unreadable, str]], line: Line, full: int
    ) -> tuple[dict[int, str], list[str]]:
        """One round trip for at most MOST_A_SCRIPT: answers by number, where it went otherwise, and full lists.

        `unreadable` come with their stream entries and are numbered after the others.
        """
        keys = self._keys
        data = [turn.job.data for turn in turns if turn.job]
        places = iter(range(len(self._settings) + 4, len(self._settings) + 4 + len(data)))
        chunk = [_words(turn, next(places) if turn.job else 0) for turn in turns]
        chunk += [_unreadable_words(one, entry) for one, entry in unreadable]
        names = [keys.seen_texts(), keys.seen_owners(), keys.tally(), keys.batches(), keys.analyzed(), keys.dead()]
        answers, full_lists = self._script(
            keys=[*names, line.key, line.queues], args=[keys.prefix, self._pack(chunk), *self._settings, full, *data]
        )
        return {int(number) - 1: str(answer) for number, answer in answers}, full_lists


def _words(turn: Turn, place: int) -> tuple[Any, ...]:
    message, job = turn.message, turn.job
    votes, ends, at = [], [], None
    for leg in turn.legs:
        if leg.vote is not None:
            at = at or leg.vote.at
            votes.append((leg.leg_id, leg.symbol, vote_json(leg.vote).decode(), leg.fate is Fate.URGENT))
        elif leg.refusal is not None:
            refusal = leg.refusal
            ends.append((leg.leg_id, leg.outcome, refusal.rule, refusal.observed, refusal.limit))
    moment = at or message.message.received_at
    name, primary = message.message_id, message.tickers.primary
    return (
        *(name, message.fingerprint, to_ms(moment), moment.isoformat(), remembers_text(turn.legs)),
        *(first_leg_id(message), leg_id(name, primary), turn.entry_id, votes, ends),
        (job.key, job.job_id, primary, place, job.words) if job else (),
        (),
    )


def _unreadable_words(one: Unreadable, entry_id: str) -> tuple[Any, ...]:
    leg = leg_id(one.message_id, None)
    return (
        *(one.message_id, "", to_ms(one.at), one.at.isoformat(), False, leg, leg, entry_id),
        *((), one.ends, (), one.letter),
    )
