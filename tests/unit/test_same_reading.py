"""What is read from the shipped posts, pinned: by the rules, whatever the model says, and by the shipped model."""

from hashlib import sha256
from pathlib import Path

from pipeline.analyzer import AnalyzerSettings, LexiconAnalyzer
from pipeline.lexicon import tokens
from pipeline.models import AnalyzedMessage
from pipeline.spam import SpamSettings, spam_verdict
from pipeline.subjects import SubjectReader
from pipeline.text import fingerprint_of, view
from pipeline.tickers import TickerReader
from tests.tools.analyzer_speed import SYMBOLS, texts_of
from workers.analyze import as_message

FILES = ("config/demo/posts.jsonl", "tests/data/contrast.jsonl", "tests/data/tickers.jsonl")
TEXTS = tuple(text for file in FILES for text in texts_of(Path(file)))
SETTINGS = AnalyzerSettings(news_sources=("news",), social_sources=("social",))
ANALYZER = LexiconAnalyzer(frozenset(SYMBOLS.split()), SETTINGS)
POSTS = [
    as_message({"text": text, "source": ("news", "social", "other")[number % 3]}, number)
    for number, text in enumerate(TEXTS)
]
READER = TickerReader(frozenset(SYMBOLS.split()))
SUBJECTS = SubjectReader(READER.gazetteer)


def reading(text: str) -> str:
    """Symbols, places, what is said of whom, spam, identity and tokens."""
    post = view(text)
    survey = READER.survey(post)
    verdict = spam_verdict(post, survey.reading.cashtags, SpamSettings())
    return repr((survey, sorted(SUBJECTS.read(survey).items()), verdict, fingerprint_of(post), tokens(post.text)))


def said(post: AnalyzedMessage) -> str:
    """What the model says of a post and of the symbols in it, to six digits: the last ones differ between machines."""
    each = {"": post.sentiment, **post.by_symbol}
    return repr(
        [(symbol, s.label.value, f"{s.score:.6f}", f"{s.confidence:.6f}") for symbol, s in sorted(each.items())]
    )


def digest(parts: list[str]) -> str:
    """16 hex characters."""
    return sha256("".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def test_the_shipped_posts_are_read_as_ever() -> None:
    """A change of speed changes no answer; whoever changes a rule sees here that it reaches real posts."""
    assert (len(TEXTS), digest(list(map(reading, TEXTS)))) == (1_147, "d9f962d2b932f119")


def test_the_shipped_model_says_of_them_what_it_ever_said() -> None:
    """All kinds of channels in one chunk; another model has another digest, the same model never."""
    found = ANALYZER.analyze_all(POSTS)

    assert (ANALYZER.model, digest(list(map(said, found)))) == ("stage1-3-90d9749d2e61", "7ec3a2d9bcfa092f")


def test_a_chunk_of_posts_is_read_as_each_of_them_alone() -> None:
    """Whatever stands beside a post in its chunk, and whether its words are known already."""
    alone = [ANALYZER.analyze(post) for post in POSTS[::7]]
    other = LexiconAnalyzer(frozenset(SYMBOLS.split()), SETTINGS)

    assert other.analyze_all(POSTS)[::7] == alone
    assert other.analyze_all([]) == []
