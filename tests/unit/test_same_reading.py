"""What is read from the shipped posts, whatever the model says of them, pinned as one digest."""

from hashlib import sha256
from pathlib import Path

from pipeline.lexicon import tokens
from pipeline.spam import SpamSettings, spam_verdict
from pipeline.subjects import SubjectReader
from pipeline.text import fingerprint_of, view
from pipeline.tickers import TickerReader
from tests.tools.analyzer_speed import SYMBOLS, texts_of

FILES = ("config/demo/posts.jsonl", "tests/data/contrast.jsonl", "tests/data/tickers.jsonl")
READER = TickerReader(frozenset(SYMBOLS.split()))
SUBJECTS = SubjectReader(READER.gazetteer)


def reading(text: str) -> str:
    """Symbols, places, what is said of whom, spam, identity and tokens."""
    post = view(text)
    survey = READER.survey(post)
    verdict = spam_verdict(post, survey.reading.cashtags, SpamSettings())
    return repr((survey, sorted(SUBJECTS.read(survey).items()), verdict, fingerprint_of(post), tokens(post.text)))


def test_the_shipped_posts_are_read_as_ever() -> None:
    """A change of speed changes no answer; whoever changes a rule sees here that it reaches real posts."""
    texts = [text for file in FILES for text in texts_of(Path(file))]
    digest = sha256("".join(map(reading, texts)).encode("utf-8", "surrogatepass")).hexdigest()

    assert (len(texts), digest[:16]) == (1_147, "d9f962d2b932f119")
