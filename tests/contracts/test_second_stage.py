"""What every second-stage model must do, run over the shipped twin; a heavier model joins the list."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from pipeline.analyzer import LexiconAnalyzer
from pipeline.models import Label, SocialMessage
from pipeline.second import (
    FAILED,
    Opinion,
    SecondStage,
    SecondStageSettings,
    TwoStageAnalyzer,
    WordList,
    checked,
    could_change_route,
)

BULLISH, BEARISH = Opinion(Label.BULLISH, 0.9, 0.95), Opinion(Label.BEARISH, -0.8, 0.9)
CALL, MAYBE, NOTHING = "$AAPL beats estimates, upgraded to buy", "$AAPL looks weak, sell it", "$AAPL annual meeting"
MODELS: list[SecondStage] = [WordList({"beats": BULLISH, "weak": BEARISH})]
FIRST = LexiconAnalyzer(frozenset({"AAPL"}))


def a_message(text: str) -> SocialMessage:
    """A valid post with this text."""
    noon = datetime(2025, 9, 17, 12, tzinfo=UTC)
    return SocialMessage(
        message_id="x-1", source="x", source_id="1", created_at=noon, received_at=noon, author="a", text=text
    )


class Odd(WordList):
    """A model that answers as it is told, or raises."""

    def __init__(self, answer: Sequence[Opinion] | None) -> None:
        super().__init__({})
        self.answer = answer

    def read(self, texts: Sequence[str]) -> Sequence[Opinion]:
        super().read(texts)
        if self.answer is None:
            raise ConnectionError("no answer")
        return self.answer


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
class TestEveryModel:
    """The port's contract."""

    def test_it_has_a_name_and_a_calibrator(self, model: SecondStage) -> None:
        """Without held-out posts behind it, a confidence is no probability."""
        assert model.name
        assert model.calibrated_on >= 1

    def test_it_gives_one_valid_opinion_per_text_in_order(self, model: SecondStage) -> None:
        """Score and label agree, numbers are in range; the order of the texts is the order of the answers."""
        texts = [CALL, MAYBE, NOTHING, "", "\ud800", "株価" * 500]

        together = [checked(opinion) for opinion in model.read(texts)]

        assert together == [checked(model.read([text])[0]) for text in texts]

    def test_nothing_asked_is_nothing_answered(self, model: SecondStage) -> None:
        """An empty batch is no error."""
        assert list(model.read([])) == []


def test_it_is_asked_only_about_posts_that_could_trade_at_once() -> None:
    """Neutral, symbol-less and foreign posts keep the first opinion; order is kept."""
    second = WordList({"beats": BEARISH})
    posts = [NOTHING, CALL, "beats estimates, upgraded", "$NFLX beats estimates, upgraded", CALL]

    read = TwoStageAnalyzer(FIRST, second).analyze_all([a_message(text) for text in posts])

    assert second.asked == [(CALL, CALL)]
    assert [post.sentiment.model == second.name for post in read] == [False, True, False, False, True]
    assert (read[1].sentiment.label, read[1].sentiment.confidence) == (Label.BEARISH, 0.9)


def test_batches_are_bounded() -> None:
    """Three posts at two a question."""
    second = WordList({"beats": BULLISH})
    analyzer = TwoStageAnalyzer(FIRST, second, SecondStageSettings(max_batch=2))

    analyzer.analyze_all([a_message(CALL)] * 3)

    assert [len(batch) for batch in second.asked] == [2, 1]


def test_the_asking_confidence_is_inclusive() -> None:
    """At the post's own confidence it is asked, a hair above it is not."""
    post = FIRST.analyze(a_message(CALL))

    assert could_change_route(post, post.sentiment.confidence)
    assert not could_change_route(post, post.sentiment.confidence + 1e-9)


def test_spam_is_never_asked_about() -> None:
    """It is gated whatever a model says."""
    post = FIRST.analyze(a_message(CALL)).model_copy(update={"spam": "cashtag_link"})

    assert not could_change_route(post, 0.0)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        [BULLISH, BULLISH],
        [Opinion(Label.BULLISH, float("nan"), 0.9)],
        [Opinion(Label.BULLISH, 0.9, 1.1)],
        [Opinion(Label.BULLISH, -0.9, 0.9)],
        [Opinion(Label.NEUTRAL, 0.1, 0.9)],
        [Opinion("great", 0.1, 0.9)],  # type: ignore[arg-type]
    ],
    ids=["raises", "too few", "too many", "nan", "over one", "contradiction", "leaning neutral", "unknown label"],
)
def test_no_usable_answer_closes_the_fast_path(answer: Sequence[Opinion] | None) -> None:
    """The first opinion is not trusted in its place: neutral, confidence 0, and the name says so."""
    sentiment = TwoStageAnalyzer(FIRST, Odd(answer)).analyze(a_message(CALL)).sentiment

    assert (sentiment.label, sentiment.score, sentiment.confidence) == (Label.NEUTRAL, 0.0, 0.0)
    assert sentiment.model.endswith(FAILED)


def test_a_model_without_a_calibrator_is_refused_at_once() -> None:
    """Its own calibrator is required."""
    raw = WordList({})
    raw.calibrated_on = 0

    with pytest.raises(ValueError, match="calibrated_on is 0"):
        TwoStageAnalyzer(FIRST, raw)
