"""What collecting a post costs beside its analysis: parsed, analyzed by one that knows the answer, appended.

200 posts a turn. `python -m tests.benchmarks.bench_collect [--rounds N] [--quick]` prints a markdown table.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import orjson

from pipeline.models import AnalyzedMessage, Label, Sentiment, SocialMessage, TickerReading
from tests.benchmarks.figures import Figure
from tests.benchmarks.plan import Plan, alone
from tests.benchmarks.rates import a_fleet, figure, measured, reference
from tests.delivery import NOON
from workers.collect import Intake

POSTS: Final = 20_000
CHUNK: Final = 200
NAME: Final = "collector: trivial analyzer, messages/s"
SENTIMENT: Final = Sentiment(label=Label.BULLISH, score=0.5, confidence=0.7, model="trivial")
TICKERS: Final = TickerReading(symbols=("AAPL",), primary="AAPL", cashtags=1)


class TrivialAnalyzer:
    """Knows the answer."""

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        """Always the same."""
        return AnalyzedMessage(
            message=message, sentiment=SENTIMENT, tickers=TICKERS, fingerprint=message.message_id[-20:]
        )

    def analyze_all(self, messages: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        """One by one: there is nothing to gain."""
        return [self.analyze(message) for message in messages]


def line(number: int) -> bytes:
    """One post of 140 characters as a source gives it."""
    post = {"id": str(number), "created_at": NOON, "source": "stocktwits", "author": f"author{number}", "followers": 9}
    return orjson.dumps(post | {"text": f"$AAPL number {number} " + "is what people talk about today, " * 4})


def rounds(plan: Plan) -> Iterator[Figure]:
    """The reference, then the posts."""
    count = POSTS // 10 if plan.quick else POSTS
    lines = [line(number) for number in range(count)]
    with a_fleet() as fleet:
        base = reference(fleet.client)
        intake = Intake(fleet.inbox, TrivialAnalyzer())

        def work() -> None:
            for start in range(0, count, CHUNK):
                intake.take(lines[start : start + CHUNK], NOON)

        yield figure("collector", NAME, measured(NAME, count, fleet.client, work), base)
        if intake.accepted != count:
            raise RuntimeError(f"accepted {intake.accepted}; valid: {count}")


if __name__ == "__main__":
    alone(__doc__, rounds)
