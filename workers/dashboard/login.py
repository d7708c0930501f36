"""Who may look: one password, compared in constant time and tried slowly; sessions that end; tokens of forms."""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

TRIES: Final = 5
TRIES_WITHIN_S: Final = 60.0
MOST_ADDRESSES: Final = 1_000
MOST_ENDED: Final = 10_000
SCRYPT: Final = {"n": 2**14, "r": 8, "p": 1}
SALT: Final = b"signal-fleet dashboard sessions 1"


def session_key(password: str) -> bytes:
    """The key that signs session cookies: the same for every dashboard of this password, another after a new one."""
    return hashlib.scrypt(password.encode(), salt=SALT, dklen=32, **SCRYPT)


def same(given: str, known: str) -> bool:
    """Whether two texts are equal, in a time that tells neither where they differ nor how long the known one is."""
    one, other = (hashlib.sha256(text.encode()).digest() for text in (given, known))
    return hmac.compare_digest(one, other)


def token() -> str:
    """A word nobody can guess."""
    return secrets.token_urlsafe(24)


@dataclass(slots=True)
class Tries:
    """Failed logins by address: after 5 in a minute the next waits. Remembers the last 1,000 addresses that failed."""

    monotonic: Callable[[], float]
    _failed: "OrderedDict[str, deque[float]]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try again; 0 = now."""
        with self._lock:
            failed, now = self._failed.get(address), self.monotonic()
            if failed is None or len(failed) < TRIES:
                return 0.0
            return max(0.0, failed[0] + TRIES_WITHIN_S - now)

    def failed(self, address: str) -> None:
        """One more."""
        with self._lock:
            self._failed.setdefault(address, deque(maxlen=TRIES)).append(self.monotonic())
            self._failed.move_to_end(address)
            while len(self._failed) > MOST_ADDRESSES:
                self._failed.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget the failures of the address."""
        with self._lock:
            self._failed.pop(address, None)


@dataclass(slots=True)
class Ended:
    """Sessions that were ended before their time: a cookie that was copied is worth nothing after the logout."""

    _names: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self, name: str) -> None:
        """This one is over."""
        with self._lock:
            self._names[name] = None
            while len(self._names) > MOST_ENDED:
                self._names.popitem(last=False)

    def __contains__(self, name: object) -> bool:
        """Whether it is over."""
        with self._lock:
            return name in self._names
