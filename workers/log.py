"""What processes say: one event a line, named noun.verb_past, values as fields; JSON unless on a terminal.

Values come from strangers: control characters are shown as escapes (an author cannot move the cursor or forge a line),
and whatever looks like a secret is masked by its field's name or its place in an address.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

MASK: Final = "***"
SECRET_NAME: Final = re.compile(r"pass(word|wd|phrase)?$|secret|token|api_?key|authorization|credential", re.IGNORECASE)
CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]*@")
UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
LARGEST: Final = 2**63  # what JSON parsers bear; NaN and infinities are not below it either
TRACEBACK: Final = "exception"
TALKATIVE: Final = ("httpx", "httpcore", "urllib3")  # below a warning they show addresses, tokens included
INDISCREET: Final = "apprise"  # shows addresses in its errors too; what it answers is told by us
LIBRARIES: Final = ("rq.worker", "rq.job", "rq.queue", "rq.scheduler", "rq.cron")


def configure_log(
    level: str = "info", form: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None
) -> None:
    """Send our events and those of libraries to `stream` (standard error), each as one line. Idempotent."""
    out = stream or sys.stderr
    as_console = form == "console" or (form == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        harmless,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_of_library, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(colors=out.isatty())]
            if as_console
            else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _as_json],
        )
    )
    _install(handler, level.upper())


def _install(handler: logging.Handler, level: str) -> None:
    """One handler at the root; libraries that bring their own lose it."""
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger(INDISCREET).setLevel(logging.CRITICAL + 1)
    logging.captureWarnings(capture=True)


def _renderer(*, colors: bool) -> Processor:
    """Lines for people."""
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Lines for machines; what JSON cannot say is said as text."""
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _of_library(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A library's sentence as a field: our event names are fixed strings."""
    record: logging.LogRecord = event["_record"]
    return {**event, "event": "library.logged", "logger": record.name, "message": event["event"]}


def harmless(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The event with secrets masked and control characters as escapes, at every depth."""
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: Any) -> Any:
    """One value, by its field's name."""
    if name.startswith("_"):  # structlog's own luggage, never printed
        return value
    if SECRET_NAME.search(name) and value is not None:
        return MASK
    if isinstance(value, Mapping):
        return {str(key): _clean(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value if value is None or abs(value) < LARGEST else str(value)
    return _clean_text(str(value), keep="\n\t" if name == TRACEBACK else "")


def _clean_text(text: str, keep: str) -> str:
    """The text without credentials in addresses and without characters that act on a terminal."""
    masked = CREDENTIALS.sub(f"{MASK}@", text)
    return UNSAFE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), masked)


def _escape(character: str) -> str:
    r"""The character as Python would write it: \x1b, \u202e."""
    return ascii(character)[1:-1]
