"""One chunk of routed messages as one step of the server: all it writes, or nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from pipeline.models import Outcome
from pipeline.router import NO_SYMBOL, Fate, Leg, Routable, first_symbol, leg_id
from workers.adapters.inbox_redis import GROUP, RAW_LIMIT
from workers.adapters.keys import DEAD_MAXLEN, OUTCOME_TTL_S, WINDOW_TTL_S, Keys, to_ms
from workers.adapters.packed_jobs import Line, PackedJob
from workers.adapters.sent_script import SentScript, nothing
from workers.adapters.wire_votes import vote_json

RECENT_WINDOW_MS: Final = 86_400_000
MOST_A_SCRIPT: Final = 500
FIRST_DATA: Final = 9  # arguments of ROUTE before the first job's data
AGAIN_URGENT, DUPLICATE = "again-urgent", "duplicate:"

# Open the legs of a chunk of messages, append their votes, queue their urgent jobs, keep what was no message, find
# near-duplicates, and forget the stream's entries, each once.
# It reads before it writes: whatever another key's wrong type would stop is stopped before anything has changed. A list
# of votes of the wrong type harms the legs of its own symbol only: they end `error`. The symbol is indexed
# and its recent votes get their life anew with the first vote after a drain and with every 64th. An open leg has no
# TTL: it gets one with its end, so that what never ends is seen.
# KEYS: 1 seen texts, 2 seen owners, 3 tally, 4 batches, 5 stream, 6 dead letters, 7 RQ's list of the urgent queue,
#       8 RQ's set of queues.
# ARGV: 1 prefix, 2 the chunk (msgpack), 3 duplicate window (ms), 4 outcome TTL (s), 5 window TTL (s),
#       6 recent window (ms), 7 consumer group, 8 bound of the dead letters,
#       9 votes that make a list full,
#       then the data of the jobs.
#       The chunk is columns, since a table for each message would cost more than all it is for: the messages' ids,
#       texts' fingerprints ('' where none is kept), at (ms), at (ISO), symbol of the first leg, of the primary's leg,
#       stream entries or ''; of each vote its message's number, symbol, JSON, urgent; then rows that begin with their
#       message's number: ends (leg, outcome, rule, observed, limit), jobs (key, id, symbol, place of its data, other
#       fields), letters (reason, detail, raw).
# Returns the symbols whose lists are full, after, for each message that did not go as asked, its number and: 'again'
#       (routed before), 'again-urgent' (and its urgent leg is still open and has no job; its entry is not forgotten),
#       'duplicate:<first message id>'.
# Cost: O(legs * log n).
ROUTE: Final = """
local call, pcall = redis.call, redis.pcall
local prefix, chunk = ARGV[1], cmsgpack.unpack(ARGV[2])
local ids, prints, ats, isos, firsts, primaries, rows = unpack(chunk, 1, 7)
local of, symbol_of, json_of, urgent_of, ends, wanted, letters = unpack(chunk, 8, 14)
local window, ttl, wttl, much = tonumber(ARGV[3]), ARGV[4], ARGV[5], tonumber(ARGV[9])
local out, answers, entries, kept = prefix .. ':outcome:', {}, {}, 0

call('HGET', KEYS[3], 'legs')
call('ZCARD', KEYS[4])
call('LLEN', KEYS[7])
call('SCARD', KEYS[8])
local texts, many, owner, last, fresh, newest = {}, 0, {}, {}, {}, nil
for _, print in ipairs(prints) do
  if print ~= '' then many = many + 1; texts[many] = print end
end
if many > 0 then
  local owners = call('HMGET', KEYS[2], unpack(texts))
  local scores = call('ZMSCORE', KEYS[1], unpack(texts))
  for i, text in ipairs(texts) do
    owner[text], last[text] = owners[i], tonumber(scores[i] or nil)
  end
end
local legs = {}
for i, id in ipairs(ids) do
  local leg = out .. id .. ':'
  legs[2 * i - 1], legs[2 * i] = leg .. '-', leg .. firsts[i]
end
local known = #legs > 0 and call('EXISTS', unpack(legs)) > 0

