"""What a venue can do wrong, one request at a time: scripted, or by a seeded die."""

import random
from dataclasses import asdict, dataclass
from typing import Any

#: Names and what they do. "made" says that the order (or withdrawal) really happens behind the answer.
KINDS = {
    "none": "answers as it should",
    "delay": "waits `seconds`, then answers as it should (made)",
    "late": "waits `seconds` before it does anything; the caller may be gone by then (made)",
    "accept_hang": "made, then silence for `seconds`",
    "hang": "silence for `seconds`, not made",
    "accept_504": "made, then status 504",
    "refuse_504": "status 504, not made",
    "accept_429": "made, then status 429",
    "rate_limit": "status 429 with Retry-After `seconds`, not made",
    "accept_422": "made, then status 422 duplicate_client_order_id",
    "deny_422": "status 422 duplicate_client_order_id, not made: a lie",
    "partial": "made, and only `quantity` shares fill at once",
    "no_stop": "made and filled, and its stop and target are refused",
    "rest": "made, and nothing fills yet",
    "half_closed": "made, then half an answer and the socket is closed for writing",
    "reset": "made, then the connection is cut",
    "close": "the connection is cut, not made",
    "garbage": "made, then bytes that are no JSON, with status 200",
    "wrong_shape": "made, then JSON of another shape, with status 200",
    "other_order": "made, then the report of another order",
    "float_money": "made, then a report with prices as JSON numbers",
    "drip": "made, then one byte each `seconds`, without end",
    "drip_head": "made, then one byte of the head each `seconds`, without end",
    "refuse": "status 403 insufficient_buying_power, not made",
    "redirect": "status 307 to itself, not made",
    "plain_404": "status 404 of a proxy, without a code, not made",
    "same_page": "made; a listing names the page it is as the next one",
    "lost_page": "made; a listing ends with this page, whatever comes after it",
    "huge": "made, then an answer without end",
}


#: After these a caller hears nothing, or one byte now and then: only its own bound ends the call.
SILENT = frozenset({"late", "accept_hang", "hang", "drip", "drip_head"})
FOR_EVER_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Toxic:
    """One wrong for one request. `method`: only the next request of this method ("" = whatever comes)."""

    kind: str
    seconds: float = 0.0
    quantity: int = 0
    method: str = "POST"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; valid: {', '.join(KINDS)}")

    def json(self) -> dict[str, Any]:
        """For the control endpoint."""
        return asdict(self)


class RandomToxics:
    """A toxic for about `share` of the requests, from `kinds`, the same for the same seed and order of requests."""

    def __init__(
        self, seed: int, share: float = 0.3, kinds: tuple[str, ...] = tuple(KINDS), max_seconds: float = 30.0
    ) -> None:
        self._die = random.Random(seed)
        self._share = share
        self._kinds = kinds
        self._max_seconds = max_seconds

    def __call__(self, method: str) -> Toxic:
        """The next request's toxic."""
        if self._die.random() >= self._share:
            return Toxic("none", method=method)
        kind = self._die.choice(self._kinds)
        seconds = self._die.random() * self._max_seconds
        return Toxic(kind, seconds, quantity=self._die.randint(1, 5), method=method)
