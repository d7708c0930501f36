"""What the children of a command run: the code is loaded here, once, and forked."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from setproctitle import getproctitle, setproctitle

if TYPE_CHECKING:
    from workers.supervisor import Verb
    from workers.wiring import Runtime


def preloaded(fleet: "Runtime") -> "Verb":
    """What a forked child runs, once everything is here that children would load one by one."""
    from workers import collect, exporter, work  # noqa: F401

    _ = fleet.sessions
    getproctitle()  # finds the title's place, which is not found any more when a child has an environment of its own
    return as_verb


def as_verb(words: Sequence[str]) -> None:
    """Do what the command line with these words does, in this process and under this name. Raises SystemExit."""
    from workers.cli import main

    sys.argv = ["fleet", *words]
    setproctitle(" ".join(sys.argv))
    main()
