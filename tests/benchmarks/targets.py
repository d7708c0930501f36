"""What each measured number shall be, on two cores that nothing else uses."""

from typing import Final

from tests.benchmarks.figures import Target, at_least

AT_MOST: Final = Target

#: By the name of the figure.
TARGETS: Final[dict[str, Target]] = {
    "warm worker: no-op jobs/s": at_least(2_000),
    "warm worker: start p50 at 200/s, ms": AT_MOST(1.5),
    "warm worker: start p99 at 200/s, ms": AT_MOST(6),
    "warm worker: round trips a job, in a row": AT_MOST(6),
    "warm worker: round trips a job, alone": AT_MOST(6),
    "next start after exit, ms": AT_MOST(50),
    "next start after raise, ms": AT_MOST(50),
    "next start after SIGKILL, ms": AT_MOST(50),
    "next start after segfault, ms": AT_MOST(50),
    "next start after out of memory, ms": AT_MOST(50),
    "next start after a hang in C, ms": AT_MOST(50),
    "router: votes, messages/s": at_least(60_000),
    "router: 10 % urgent, messages/s": at_least(25_000),
    "drain: claim 1,000 symbols x 100 votes, ms": AT_MOST(150),
    "drain: decide them all, ms": AT_MOST(3_000),
    "collector: trivial analyzer, messages/s": at_least(10_000),
    "post to order: p50 at 200/s, 10 % urgent, ms": AT_MOST(10),
    "post to order: p99 at 200/s, 10 % urgent, ms": AT_MOST(50),
    "replay, ordered, messages/s": at_least(3_000),
    "replay, unordered, messages/s": at_least(3_000),
    "idle fleet, % of a core": AT_MOST(2),
    "fleet run ready, s": AT_MOST(3),
    "1,000,000 votes on 1,000 symbols, bytes a vote": AT_MOST(600),
}
