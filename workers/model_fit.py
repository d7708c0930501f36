"""Learning the stage-1 model: weights on all sources, calibrators on posts the weights have not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.calibration import Fitted, Judged, fit_temperature
from pipeline.errors import SettingsError
from pipeline.models import FloatArray, IntArray
from pipeline.sentiment import CHANNELS, TABLES, Calibrator, Card, Channel, Model, named, pack, weights_digest
from pipeline.training import Flags, Lesson, Sparse, fit, matrix, quantise
from workers.corpus import Corpus, origin

SEED = 7
RIDGE = 0.11
"""Shrinkage of the weights (chosen with the leave-one-source-out figures in sight, so they flatter a little)."""
FOLDS = 5
CAUTION = {Channel.NEWS: 1.1, Channel.SOCIAL: 1.1, Channel.UNKNOWN: 1.2}
"""Factors on the fitted temperatures: sources of one kind differ, and the next one may be the worst of them."""
ABOUT = (
    "Hashed words, pairs and letter groups; logits of bearish and bullish against neutral. Written by `fleet model`."
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class HeldOut:
    """Every post scored by models that have not seen it: `folds` knew its source, `alone` did not. Shape (n, 2).

    `alone` holds nothing for the project's own posts: they are lessons, not a channel of their own.
    """

    corpus: Corpus
    lesson: Lesson
    folds: FloatArray
    alone: FloatArray

    def of(self, source: str) -> IntArray:
        """The rows of a source."""
        return np.flatnonzero(self.corpus.numbers == self.corpus.sources.index(source))


def hold_out(corpus: Corpus, say: Say) -> HeldOut:
    """Train once per fold and once per source left out, near-duplicates of what is scored left out too."""
    if len(corpus.strangers()) < 2:  # noqa: PLR2004
        raise SettingsError(f"sources are {corpus.strangers()}; valid: two or more, to leave one out")
    lesson = corpus.lesson()
    marks = np.array(corpus.prints)
    groups = corpus.folds(SEED, FOLDS)
    folds, alone = np.zeros((len(marks), 2)), np.zeros((len(marks), 2))
    for fold in range(FOLDS):
        say(f"fold {fold + 1} of {FOLDS}")
        _score(lesson, groups == fold, groups != fold, folds)
    for source in corpus.strangers():
        say(f"without {source}")
        rest = corpus.numbers != corpus.sources.index(source)
        _score(lesson, ~rest, rest & ~np.isin(marks, marks[~rest]), alone, Channel.UNKNOWN)
    return HeldOut(corpus, lesson, folds, alone)


def _score(lesson: Lesson, test: Flags, train: Flags, into: FloatArray, channel: Channel | None = None) -> None:
    """Learn on some posts and write the logits of others, read as a kind of channel or each as its own."""
    model = _trained(lesson.part(np.flatnonzero(train)))
    for kind in Channel:
        rows = np.flatnonzero(test & (lesson.channels == CHANNELS.index(kind)))
        into[rows] = _logits(lesson.x.part(rows), model, channel or kind)


def _trained(lesson: Lesson) -> Model:
    """Weights learned on the posts, with a card that has neither calibrators nor provenance."""
    rows, step = quantise(fit(lesson, RIDGE))
    digest = weights_digest(pack(rows))
    card = Card(
        version="", about=ABOUT, seed=SEED, ridge=RIDGE, step=step, weights=digest, calibrators={}, provenance=()
    )
    return Model(card, rows)


def _logits(x: Sparse, model: Model, channel: Channel) -> FloatArray:
    """Logits of shape (n, 2) of bearish and bullish against neutral."""
    unit = model.card.step / TABLES
    return np.stack([x.times(row.astype(np.float64) * unit) for row in model.summed(channel)], axis=1)


def fit_channels(held: HeldOut, without: str | None = None) -> dict[Channel, tuple[Fitted, int]]:
    """Calibrator of each kind of channel, and how many posts it rests on; `without` a source, as if it did not exist.

    Known kinds learn from posts whose source the weights knew, unknown ones from sources they did not know, every
    source counting alike. Sources without neutral posts say nothing of how often a channel is neutral, so they are
    left out.
    """
    whole = [s for s in held.corpus.sources if s not in {*held.corpus.two_way(), without}]
    kinds = {
        Channel.NEWS: [s for s in whole if origin(s).channel is Channel.NEWS],
        Channel.SOCIAL: [s for s in whole if origin(s).channel is Channel.SOCIAL],
        Channel.UNKNOWN: [s for s in whole if s in held.corpus.strangers()],
    }
    return {channel: _fit_channel(held, channel, sources) for channel, sources in kinds.items() if sources}


def _fit_channel(held: HeldOut, channel: Channel, sources: list[str]) -> tuple[Fitted, int]:
    parts = [held.of(source) for source in sources]
    rows = np.concatenate(parts)
    power = -1.0 if channel is Channel.UNKNOWN else 0.0
    weights = np.concatenate([np.full(len(part), len(part) ** power) for part in parts])
    logits = held.alone if channel is Channel.UNKNOWN else held.folds
    return fit_temperature(logits[rows], held.lesson.y[rows], weights, CAUTION[channel]), len(rows)


def judged_known(held: HeldOut, source: str) -> Judged:
    """The source read as its kind of channel, by weights that knew the source but not the post."""
    rows = held.of(source)
    fitted = fit_channels(held)
    found, _ = fitted.get(origin(source).channel) or fitted[Channel.UNKNOWN]
    return Judged(found(held.folds[rows]), held.lesson.y[rows])


def judged_unseen(held: HeldOut, source: str) -> Judged:
    """The source read as an unknown channel: neither weights nor temperature were fitted on it."""
    rows = held.of(source)
    found, _ = fit_channels(held, without=source)[Channel.UNKNOWN]
    return Judged(found(held.alone[rows]), held.lesson.y[rows])


def judged_all(parts: Sequence[Judged]) -> Judged:
    """Posts of several sources as one."""
    return Judged(np.concatenate([part.p for part in parts]), np.concatenate([part.y for part in parts]))


def train(corpus: Corpus, say: Say) -> tuple[Model, HeldOut]:
    """The model to ship, and the held-out scores its calibrators rest on."""
    held = hold_out(corpus, say)
    say("all posts")
    model = _trained(held.lesson)
    said = {
        "calibrators": calibrators(fit_channels(held), model.card.weights),
        "provenance": corpus.provenance,
    }
    return Model(named(model.card.model_copy(update=said)), model.rows), held


def calibrators(fitted: Mapping[Channel, tuple[Fitted, int]], weights: str) -> dict[Channel, Calibrator]:
    """Fitted numbers as the model file keeps them."""
    return {
        channel: Calibrator(
            temperature=found.temperature, bearish=found.bearish, bullish=found.bullish, weights=weights, posts=posts
        )
        for channel, (found, posts) in fitted.items()
    }


def judged_as(corpus: Corpus, model: Model, source: str, channel: Channel) -> Judged:
    """A source as the model file itself reads it. Raises SettingsError without a valid calibrator."""
    calibrator = model.calibrator(channel)
    if calibrator is None:
        raise SettingsError(
            f"model {model.card.version} has no valid calibrator for {channel}; the fast path is closed"
        )
    rows = np.flatnonzero(corpus.numbers == corpus.sources.index(source))
    fitted = Fitted(calibrator.temperature, calibrator.bearish, calibrator.bullish)
    return Judged(fitted(raw_logits(corpus, model, model.kind(channel))[rows]), corpus.labels[rows])


def own_calibrator(corpus: Corpus, model: Model, channel: Channel) -> tuple[Fitted, int]:
    """Temperature and shifts fitted on all posts of a corpus read as a kind of channel, and how many they were."""
    y = corpus.labels
    return fit_temperature(raw_logits(corpus, model, channel), y, np.ones(len(y))), len(y)


def raw_logits(corpus: Corpus, model: Model, channel: Channel) -> FloatArray:
    """Logits of shape (n, 2) of bearish and bullish against neutral, by the weights of a kind of channel."""
    return _logits(matrix(corpus.posts), model, channel)
