"""The collector's turn: source posts become analyzed messages in the inbox; what cannot be used is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from pipeline.errors import InvalidInputError, SettingsError
from pipeline.models import AnalyzedMessage, OrchestratorState, SocialMessage
from pipeline.ports import AnalyzerManager
from workers.adapters.clock import HostClock
from workers.adapters.inbox_redis import RedisInbox
from workers.adapters.lines import RawPost, Source
from workers.adapters.marks_redis import RedisMarks
from workers.adapters.posts import parse_post
from workers.adapters.source_jsonl import JsonlSource
from workers.adapters.source_played import PlayedSource
from workers.adapters.source_stdin import StdinSource
from workers.adapters.source_webhook import WebhookSource

if TYPE_CHECKING:
    from workers.wiring import Runtime

PATIENCE_S = 0.5  # a turn waits so long for a first post, in the source: it is handed over when it comes

log = structlog.get_logger()


@dataclass(slots=True)
class Intake:
    """Parses, analyzes and appends lines. Counts what it saw since it was built."""

    inbox: RedisInbox
    analyzer: AnalyzerManager
    known_sources: frozenset[str] = frozenset()
    read: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def take(self, lines: Sequence[bytes], now: datetime | None) -> list[AnalyzedMessage]:
        """Hand lines over in order; answers the messages that were new. One bad line never loses another.

        `now` is when they became known; None in a recording, where that was when they were posted or received.
        """
        posts = [post for line in lines if (post := self.parse(line, now)) is not None]
        return self.append(self.analyze_all(posts))

    def parse(self, line: bytes, now: datetime | None) -> SocialMessage | None:
        """One line as a post, or None after it was kept as a dead letter with its reason."""
        self.read += 1
        try:
            return parse_post(line, now, self.known_sources)
        except InvalidInputError as error:
            self.refuse("collector", error.reason, str(error), line)
            return None

    def analyze_all(self, posts: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        """The posts analyzed, in order, without those that the analyzer fails on: they are found one by one."""
        try:
            return self.analyzer.analyze_all(posts)
        except Exception:  # noqa: BLE001  # told below, by the post it is of
            return [message for post in posts if (message := self.analyze(post)) is not None]

    def analyze(self, message: SocialMessage) -> AnalyzedMessage | None:
        """The post analyzed, or None after it was kept as a dead letter (seed: a failing analyzer skips it)."""
        try:
            return self.analyzer.analyze(message)
        except Exception as error:  # noqa: BLE001  # seed: a failing analyzer skips the message
            self.refuse("analyzer", "analyzer_error", f"{type(error).__name__}: {error}", message.text.encode())
            return None

    def append(self, messages: Sequence[AnalyzedMessage]) -> list[AnalyzedMessage]:
        """Append analyzed messages; an id that was accepted before is refused as `duplicate_id`."""
        is_new = self.inbox.append(messages)
        self._count(is_new)
        return [message for message, new in zip(messages, is_new, strict=True) if new]

    def append_bodies(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        """The same for messages that are written already: id and body."""
        self._count(self.inbox.append_bodies(bodies))

    def _count(self, is_new: Sequence[bool]) -> None:
        self.accepted += sum(is_new)
        if repeated := len(is_new) - sum(is_new):
            self.refused["duplicate_id"] = self.refused.get("duplicate_id", 0) + repeated

    def refuse(self, stage: str, reason: str, detail: str, raw: bytes) -> None:
        """Keep a line that cannot be used and count it."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        self.inbox.bury(stage, reason, detail, raw)
        log.warning("message.refused", stage=stage, reason=reason, detail=detail[:200])


@dataclass(slots=True)
class Collector:
    """One turn: read from the source, hand over, then move the high-water mark."""

    intake: Intake
    source: Source
    marks: RedisMarks
    channel: str
    state: Callable[[], OrchestratorState]
    now: Callable[[], datetime | None]
    chunk: int = 200
    max_waiting: int = 100_000
    handed_over: Callable[[], None] = lambda: None  # tells a sender that waits
    _in_hand: list[RawPost] = field(default_factory=list)

    def connect(self) -> None:
        """Open the source where the last life of this channel stopped."""
        self.source.connect(self.marks.read(self.channel))

    @property
    def ended(self) -> bool:
        """Whether the source will never give anything again and all it gave was handed over."""
        return self.source.ended and not self._in_hand

    def step(self) -> int:
        """How many posts were handed over; nothing is read unless the fleet is RUNNING and routers keep up.

        Posts that could not be handed over (Redis was away) stay in hand and go first next time; `handed_over` is
        called once they are safe.
        """
        if self.state() is not OrchestratorState.RUNNING:
            return 0
        if self.intake.inbox.waiting() >= self.max_waiting:
            log.warning("intake.paused", waiting_at_least=self.max_waiting)
            return 0
        self._in_hand = self._in_hand or self.source.read(self.chunk)
        if not self._in_hand:
            return 0
        self.intake.take([post.line for post in self._in_hand], self.now())
        self.marks.write(self.channel, self._in_hand[-1].mark)
        self.handed_over()
        done, self._in_hand = len(self._in_hand), []
        return done


def _nobody_waits() -> None:
    """A file does not want to know."""


def build_collector(fleet: "Runtime") -> Collector:
    """The collector of the configured source, connected where its last life stopped."""
    source = fleet.settings.source
    webhook: WebhookSource | None = None
    if source.kind == "webhook":
        if source.token is None:
            raise SettingsError("source.token is not set; valid: FLEET_SOURCE__TOKEN or a secret file")
        webhook = WebhookSource(source.host, source.port, source.token.get_secret_value())
        feed: Source = webhook
    elif source.kind == "stdin":
        feed = StdinSource()
    elif source.path is None:
        raise SettingsError("source.path is not set; valid: a file of JSON lines (FLEET_SOURCE__PATH)")
    elif fleet.playback is not None:
        feed = PlayedSource(source.path, fleet.playback, HostClock().now)
    else:
        feed = JsonlSource(source.path, tail=source.tail, patience_s=PATIENCE_S)
    marks = RedisMarks(fleet.client, fleet.keys)
    collector = Collector(
        fleet.intake(),
        feed,
        marks,
        source.channel,
        fleet.state.read,
        HostClock().now if fleet.settings.clock == "live" else lambda: None,
        max_waiting=fleet.settings.orchestrator.max_buffered_total,
        handed_over=webhook.handed_over if webhook else _nobody_waits,
    )
    collector.connect()
    return collector
