"""Reads a post: what it says about the market and how surely, which stocks it names, whether it is a promo."""

from pydantic import Field

from pipeline.lexicon import tokens
from pipeline.models import AnalyzedMessage, Frozen, Label, Sentiment, SocialMessage
from pipeline.sentiment import Channel, Model, SentimentModel
from pipeline.spam import LISTS, SpamSettings, spam_verdict
from pipeline.subjects import SubjectReader, SubjectSettings, by_symbol
from pipeline.text import clean, cut, fingerprint_of, is_readable, view
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
        post = view(cut(message.text, self._settings.max_bytes))
        survey = self._tickers.survey(post)
        tickers = survey.reading
        spam = spam_verdict(post, tickers.cashtags, self._settings.spam)
        is_silent = not (spam is None or spam in LISTS) or not is_readable(message.text)
        channel = self._channel or self._settings.channel(message.source)
        each = {} if is_silent or spam is not None else self._each(survey, channel)
        own = each.pop(tickers.primary or "", self._silent if is_silent else None)
        return AnalyzedMessage(
            message=message,
            sentiment=own or self._sentiment(post.text, channel),
            tickers=tickers,
            fingerprint=fingerprint_of(post),
            spam=spam,
            by_symbol=each,
        )

    def _each(self, survey: Survey, channel: Channel) -> dict[str, Sentiment]:
        """What the post says of single symbols, where that differs from the whole."""
        settings = self._settings.subjects
        said = self._subjects.read(survey) if settings.per_symbol else {}
        return by_symbol(said, lambda text: self._sentiment(text, channel), self.model, settings) if said else {}

    def _sentiment(self, text: str, channel: Channel) -> Sentiment:
        """Neutral with confidence 0 where there are no words to read."""
        words = tokens(text)[: self._settings.max_tokens]
        if not any(map(str.isalpha, words)):
            return self._silent
        found = self._model.reckon(words, channel)
        return Sentiment(label=found.label, score=found.lean, confidence=found.confidence, model=self.model)


def why_silent(text: str) -> str | None:
    """Why a text has no sentiment at all: `empty`, `unreadable` (control characters, bidi marks), `no_words`."""
    if not text.strip():
        return "empty"
    if not is_readable(text):
        return "unreadable"
    return None if any(map(str.isalpha, tokens(clean(text)))) else "no_words"
