"""What collecting a post costs beside its analysis: parsed, analyzed by one that knows the answer, appended.

`python -m tests.benchmarks.bench_collect [--rounds N] [--json FILE]` prints a markdown table.
"""

from typing import Final

import orjson

from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage, TickerReading
from tests.benchmarks.rates import Sample, a_fleet, measured, reference, run
from tests.delivery import NOON
from workers.collect import Intake

POSTS: Final = 20_000
CHUNK: Final = 200
SENTIMENT: Final = Sentiment(label=Label.BULLISH, score=0.5, confidence=0.7, model="trivial")
TICKERS: Final = TickerReading(symbols=("AAPL",), primary="AAPL", cashtags=1)


class TrivialAnalyzer:
    """Knows the answer."""

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        """Always the same."""
        return AnalyzedMessage(
            message=message, sentiment=SENTIMENT, tickers=TICKERS, fingerprint=message.message_id[-20:]
        )


def line(number: int) -> bytes:
    """One post of 140 characters as a source gives it."""
    post = {"id": str(number), "created_at": NOON, "source": "stocktwits", "author": f"author{number}", "followers": 9}
    return orjson.dumps(post | {"text": f"$AAPL number {number} " + "is what people talk about today, " * 4})


def one_round() -> list[Sample]:
    """The reference, then the posts."""
    lines = [line(number) for number in range(POSTS)]
    with a_fleet() as fleet:
        samples = [reference(fleet.client)]
        intake = Intake(fleet.inbox, TrivialAnalyzer())

        def work() -> None:
            for start in range(0, POSTS, CHUNK):
                intake.take(lines[start : start + CHUNK], NOON)

        samples.append(measured("collect, 200 a turn", POSTS, fleet.client, work))
        if intake.accepted != POSTS:
            raise RuntimeError(f"accepted {intake.accepted}; valid: {POSTS}")
    return samples


if __name__ == "__main__":
    run(__doc__, "posts", one_round)
