"""Posts that say themselves how they are read."""

from dataclasses import dataclass
from datetime import datetime

import orjson


@dataclass(frozen=True)
class Post:
    """What somebody says of some symbols; None says nothing that can be read.

    `echo`: in the same words as others. `deliveries`: how often the source gives it.
    """

    opinion: str | None
    named: str
    urgent: bool
    echo: bool = False
    deliveries: int = 1

    def line(self, number: int, at: datetime) -> bytes:
        """As the source gives it."""
        if self.opinion is None:
            return b'{"id": ' + str(number).encode()
        words = f"{self.opinion} {0.95 if self.urgent else 0.7} {self.named}"
        text = words if self.echo else f"{words} {number}"
        who = {"id": str(number), "source": "t", "author": f"author-{number}"}
        return orjson.dumps(who | {"created_at": at.isoformat(), "text": text})
