"""`fleet analyze`: what the analyzer says of posts, line by line; a bad line comes out with its reason."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer

from config.settings import load_settings
from pipeline.analyzer import LexiconAnalyzer, why_silent
from pipeline.errors import FleetError, InvalidInputError, SettingsError
from pipeline.models import AnalyzedMessage, SocialMessage
from pipeline.sentiment import Channel
from workers.adapters.posts import MAX_LINE_BYTES

app = typer.Typer()
_SOURCE = "line"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME_CHARACTERS = 256
_CHUNK = 50  # lines of a file that are read at once; of standard input each is answered when it comes


@app.command()
def analyze(
    file: Annotated[
        str, typer.Argument(help="JSON lines with `text` (and `id`, `source`), or plain text; - = standard input")
    ] = "-",
    channel: Annotated[
        Channel | None, typer.Option(help="read every line as this kind of channel; default: as its source is named")
    ] = None,
    symbols: Annotated[str | None, typer.Option(help="tradable symbols, by comma; default: the market's files")] = None,
) -> None:
    """Say what posts say: JSON lines in, JSON lines out, one for one. A bad line never stops the others."""
    analyzer = _analyzer(channel, symbols)
    if file != "-" and not Path(file).is_file():
        raise SettingsError(f"FILE is {file}; valid: a file, or - for standard input")
    with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream, suppress(BrokenPipeError):
        lines, at_once = read_lines(stream), 1 if file == "-" else _CHUNK
        while chunk := list(islice(lines, at_once)):
            sys.stdout.buffer.writelines(line + b"\n" for line in answers(analyzer, chunk))
        sys.stdout.buffer.flush()


def answers(analyzer: LexiconAnalyzer, lines: Sequence[tuple[int, bytes | None]]) -> list[bytes]:
    """The JSON line for each numbered line of input, in order; None is a line that was too long to be read."""
    found: list[dict[str, Any]] = []
    posts: list[SocialMessage] = []
    for number, line in lines:
        document: dict[str, Any] = {"id": number}
        try:
            fields = _fields(line)
            document["id"] = _plain(fields.get("id", number))
            posts.append(as_message(fields, number))
        except InvalidInputError as error:
            document |= {"error": error.reason, "detail": str(error)}
        found.append(document)
    read = iter(analyzer.analyze_all(posts))
    return [orjson.dumps(document if "error" in document else document | described(next(read))) for document in found]


def described(post: AnalyzedMessage) -> dict[str, Any]:
    """What there is to say of a post, without its words."""
    tickers, sentiment = post.tickers, post.sentiment
    named = (*tickers.symbols, *tickers.outside)
    found: dict[str, Any] = {
        "symbols": sorted(named, key=lambda symbol: symbol != tickers.primary),
        "tradable": tickers.symbols,
        "primary": tickers.primary,
        "label": sentiment.label,
        "score": round(sentiment.score, 6),
        "confidence": round(sentiment.confidence, 6),
        "spam": post.spam,
        "model": sentiment.model,
    }
    reason = why_silent(post.message.text)
    return found if reason is None else {**found, "reason": reason}


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines that hold something; None for one over 1 MiB, of which the rest is skipped."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        is_whole = len(line) <= MAX_LINE_BYTES or line.endswith(b"\n")
        while not is_whole:
            rest = stream.readline(MAX_LINE_BYTES)
            is_whole = not rest or rest.endswith(b"\n")
            line = b""
        if line.strip():
            yield number, line
        elif not line:
            yield number, None


def _fields(line: bytes | None) -> dict[str, Any]:
    """The fields of a JSON object, or a plain line as its text."""
    if line is None:
        raise InvalidInputError("line_too_long", f"line has more than {MAX_LINE_BYTES} bytes")
    text = line.strip().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if not text.startswith("{"):
        return {"text": text}
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("not_json", f"line is no JSON: {type(error).__name__}") from None
    return dict(fields)


def as_message(fields: dict[str, Any], number: int) -> SocialMessage:
    """The fields as a post to be read, not traded. Raises InvalidInputError without a text."""
    text = fields.get("text")
    if not isinstance(text, str):
        raise InvalidInputError("missing_field", f"text is a {type(text).__name__}; valid: text")
    source = fields.get("source")
    return SocialMessage.model_construct(
        message_id=f"{_SOURCE}-{number}",
        source=source if isinstance(source, str) else _SOURCE,
        source_id=str(number),
        created_at=_EPOCH,
        received_at=_EPOCH,
        author=_plain(fields.get("author", "")),
        followers=None,
        text=text,
    )


def _plain(value: object) -> Any:
    """A name that can be written as JSON."""
    if isinstance(value, int) and abs(value) < 1 << 53:
        return value
    return str(value)[:_NAME_CHARACTERS].encode("utf-8", "replace").decode()


def _analyzer(channel: Channel | None, symbols: str | None) -> LexiconAnalyzer:
    settings = load_settings()
    return LexiconAnalyzer(_universe(settings, symbols), settings.analyzer, settings.tickers, channel=channel)


def _universe(settings: Any, symbols: str | None) -> frozenset[str]:
    """The symbols given, else the market's; none where there is no market data yet."""
    if symbols is not None:
        return frozenset(symbol.strip() for symbol in symbols.split(",") if symbol.strip())
    from workers.wiring import Runtime  # noqa: PLC0415  # RQ reads its key prefix when it is imported

    try:
        return Runtime(settings).universe
    except FleetError:
        return frozenset()
