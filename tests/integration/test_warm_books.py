"""The books of a job: what RQ's own worker would have written, in few round trips, and nothing twice."""

import logging
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from rq import Worker
from rq.job import JobStatus
from rq.suspension import resume, suspend

from tests.warm import Hand, Play, spoken, until, warm_worker
from tests.warm_play import play as act_out
from workers import jobs
from workers.adapters.rq_factory import IMMEDIATE, worker_options


@pytest.fixture
def play(server_url: str, redis_client: redis.Redis) -> Play:
    """Jobs on an empty server."""
    return Play(server_url)


# ---- as RQ writes them -------------------------------------------------------------------------------------


def shapes(client: Any) -> dict[str, Any]:
    """Every key, with ids and names made equal: its type, its fields, whether it expires."""
    found = {}
    for key in client.scan_iter(count=1000):
        kind, life = client.type(key).decode(), client.ttl(key)
        fields: Any = sorted(client.hgetall(key)) if kind == "hash" else None
        if kind == "stream":
            fields = sorted(client.xrange(key)[0][1])
        found[re.sub(r"[0-9a-f]{32}|work-immediate-\S*?-\d+", "ID", key.decode())] = (kind, fields, life > 0)
    return {key: facts for key, facts in found.items() if "clean_" not in key and "played" not in key}


def by_rq(play: Play) -> None:
    """Run what waits with RQ's own worker."""
    options = worker_options(play.queue, f"work-immediate-host-{uuid4().int % 10**6}")
    Worker([play.queue], **options).work(burst=True, logging_level="CRITICAL")
    logging.getLogger("rq.worker").setLevel(logging.NOTSET)


def by_warm_worker(play: Play, url: str) -> None:
    """Run what waits with ours."""
    with warm_worker(url, {}, {"burst": True}) as process:
        process.wait(120)


