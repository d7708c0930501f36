"""`python -m tests.venue [--port N] [--seed N --share 0.3]`: prints its address and answers until SIGTERM."""

import argparse
import signal
import threading

from tests.venue.book import VenueBook
from tests.venue.server import LyingVenue
from tests.venue.toxics import RandomToxics


def main() -> None:
    """Serve until told to stop."""
    words = argparse.ArgumentParser()
    words.add_argument("--port", type=int, default=0)
    words.add_argument("--seed", type=int)
    words.add_argument("--share", type=float, default=0.3)
    words.add_argument("--max-seconds", type=float, default=30.0)
    words.add_argument("--cash", default="100000")
    said = words.parse_args()
    die = None if said.seed is None else RandomToxics(said.seed, said.share, max_seconds=said.max_seconds)
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    signal.signal(signal.SIGINT, lambda *_: done.set())
    with LyingVenue(random=die, port=said.port, book=VenueBook(said.cash)) as venue:
        print(venue.url, flush=True)  # noqa: T201 - the caller reads it
        done.wait()


if __name__ == "__main__":
    main()
