"""The venue as a process of its own, for tests that kill everything else."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.venue.book import Book, Event
from tests.venue.server import KEY
from tests.venue.toxics import KINDS, Toxic

ROOT = Path(__file__).parents[2]


class VenueProcess:
    """Starts `python -m tests.venue`, which prints its address, and stops it at the end."""

    def __init__(self, seed: int | None = None, share: float = 0.3, cash: str = "100000") -> None:
        die = [] if seed is None else ["--seed", str(seed), "--share", str(share)]
        self._options = ["--cash", cash, *die]
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.venue", *self._options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def environment(self) -> dict[str, str]:
        """The variables that make a fleet trade here."""
        return {
            "FLEET_VENUE__KIND": "http",
            "FLEET_VENUE__BASE_URL": self.url,
            "FLEET_VENUE__API_KEY": KEY,
            "FLEET_VENUE__SANDBOX": "true",
        }

    def book(self) -> Book:
        """What it really has."""
        found = self._call("/control/book", None)
        return Book(**found | {"events": [Event(**event) for event in found["events"]]})

    def summary(self) -> dict[str, Any]:
        """Cash, equity, positions, working entries, number of orders; no toxic touches this."""
        return dict(self._call("/control/summary", {}))

    def poison(self, *toxics: Toxic) -> None:
        """Add toxics to the end of the script."""
        self._call("/control/toxics", {"script": [toxic.json() for toxic in toxics]})

    def set_random(
        self, seed: int, share: float = 0.3, kinds: tuple[str, ...] = tuple(KINDS), max_seconds: float = 30.0
    ) -> None:
        """Throw this die from now on."""
        self._call("/control/random", {"seed": seed, "share": share, "kinds": kinds, "max_seconds": max_seconds})

    def heal(self) -> None:
        """No more toxics."""
        self._call("/control/heal", {})

    def fill(self, client_order_id: str, quantity: int, price: str | None = None, at: str | None = None) -> None:
        """Fill more of an entry."""
        self._call(
            "/control/fill", {"client_order_id": client_order_id, "quantity": quantity, "price": price, "at": at}
        )

    def move(self, symbol: str, price: str, at: str) -> None:
        """Trade at this price: stops and targets fill."""
        self.moves([(symbol, price)], at)

    def moves(self, moves: Sequence[tuple[str, str]], at: str) -> None:
        """The same for many symbols and prices, one after the other, in one call."""
        self._call("/control/move", {"moves": list(moves), "at": at})

    def expire(self, client_order_id: str, at: str) -> None:
        """End what has not filled of an entry."""
        self._call("/control/expire", {"client_order_id": client_order_id, "at": at})

    def requests(self) -> list[tuple[str, str, str]]:
        """Every request so far: method, path, toxic."""
        return [tuple(one) for one in self._call("/control/requests", {})]

    def _call(self, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=60) as answer:  # noqa: S310 - loopback
            return json.loads(answer.read())