local opened, is_open, twin = {}, {}, {}
for i, id in ipairs(ids) do
  local row, text, at = rows[i], prints[i], ats[i]
  if opened[id] or (known and call('EXISTS', legs[2 * i - 1], legs[2 * i]) > 0) then
    local primary = opened[id] and {} or call('HMGET', out .. id .. ':' .. primaries[i], 'urgent', 'state')
    if primary[1] == '1' and primary[2] == 'buffered' then
      row = ''
      answers[#answers + 1] = {i, 'again-urgent'}
    else
      answers[#answers + 1] = {i, 'again'}
    end
  else
    opened[id], is_open[i] = true, true
    if text ~= '' then
      local first, before = owner[text], last[text]
      last[text] = (before and before > at) and before or at
      if not newest or at > newest then newest = at end
      if first and first ~= id and before and math.abs(at - before) < window then
        answers[#answers + 1] = {i, 'duplicate:' .. first}
        twin[i] = first
      else
        owner[text], fresh[text] = id, true
      end
    end
  end
  if row ~= '' then kept = kept + 1; entries[kept] = row end
end

local symbols, groups = {}, {}
for v, i in ipairs(of) do
  if is_open[i] and not twin[i] then
    local symbol, at = symbol_of[v], ats[i]
    local group = groups[symbol]
    if not group then
      group = {list = {}, scored = {}, size = 0, first = at, newest = at}
      groups[symbol], symbols[#symbols + 1] = group, symbol
    end
    local size, json = group.size + 1, json_of[v]
    group.size, group.list[size] = size, json
    group.scored[2 * size - 1], group.scored[2 * size] = at, json
    if at > group.newest then group.newest = at end
  end
end
local unusable, counts, full, buffered = {}, {}, {}, 0
local function count(name, by) counts[name] = (counts[name] or 0) + (by or 1) end
for _, symbol in ipairs(symbols) do
  local group = groups[symbol]
  local size = pcall('RPUSH', prefix .. ':batch:' .. symbol, unpack(group.list))
  if type(size) == 'table' then
    if not string.find(size.err, 'WRONGTYPE', 1, true) then return size end
    unusable[symbol] = true
  else
    local added, key = group.size, prefix .. ':recent:' .. symbol
    buffered = buffered + added
    if size >= much then full[#full + 1] = symbol end
    pcall('ZADD', key, unpack(group.scored))
    pcall('ZREMRANGEBYSCORE', key, '-inf', group.newest - tonumber(ARGV[6]))
    if size == added or math.floor(size / 64) > math.floor((size - added) / 64) then
      call('ZADD', KEYS[4], 'NX', group.first, symbol)
      call('EXPIRE', key, wttl)
    end
  end
end

local function over(leg, at, state, rule, observed, limit)
  call('HSET', out .. leg, 'state', state, 'stage', 'router', 'rule', rule,
       'observed', observed, 'limit', limit, 'at', at)
  call('EXPIRE', out .. leg, ttl)
  count('legs')
  count('leg:' .. state)
  count('rule:' .. state .. ':' .. rule)
end
local open = 0
for v, i in ipairs(of) do
  if is_open[i] and not twin[i] then
    local symbol, id = symbol_of[v], ids[i]
    if unusable[symbol] then
      over(id .. ':' .. symbol, isos[i], 'error', 'unusable_list', symbol, 'a list of votes')
    elseif urgent_of[v] then
      call('HSET', out .. id .. ':' .. symbol, 'state', 'buffered', 'at', isos[i], 'urgent', 1)
      open = open + 1
    else
      call('HSET', out .. id .. ':' .. symbol, 'state', 'buffered')
      open = open + 1
    end
  end
end
if open > 0 then count('legs', open) end
if buffered > 0 then count('buffered', buffered) end
for _, e in ipairs(ends) do
  if is_open[e[1]] and not twin[e[1]] then over(e[2], isos[e[1]], e[3], e[4], e[5], e[6]) end
end
for i, first in pairs(twin) do
  over(ids[i] .. ':-', isos[i], 'duplicate', 'near_duplicate', first, 'a text of its own within the window')
end
local jobs = {}
for _, job in ipairs(wanted) do
  local i = job[1]
  if is_open[i] and not twin[i] and not unusable[job[4]] and call('EXISTS', job[2]) == 0 then
    call('HSET', job[2], 'data', ARGV[job[5]], unpack(job[6]))
    jobs[#jobs + 1] = job[3]
  end
end
for _, letter in ipairs(letters) do
  if is_open[letter[1]] then
    call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[8], '*', 'stage', 'router', 'reason', letter[2],
         'detail', letter[3], 'raw', letter[4])
    count('dead:' .. letter[2])
  end
end
if #jobs > 0 then
  call('SADD', KEYS[8], KEYS[7])
  call('RPUSH', KEYS[7], unpack(jobs))
end
for name, by in pairs(counts) do call('HINCRBY', KEYS[3], name, by) end

if newest then
  local scores, owners, done, s, o = {}, {}, {}, 0, 0
  for _, text in ipairs(texts) do
    if last[text] and not done[text] then
      done[text] = true
      scores[s + 1], scores[s + 2], s = last[text], text, s + 2
      if fresh[text] then owners[o + 1], owners[o + 2], o = text, owner[text], o + 2 end
    end
  end
  call('ZADD', KEYS[1], 'GT', unpack(scores))
  if o > 0 then call('HSET', KEYS[2], unpack(owners)) end
  local old = call('ZRANGEBYSCORE', KEYS[1], '-inf', newest - window, 'LIMIT', 0, 4 * many)
  if #old > 0 then
    call('ZREM', KEYS[1], unpack(old))
    call('HDEL', KEYS[2], unpack(old))
  end
end
if kept > 0 then
  call('XACK', KEYS[5], ARGV[7], unpack(entries))
  call('XDEL', KEYS[5], unpack(entries))
end
return {answers, full}
"""


_pack = msgspec.msgpack.Encoder().encode


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


class Chunk:
    """At most MOST_A_SCRIPT messages of both kinds as ROUTE reads them; those that cannot be read come last."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.unreadable: list[tuple[Unreadable, str]] = []
        self.votes = 0
        self._columns: tuple[list[Any], ...] = tuple([] for _ in range(14))
        self._data: list[bytes] = []
        self._moment: tuple[datetime | None, int, str] = (None, 0, "")

    def add(self, turn: Turn) -> None:
        """A message and its legs. Raises ValueError after one that cannot be read."""
        if self.unreadable:
            raise ValueError(f"turn {turn.entry_id!r} after an unreadable message; valid: before them")
        self.turns.append(turn)
        message, text, at = turn.message, "", None
        name, tickers, number = message.message_id, message.tickers, len(self.turns)
        _, _, _, _, _, _, _, of, symbols, votes, urgent, ends, _, _ = self._columns
        for leg in turn.legs:
            if leg.vote is not None:
                at, text = at or leg.vote.at, message.fingerprint
                of.append(number)
                symbols.append(leg.symbol)
                votes.append(vote_json(leg.vote).decode())
                urgent.append(leg.fate is Fate.URGENT)
            elif leg.refusal is not None:
                refusal = leg.refusal
                ends.append((number, leg.leg_id, leg.outcome, refusal.rule, refusal.observed, refusal.limit))
        self.votes = len(of)
        first = first_symbol(message) or NO_SYMBOL
        self._head(name, text, at or message.message.received_at, first, tickers.primary or NO_SYMBOL, turn.entry_id)
        if turn.job is not None:
            self._queue(number, turn.job, tickers.primary)

    def bury(self, one: Unreadable, entry_id: str) -> None:
        """A message that cannot be read, and its stream entry: its null leg ends, and what there is of it is kept."""
        self.unreadable.append((one, entry_id))
        number = len(self.turns) + len(self.unreadable)
        self._head(one.message_id, "", one.at, NO_SYMBOL, NO_SYMBOL, entry_id)
        self._columns[11].extend((number, *row) for row in one.ends)
        if one.letter:
            self._columns[13].append((number, *one.letter))

    def packed(self) -> tuple[bytes, list[bytes]]:
        """ROUTE's argument, and the arguments that are the jobs' data."""
        return _pack(self._columns), self._data

    def _head(self, name: str, text: str, at: datetime, first: str, primary: str, entry_id: str) -> None:
        if at != self._moment[0]:
            self._moment = (at, to_ms(at), at.isoformat())
        _, ms, iso = self._moment
        ids, texts, moments, words, firsts, primaries, entries, *_ = self._columns
        ids.append(name)
        texts.append(text)
        moments.append(ms)
        words.append(iso)
        firsts.append(first)
        primaries.append(primary)
        entries.append(entry_id)

    def _queue(self, number: int, job: PackedJob, symbol: str | None) -> None:
        self._data.append(job.data)
        self._columns[12].append((number, job.key, job.job_id, symbol, FIRST_DATA + len(self._data), job.words))


class RouteScript:
    """Runs ROUTE on a server."""

    def __init__(self, client: Any, keys: Keys, duplicate_window_ms: int, recent_ms: int = RECENT_WINDOW_MS) -> None:
        self._script = SentScript(client, ROUTE)
        self._keys = keys
        self._settings = (duplicate_window_ms, OUTCOME_TTL_S, WINDOW_TTL_S, recent_ms, GROUP, DEAD_MAXLEN)

    def run(
        self, chunk: Chunk, line: Line, full: int, meanwhile: Callable[[], None] = nothing
    ) -> tuple[dict[int, str], list[str]]:
        """One round trip: answers by number, where it went otherwise, and full lists.

        `meanwhile` is done while the server works.
        """
        keys, (words, data) = self._keys, chunk.packed()
        names = [keys.seen_texts(), keys.seen_owners(), keys.tally(), keys.batches(), keys.analyzed(), keys.dead()]
        args = [keys.prefix, words, *self._settings, full, *data]
        answers, full_lists = self._script([*names, line.key, line.queues], args, meanwhile)
        return {int(number) - 1: str(answer) for number, answer in answers}, full_lists
