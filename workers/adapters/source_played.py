"""A recording's posts played over and over: each is due when its moment comes round again, with an id of its own."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.errors import InvalidInputError, SettingsError
from workers.adapters.lines import Mark, RawPost
from workers.adapters.playback import Playback
from workers.adapters.posts import parse_post
from workers.adapters.source_jsonl import JsonlSource

CATCH_UP: Final = timedelta(seconds=15)  # what was due before is left out: it would only end as expired
CHUNK: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Post:
    """A recorded post and the moment it is played at."""

    at: datetime
    fields: dict[str, Any]


class PlayedSource:
    """Posts of `path` between the playback's ends, without end. Lines that are no posts are left out.

    A round's posts have the same ids wherever and whenever they are read, so two collectors, or one that was killed,
    add nothing: what was accepted before is refused as `duplicate_id`.
    """

    def __init__(self, path: Path, playback: Playback, now: Callable[[], datetime]) -> None:
        self._path = path
        self._playback = playback
        self._now = now
        self._posts: list[_Post] = []
        self._next = (0, 0)

    @property
    def ended(self) -> bool:
        """Never."""
        return False

    def connect(self, mark: Mark | None = None) -> None:
        """Read the recording; go on after `mark`. Raises SettingsError for a file without a post to play."""
        self._posts = _posts_of(self._path, self._playback)
        if not self._posts:
            raise SettingsError(
                f"source.path = {self._path} has no post from playback.first = {self._playback.first.isoformat()} "
                f"to playback.last = {self._playback.last.isoformat()}"
            )
        number = mark.identity.removeprefix("round-") if mark is not None else ""
        self._next = (int(number), mark.offset) if mark is not None and number.isdigit() else (0, 0)

    def read(self, limit: int) -> list[RawPost]:
        """Up to `limit` posts that became due since the last one, but not those of more than 15 s ago."""
        now = self._now()
        since = self._place(now - CATCH_UP)
        until = self._place(now)
        place = max(self._next, since)
        found: list[RawPost] = []
        while place < until and len(found) < limit:
            number, index = place
            if index < len(self._posts):
                found.append(self._raw(number, index))
                place = (number, index + 1)
            else:
                place = (number + 1, 0)
        self._next = place
        return found

    def close(self) -> None:
        """Let go of the posts. Idempotent."""
        self._posts = []

    def _place(self, at: datetime) -> tuple[int, int]:
        """The round of `at` and how many of its posts are due by then."""
        recorded = self._playback.recorded(at)
        return self._playback.round_of(at), bisect_right(self._posts, recorded, key=lambda post: post.at)

    def _raw(self, number: int, index: int) -> RawPost:
        post = self._posts[index]
        at = self._playback.played(number, post.at)
        line = orjson.dumps(post.fields | {"id": f"{number}-{post.fields['id']}", "created_at": at})
        return RawPost(line, Mark(f"round-{number}", index + 1))


def _posts_of(path: Path, playback: Playback) -> list[_Post]:
    """The posts between the playback's ends, by time."""
    source, found = JsonlSource(path, tail=False), []
    source.connect()
    while lines := source.read(CHUNK):
        for raw in lines:
            try:
                at = parse_post(raw.line, None).received_at
            except InvalidInputError:
                continue
            if playback.first <= at < playback.last:
                fields = orjson.loads(raw.line)
                fields.pop("received_at", None)
                found.append(_Post(at, fields))
    source.close()
    return sorted(found, key=lambda post: post.at)
