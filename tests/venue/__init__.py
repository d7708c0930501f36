"""A venue that may lie: a local HTTP server with a book of its own. Run it with `python -m tests.venue`.

    with LyingVenue(script=[Toxic("accept_504")]) as venue:
        broker = HttpBroker(BoundedHttp(venue.settings()))
        ...
        venue.book().orders

`LyingVenue` answers in a thread of this process; `VenueProcess` starts the same thing as a process of its own, whose
book and toxics are reached over its control endpoint (`POST /control/...`), as a crash of the fleet does not touch it.
"""

from tests.venue.book import Book, Event, VenueBook
from tests.venue.process import VenueProcess
from tests.venue.server import LyingVenue
from tests.venue.toxics import FOR_EVER_S, KINDS, SILENT, RandomToxics, Toxic

__all__ = [
    "FOR_EVER_S",
    "KINDS",
    "SILENT",
    "Book",
    "Event",
    "LyingVenue",
    "RandomToxics",
    "Toxic",
    "VenueBook",
    "VenueProcess",
]