@pytest.mark.parametrize("act", ["pid", "noop", "raise-x", "kill", "unwritable"])
def test_the_whole_keyspace_is_what_rqs_own_worker_leaves(
    play: Play, server_url: str, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: types, fields and lives of every key; then whatever reads RQ's books reads ours."""
    monkeypatch.setattr(jobs, "trade", act_out)
    play.put(act)
    by_rq(play)
    theirs = shapes(play.client)
    play.client.flushall()
    play.put(act)
    by_warm_worker(play, server_url)
    ours = shapes(play.client)

    assert len(theirs) >= 4
    assert ours == theirs


# ---- round trips -------------------------------------------------------------------------------------------


@pytest.fixture
def worker(server_url: str, play: Play) -> Iterator[int]:
    """A worker that has run a job; its process id."""
    with warm_worker(server_url) as process:
        play.run("noop")
        yield process.pid


def test_a_job_in_a_row_costs_two_round_trips(play: Play, worker: int) -> None:
    """Rule: one script when it begins, one when it ends, which takes the next. Ten jobs more: twenty more."""
    counts = []
    for number in (5, 15):
        suspend(play.client)
        until(play.is_suspended)
        row = [play.put("noop", "QUIET") for _ in range(number)]

        def run_them(row: list[str] = row) -> None:
            resume(play.client)
            play.end_of(row[-1])

        counts.append(spoken(play.client, worker, run_them))

    assert [words.count("EVALSHA") for words in counts] == [10, 30]
    assert [words.count("HGETALL") for words in counts] == [1, 1]


def test_a_job_that_comes_alone_costs_four_round_trips(play: Play, worker: int) -> None:
    """Rule: taken, read, begun, ended; the second end finds the queue empty, so the worker waits again."""
    words = spoken(play.client, worker, lambda: play.run("noop"))
    first = words.index("HGETALL")

    assert words[first : first + 4] == ["HGETALL", "EVALSHA", "EVALSHA", "BLMOVE"]
    assert set(words[:first]) <= {"BLMOVE", "MULTI", "HSET", "EXPIRE", "EXISTS", "EXEC"}  # an idle worker's own


# ---- nothing twice, nothing for another --------------------------------------------------------------------


@pytest.fixture
def hand(play: Play) -> Hand:
    """On an empty server."""
    return Hand(play)


def test_a_beginning_that_is_sent_twice_is_one_beginning(play: Play, hand: Hand) -> None:
    """Rule: the client repeats what lost its answer."""
    play.put("noop")
    job_id = hand.takes()

    assert (hand.begins(), hand.begins()) == (True, True)
    assert play.queue.started_job_registry.get_job_ids(cleanup=False) == [job_id]
    assert play.job(job_id).get_status() == JobStatus.STARTED
    assert play.queues.taken(IMMEDIATE) == []


def test_a_job_that_was_put_back_meanwhile_is_not_begun(play: Play, hand: Hand) -> None:
    """Rule: whoever looks after dead workers may be wrong; then the job runs once all the same."""
    play.put("noop")
    job_id = hand.takes()
    play.queues.recover_taken([job_id])

    assert hand.begins() is False
    assert play.job(job_id).get_status() == JobStatus.QUEUED
    assert play.queue.job_ids == [job_id]


def test_a_job_that_was_deleted_meanwhile_is_not_begun(play: Play, hand: Hand) -> None:
    """Rule: and its hash is not brought back."""
    play.put("noop")
    job_id = hand.takes()
    play.client.delete(hand.job.key)

    assert hand.begins() is False
    assert not play.client.exists(f"rq:job:{job_id}")


def test_an_end_that_is_sent_twice_counts_once_and_takes_one_job(play: Play, hand: Hand) -> None:
    """Rule: the second answer is the first: the same next job, one result, one more in the counter."""
    ids = [play.put("noop") for _ in range(3)]
    hand.takes()
    hand.begins()
    first, again = hand.ends(), hand.ends()

    assert (first.ours, again.ours) == (True, False)
    assert first.taken == again.taken == ids[1].encode()
    assert first.fields == again.fields == play.client.hgetall(f"rq:job:{ids[1]}")
    assert play.queues.taken(IMMEDIATE) == [ids[1]]
    assert play.queue.job_ids == [ids[2]]
    assert play.client.hget("rq:worker:work-immediate-host-7", "successful_job_count") == b"1"
    assert len(play.job(ids[0]).results()) == 1


def test_an_end_takes_nothing_when_it_shall_not_or_nothing_waits(play: Play, hand: Hand) -> None:
    """Rule: a worker that is asked to end, and one whose queue is empty."""
    ids = [play.put("noop"), play.put("noop")]
    hand.takes()
    hand.begins()
    assert hand.ends(take=False).taken is None
    assert play.queue.job_ids == [ids[1]]
    hand.takes()
    hand.begins()

    assert hand.ends().taken is None


def test_a_job_that_was_declared_abandoned_is_not_ended_by_its_first_worker(play: Play, hand: Hand) -> None:
    """Rule: its repetition is queued already: status and result are the repetition's."""
    job_id = play.put("noop")
    hand.takes()
    hand.begins()
    assert hand.books.owns(hand.execution)
    play.queues.recover_worker(7)  # another host's: left alone
    assert hand.books.owns(hand.execution)
    play.queue.started_job_registry.cleanup(timestamp=2**40)

    assert not hand.books.owns(hand.execution)
    assert hand.ends(take=False).ours is False
    assert play.job(job_id).get_status() == JobStatus.QUEUED
    assert play.job(job_id).results() == []


def test_what_is_given_back_is_first_in_line_once(play: Play, hand: Hand) -> None:
    """Rule: also when it was put back by somebody else in between."""
    ids = [play.put("noop"), play.put("noop")]
    hand.takes()

    assert (hand.books.give_back(hand.job), hand.books.give_back(hand.job)) == (True, False)
    assert play.queue.job_ids == ids


def test_a_next_job_that_is_no_hash_stops_nobody(play: Play, hand: Hand) -> None:
    """Rule: whoever can write to Redis can put anything there; it is judged like any other."""
    play.put("noop")
    play.client.set("rq:job:odd", "x")
    play.client.rpush(play.queue.key, "odd")
    hand.takes()
    hand.begins()
    told = hand.ends()

    assert (told.ours, told.taken, told.fields) == (True, b"odd", {})
    assert play.queue.admit(told.taken, told.fields) is None
    assert play.queues.taken(IMMEDIATE) == []


def test_a_next_id_that_is_none_is_a_dead_letter(play: Play) -> None:
    """Rule: the same for an id that no job of ours can have."""
    play.client.rpush(play.queue.intermediate_queue_key, "no id!")

    assert play.queue.admit(b"no id!", {}) is None
    assert play.queues.taken(IMMEDIATE) == []
    until(lambda: play.client.xlen("fleet:dead") == 1)
