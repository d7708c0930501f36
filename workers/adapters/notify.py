"""Telling people: one call to the address of the settings, which ends in time and never shows the address."""

import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from config.watch import WatchSettings
from pipeline.errors import FleetError, SettingsError
from workers.adapters.alarms import RECOVERED, REMINDED, Notice
from workers.adapters.http_bounded import post_json
from workers.alarm_codes import CODES, Code

SUCCESS: Final = range(200, 300)
DETAIL: Final = 300  # characters of what was seen
UNKNOWN: Final = Code("critical", "an alarm of another release")


class NotToldError(FleetError):
    """Nobody was told, or nobody said so in time; asking again is right. The address is never part of it."""


class Messenger(Protocol):
    """Takes notices to people."""

    def tell(self, notices: Sequence[Notice]) -> None:
        """Tell them all in one message. Raises NotToldError."""
        ...


class LogMessenger:
    """Without an address the log line of the teller is the message."""

    def tell(self, notices: Sequence[Notice]) -> None:
        """Nothing more is to be done."""


class Words:
    """What a message says: lines for people, fields for machines. Never a post's text."""

    def __init__(self, environment: str, runbook: str) -> None:
        self._environment = environment
        self._runbook = runbook

    def line(self, notice: Notice) -> str:
        """One notice for people, with the page that says what to do."""
        about, name = CODES.get(notice.code, UNKNOWN), f"{notice.code} {notice.subject}".rstrip()
        detail = " ".join(notice.detail.split())[:DETAIL]
        if notice.event == RECOVERED:
            return f"[{self._environment}] RECOVERED {name} (was: {detail})"
        word = about.severity.upper()
        if notice.event == REMINDED:
            word, detail = f"STILL {word}", f"since {notice.since}: {detail}"
        return f"[{self._environment}] {word} {name}: {about.title} ({detail}). {self.page(notice.code)}"

    def page(self, code: str) -> str:
        """Where the runbook speaks of it."""
        return f"{self._runbook}#{code}"

    def document(self, notices: Sequence[Notice]) -> dict[str, Any]:
        """The JSON of a webhook; `text` is what Slack, Mattermost and others show."""
        return {
            "v": 1,
            "environment": self._environment,
            "text": "\n".join(map(self.line, notices)),
            "alarms": [
                {
                    "id": notice.id,
                    "event": notice.event,
                    "code": notice.code,
                    "severity": CODES.get(notice.code, UNKNOWN).severity,
                    "subject": notice.subject,
                    "detail": notice.detail[:DETAIL],
                    "at": notice.at,
                    "since": notice.since,
                    "runbook": self.page(notice.code),
                }
                for notice in notices
            ],
        }


class Webhook:
    """One JSON POST to an http(s) address."""

    def __init__(self, url: str, seconds: float, words: Words) -> None:
        self._url = url
        self._seconds = seconds
        self._words = words

    def tell(self, notices: Sequence[Notice]) -> None:
        """Any 2xx is a yes."""
        status = post_json(self._url, self._words.document(notices), self._seconds)
        if status not in SUCCESS:
            raise NotToldError(f"it answered {status}" if status else "no answer in time")


class Apprise:
    """Any other service, through apprise. It bounds no call as a whole, so it works in a thread that may be left."""

    def __init__(self, url: str, seconds: float, words: Words) -> None:
        """Raises SettingsError without the package, or for an address it does not know."""
        try:
            import apprise  # noqa: PLC0415  # an extra
        except ImportError:
            raise SettingsError("watch.url is apprise's and it is not installed; valid: the extra `notify`") from None
        self._target: Any = apprise.Apprise()
        if not self._target.add(url):
            raise SettingsError("watch.url has a scheme apprise does not know; see its list of services")
        self._seconds = seconds
        self._words = words
        self._running: threading.Thread | None = None

    def tell(self, notices: Sequence[Notice]) -> None:
        """One message of several lines."""
        if self._running is not None and self._running.is_alive():
            raise NotToldError("the call before this one still hangs")
        body, answers = "\n".join(map(self._words.line, notices)), []

        def call() -> None:
            answers.append(bool(self._target.notify(body=body, title="signal-fleet")))

        self._running = threading.Thread(target=call, name="notify", daemon=True)
        self._running.start()
        self._running.join(self._seconds)
        if answers != [True]:
            raise NotToldError("it said no" if answers else "no answer in time")


def messenger(settings: WatchSettings, environment: str) -> Messenger:
    """Who tells, by the scheme of the address. Raises SettingsError for one that nobody knows."""
    if settings.url is None:
        return LogMessenger()
    url, words = settings.url.get_secret_value(), Words(environment, settings.runbook)
    kind = Webhook if urlsplit(url).scheme in {"http", "https"} else Apprise
    return kind(url, settings.call_s, words)
