"""`fleet model`: learn, measure, calibrate and describe the stage-1 model."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import orjson
import typer

from pipeline.analyzer import LexiconAnalyzer
from pipeline.calibration import Interval, Judged
from pipeline.errors import SettingsError
from pipeline.models import Frozen, SocialMessage
from pipeline.sentiment import Channel, Model, named, parse_model
from workers.analyze import as_message
from workers.corpus import OWN, Corpus, labelled_files, read_corpus
from workers.model_fit import (
    calibrators,
    hold_out,
    judged_all,
    judged_as,
    judged_known,
    judged_unseen,
    own_calibrator,
    train,
)
from workers.model_report import Measured, Part, as_html, as_text, into_page, measured, rate, rates_as_text, table
from workers.plain import plain

app = typer.Typer(no_args_is_help=True, help=__doc__)
SHIPPED = Path(__file__).parent.parent / "pipeline" / "data" / "stage1.bin"
LINES = Path("model-reliability.html")
TIMED, PART = 2_000, 100
"""Posts of a source that are timed, and how many at a time."""

Posts = Annotated[
    Path, typer.Argument(help="folder of labelled posts (*.csv: text, label, source; *.jsonl), or one file")
]
Own = Annotated[Path, typer.Option(help="the project's own labelled posts")]
ModelFile = Annotated[Path, typer.Option("--model", help="model file")]


class Described(Frozen):
    """What `fleet model info` says besides the card."""

    bytes: int
    fast_path: str


@app.command("train")
def train_model(
    posts: Posts, own: Own = OWN, output: Annotated[Path, typer.Option(help="model file")] = SHIPPED
) -> None:
    """Learn weights and calibrators; the same posts give the same bytes on the same architecture."""
    model, _ = train(_corpus(posts, own), _say)
    output.write_bytes(model.packed())
    typer.echo(f"{model.card.version}: {output.stat().st_size} bytes in {output}")


@app.command()
def evaluate(
    posts: Posts,
    own: Own = OWN,
    plot: Annotated[Path, typer.Option(help="reliability plot to write, HTML")] = LINES,
    model: Annotated[
        Path | None, typer.Option(help="measure this model file as it is, on posts it has not learned from")
    ] = None,
    channel: Annotated[
        Channel, typer.Option(help="with --model: the kind of channel the posts are read as")
    ] = Channel.UNKNOWN,
    page: Annotated[
        Path | None,
        typer.Option(help="model card to write the table into; the posts must be those of the shipped model"),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output")] = False,
) -> None:
    """Measure per source, with 95 % bootstrap intervals, and plot reliability.

    Without --model everything is held out: `known` rows by cross-validation, `unseen` rows by leaving the source out.
    """
    corpus = _corpus(posts, own) if model is None else read_corpus(labelled_files(posts))
    if page is not None:
        _refuse_page(corpus, page)
    if model is None:
        found = _held_out(corpus)
    else:
        stage = _read(model)
        _refuse_learned(corpus, stage)
        found = [
            measured(f"{source} {channel}", judged_as(corpus, stage, source, channel)) for source in corpus.sources
        ]
    plot.write_text(as_html(found), encoding="utf-8")
    if page is not None:
        words = f"Posts and recipe of `{_read(SHIPPED).card.version}`.\n\n{as_text(table(found))}"
        page.write_text(into_page(page.read_text("utf-8"), words), encoding="utf-8")
    rates = _throughput(corpus, model)
    if as_json:
        rows = [{**row.document(), "posts_per_second": list(rates[row.name.split()[0]])} for row in found]
        sys.stdout.buffer.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n")
    else:
        typer.echo(as_text(table(found)))
        typer.echo(f"{rates_as_text(rates)}\nreliability plot: {plot}")


@app.command()
def calibrate(
    posts: Posts,
    channel: Annotated[Channel, typer.Option(help="the kind of channel the posts come from")],
    output: Annotated[Path, typer.Option(help="model file to write")],
    model: ModelFile = SHIPPED,
) -> None:
    """Fit one channel's calibrator on your own labelled posts, which the model must not have learned from."""
    corpus, stage = read_corpus(labelled_files(posts)), _read(model)
    _refuse_learned(corpus, stage)
    fitted = calibrators({channel: own_calibrator(corpus, stage, channel)}, stage.card.weights)
    card = stage.card.model_copy(update={"calibrators": {**stage.card.calibrators, **fitted}})
    output.write_bytes(Model(named(card), stage.rows).packed())
    typer.echo(f"{named(card).version}: {channel} {fitted[channel].model_dump_json()}")


