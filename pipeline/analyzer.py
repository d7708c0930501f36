"""Reads a post: what it says about the market and how surely, which stocks it names, whether it is a promo."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from pipeline.lexicon import tokens
from pipeline.models import AnalyzedMessage, Frozen, Label, Sentiment, SocialMessage
from pipeline.sentiment import Channel, Model, SentimentModel
from pipeline.spam import LISTS, SpamSettings, spam_verdict
from pipeline.subjects import Said, SubjectReader, SubjectSettings, by_symbol
from pipeline.text import View, clean, cut, fingerprint_of, is_readable, view
from pipeline.tickers import Survey, TickerReader, TickerSettings


class AnalyzerSettings(Frozen):
    """How much of a post is read, what kind of channel its source is, what is spam, and what each symbol gets."""

    max_bytes: int = Field(default=16_384, ge=64, le=1_048_576, description="bytes of UTF-8 read of a post (16 KiB)")
    max_tokens: int = Field(default=400, ge=1, le=100_000, description="words, numbers and marks weighed for sentiment")
    news_sources: tuple[str, ...] = Field(default=(), description="sources that carry news tweets and headlines")
    social_sources: tuple[str, ...] = Field(default=(), description="sources where people talk; others are unknown")
    spam: SpamSettings = SpamSettings()
    subjects: SubjectSettings = SubjectSettings()

    def channel(self, source: str) -> Channel:
        """What kind of channel a source is; `unknown`, read with most caution, unless it is named."""
        if source in self.news_sources:
            return Channel.NEWS
        return Channel.SOCIAL if source in self.social_sources else Channel.UNKNOWN


class LexiconAnalyzer:
    """The `AnalyzerManager` that needs nothing but itself: finance lexicon, learned weights, calibration.

    `universe`: the tradable symbols. `channel`: what every post is read as, whatever its source. Pure of the post; safe
    to share between threads.
    """

    def __init__(
        self,
        universe: frozenset[str],
        settings: AnalyzerSettings | None = None,
        tickers: TickerSettings | None = None,
        model: Model | None = None,
        channel: Channel | None = None,
    ) -> None:
        self._settings = settings or AnalyzerSettings()
        self._tickers = TickerReader(universe, tickers)
        self._subjects = SubjectReader(self._tickers.gazetteer)
        self._model = SentimentModel(model)
        self._channel = channel
        self._silent = Sentiment(label=Label.NEUTRAL, score=0.0, confidence=0.0, model=self.model)

    @property
    def model(self) -> str:
        """Name and version of the model, as every sentiment carries it."""
        return self._model.name

    def analyze(self, message: SocialMessage) -> AnalyzedMessage:
        """The post with sentiment, symbols, fingerprint and spam verdict; never raises on any text.

        Promos, binary, broken and bidi-marked texts are neutral with confidence 0.
        """
        return self.analyze_all((message,))[0]

    def analyze_all(self, messages: Sequence[SocialMessage]) -> list[AnalyzedMessage]:
        """Each post as if it were alone, in order; question by question, so that code and tables stay in the cache."""
        posts = [view(cut(message.text, self._settings.max_bytes)) for message in messages]
        surveys = self._tickers.survey_all(posts)
        verdicts = [
            spam_verdict(post, survey.reading.cashtags, self._settings.spam)
            for post, survey in zip(posts, surveys, strict=True)
        ]
        channels = [self._channel or self._settings.channel(message.source) for message in messages]
        silent = list(map(_is_silent, messages, verdicts))
        said = list(map(self._said, surveys, verdicts, silent))
        read = self._read(posts, said, silent, channels)
        prints = list(map(fingerprint_of, posts))
        found: list[AnalyzedMessage] = []
        for row, (message, survey, spam) in enumerate(zip(messages, surveys, verdicts, strict=True)):
            each = by_symbol(said[row], read[row].__getitem__, self.model, self._settings.subjects) if said[row] else {}
            own = self._silent if silent[row] else each.pop(survey.reading.primary or "", None)
            found.append(
                AnalyzedMessage(
                    message=message,
                    sentiment=own or read[row][posts[row].text],
                    tickers=survey.reading,
                    fingerprint=prints[row],
                    spam=spam,
                    by_symbol=each,
                )
            )
        return found

    def _said(self, survey: Survey, spam: str | None, is_silent: bool) -> dict[str, Said]:  # noqa: FBT001 # of a map
        """What is to be read of single symbols, where that may differ from the whole."""
        is_asked = spam is None and not is_silent and self._settings.subjects.per_symbol
        return self._subjects.read(survey) if is_asked else {}

    def _read(
        self,
        posts: Sequence[View],
        said: Sequence[Mapping[str, Said]],
        silent: Sequence[bool],
        channels: Sequence[Channel],
    ) -> list[dict[str, Sentiment]]:
        """The sentiment of each post that is read at all, and of each of its clauses, by text."""
        asked = [(row, post.text) for row, post in enumerate(posts) if not silent[row]]
        asked += [(row, what.text) for row, each in enumerate(said) for what in each.values() if what.text]
        found: list[dict[str, Sentiment]] = [{} for _ in posts]
        told = self._sentiments([text for _, text in asked], [channels[row] for row, _ in asked])
        for (row, text), sentiment in zip(asked, told, strict=True):
            found[row][text] = sentiment
        return found

    def _sentiments(self, texts: Sequence[str], channels: Sequence[Channel]) -> list[Sentiment]:
        """What texts say; neutral with confidence 0 where there are no words to read."""
        words = [tokens(text)[: self._settings.max_tokens] for text in texts]
        has_words = [any(map(str.isalpha, said)) for said in words]
        model = self.model
        return [
            Sentiment(label=found.label, score=found.lean, confidence=found.confidence, model=model)
            if is_said
            else self._silent
            for found, is_said in zip(self._model.reckon_all(words, channels), has_words, strict=True)
        ]


def _is_silent(message: SocialMessage, spam: str | None) -> bool:
    """Whether nothing is read of a post: promos, and texts that are no words for a reader."""
    return not (spam is None or spam in LISTS) or not is_readable(message.text)


def why_silent(text: str) -> str | None:
    """Why a text has no sentiment at all: `empty`, `unreadable` (control characters, bidi marks), `no_words`."""
    if not text.strip():
        return "empty"
    if not is_readable(text):
        return "unreadable"
    return None if any(map(str.isalpha, tokens(clean(text)))) else "no_words"