@app.command()
def info(
    model: ModelFile = SHIPPED,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document on standard output")] = False,
) -> None:
    """What a model file says about itself: version, digests, provenance with licences, calibrators."""
    stage = _read(model)
    valid = stage.calibrator(Channel.UNKNOWN) is not None
    about = Described(bytes=model.stat().st_size, fast_path="open" if valid else "closed: no valid calibrator")
    document = {**stage.card.model_dump(mode="json"), **about.model_dump()}
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    else:
        typer.echo("\n".join(f"{path} = {plain(value)}" for path, value in _lines(document)))


def _lines(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every fact of a document with the way to it; of lists by number."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            yield from _lines(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, str(value)


def _held_out(corpus: Corpus) -> list[Measured]:
    held = hold_out(corpus, _say)
    known = {source: judged_known(held, source) for source in corpus.sources}
    unseen = {source: judged_unseen(held, source) for source in corpus.strangers()}
    return [*_rows("known", known), *_rows("unseen", unseen)]


def _rows(how: str, judged: Mapping[str, Judged]) -> list[Measured]:
    """A row per source, then all posts as one."""
    everything = {**judged, "all": judged_all(list(judged.values()))}
    return [measured(f"{source} {how}", found) for source, found in everything.items()]


def _throughput(corpus: Corpus, model: Path | None) -> dict[str, Interval]:
    """Posts a second of processor time through the whole analyzer, for each source and for `all`; 2,000 of a source."""
    analyzer = LexiconAnalyzer(frozenset(), model=_read(model or SHIPPED))
    parts: dict[str, list[Part]] = {}
    for source in corpus.sources:
        texts = [row.text for row in corpus.rows if row.source == source][:TIMED]
        posts = [as_message({"text": text}, number) for number, text in enumerate(texts)]
        parts[source] = [_timed(analyzer, posts[start : start + PART]) for start in range(0, len(posts), PART)]
    parts["all"] = [part for each in parts.values() for part in each]
    return {source: rate(each) for source, each in parts.items()}


def _timed(analyzer: LexiconAnalyzer, posts: Sequence[SocialMessage]) -> Part:
    start = process_time()
    analyzer.analyze_all(posts)
    return Part(len(posts), max(process_time() - start, 1e-9))


def _corpus(posts: Path, own: Path) -> Corpus:
    return read_corpus([*labelled_files(posts), *labelled_files(own)])


def _read(path: Path) -> Model:
    if not path.is_file():
        raise SettingsError(f"--model is {path}; valid: a model file, as `fleet model train` writes it")
    return parse_model(path.read_bytes())


def _refuse_learned(corpus: Corpus, stage: Model) -> None:
    """Posts a model was learned from say nothing about how good it is."""
    learned = {entry.sha256 for entry in stage.card.provenance}
    for entry in corpus.provenance:
        if entry.sha256 in learned:
            raise SettingsError(f"the model was learned from the file of {entry.source}; valid: posts it has not seen")


def _refuse_page(corpus: Corpus, page: Path) -> None:
    """A card shows the measures of the posts that its model was learned from, held out in turn, and of no others.

    Said before they are measured, which takes minutes.
    """
    card = _read(SHIPPED).card
    if corpus.provenance != card.provenance:
        raise SettingsError(f"--page: the posts are not those that {card.version} was learned from; valid: the same")
    into_page(page.read_text("utf-8"), "")


def _say(line: str) -> None:
    typer.echo(f"model: {line}", err=True)
