"""`fleet model` on small files of its own."""

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.errors import SettingsError
from pipeline.sentiment import Channel, Model, SentimentModel, named, parse_model
from workers import model as model_verbs
from workers.corpus import read_corpus
from workers.model import app
from workers.model_report import BEGIN, END, Part, rate

WORDS = {"bullish": "strong beat and rally", "bearish": "weak miss and crash", "neutral": "meeting on monday"}


def fleet_model(*arguments: object) -> Result:
    """The verb with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def write_source(folder: Path, name: str, labels: tuple[str, ...] = tuple(WORDS), count: int = 20) -> Path:
    """`count` posts of each label, of one source, every text a different one."""
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label", "source"])
        rows.writerows((f"{WORDS[label]} {name} {'x' * i}", label, name) for i in range(count) for label in labels)
    return path


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """A folder of two sources with neutral posts and one without."""
    folder = tmp_path / "posts"
    folder.mkdir()
    write_source(folder, "moritz")
    write_source(folder, "tfns")
    write_source(folder, "surge_crypto", ("bullish", "bearish"))
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Posts of our own, JSON lines."""
    path = tmp_path / "own.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": f"bought calls {i}", "label": "bullish", "kind": "social"}) + "\n" for i in range(6)
        )
    )
    return path


@pytest.fixture
def trained(posts: Path, own: Path, tmp_path: Path) -> Path:
    """A model file learned from the small posts."""
    output = tmp_path / "model.bin"
    assert fleet_model("train", posts, "--own", own, "--output", output).exit_code == 0
    return output


def test_the_same_posts_give_the_same_bytes(posts: Path, own: Path, trained: Path, tmp_path: Path) -> None:
    """Two runs, one file; words mean what they meant in the posts; every source is named with its licence."""
    again = tmp_path / "again.bin"

    fleet_model("train", posts, "--own", own, "--output", again)

    model = parse_model(trained.read_bytes())
    assert again.read_bytes() == trained.read_bytes()
    assert SentimentModel(model).reckon(["rally"]).lean > SentimentModel(model).reckon(["crash"]).lean
    assert [(p.source, p.channel) for p in model.card.provenance] == [
        ("moritz", Channel.SOCIAL),
        ("surge_crypto", Channel.SOCIAL),
        ("tfns", Channel.NEWS),
        ("own_social", Channel.SOCIAL),
    ]
    assert set(model.card.calibrators) == set(Channel)


def test_a_model_holds_no_text(trained: Path) -> None:
    """Weights, names and figures: no word of a post."""
    assert b"monday" not in trained.read_bytes()


def test_evaluate_has_a_row_for_every_source_known_and_unseen(posts: Path, own: Path, tmp_path: Path) -> None:
    """Every measure with its interval, and all posts pooled; our own are no channel; the plot loads nothing."""
    plot = tmp_path / "plot.html"

    result = fleet_model("evaluate", posts, "--own", own, "--plot", plot)

    page = plot.read_text("utf-8")
    for source in ("moritz", "own_social", "surge_crypto", "tfns"):
        assert f"| {source} known |" in result.stdout
        assert (f"| {source} unseen |" in result.stdout) == (source != "own_social")
    assert "| all known | 166 |" in result.stdout
    assert "| all unseen | 160 |" in result.stdout
    assert page.count("<svg") == 9
    for name in ("moritz", "own_social", "surge_crypto", "tfns", "all"):
        assert re.search(rf"^throughput {name}: [\d,]+ posts/s \[[\d,]+, [\d,]+\]$", result.stdout, re.MULTILINE)
    assert "http" not in page
    assert "<script" not in page


def test_evaluate_writes_the_model_card(
    posts: Path, own: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table goes between the marks, under the shipped model's name; what stands around it stays."""
    monkeypatch.setattr(model_verbs, "SHIPPED", trained)
    page = tmp_path / "card.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    fleet_model("evaluate", posts, "--own", own, "--plot", tmp_path / "p.html", "--page", page)

    written = page.read_text()
    assert written.startswith(
        f"before\n{BEGIN}\n\nPosts and recipe of `{parse_model(trained.read_bytes()).card.version}`."
    )
    assert written.endswith(f"|\n\n{END}\nafter\n")
    assert "| tfns unseen | 60 |" in written
    assert "old" not in written


def test_a_card_of_other_posts_or_without_marks_is_refused(
    posts: Path, own: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card describes the shipped model; a page without marks has no place for the table."""
    page = tmp_path / "card.md"
    page.write_text("no marks")
    options = ("--own", own, "--plot", tmp_path / "p.html", "--page", page)

    with pytest.raises(SettingsError, match="not those that stage1"):
        fleet_model("evaluate", posts, *options)
    monkeypatch.setattr(model_verbs, "SHIPPED", trained)
    with pytest.raises(SettingsError, match="valid: a page with the lines"):
        fleet_model("evaluate", posts, *options)


def test_a_model_file_is_measured_as_it_is(trained: Path, tmp_path: Path) -> None:
    """On posts it has not learned from, as the channel named; in JSON, nan is null."""
    fresh = write_source(tmp_path, "fresh", ("neutral",))

    result = fleet_model(
        "evaluate", fresh, "--model", trained, "--channel", "news", "--plot", tmp_path / "p.html", "--json"
    )

    row = json.loads(result.stdout)[0]
    assert (row["name"], row["posts"]) == ("fresh news", 20)
    assert row["measures"]["precision"] == [None, None, None]
    assert row["posts_per_second"][1] <= row["posts_per_second"][0] <= row["posts_per_second"][2]


def test_a_rate_is_posts_by_seconds_with_an_interval_over_the_parts() -> None:
    """300 posts in 0.05 s are 6,000/s; resamples lie between the slowest part's 5,000 and the fastest part's 10,000."""
    found = rate([Part(100, 0.02), Part(100, 0.02), Part(100, 0.01)])

    assert found.value == pytest.approx(6_000)
    assert (found.low, found.high) == pytest.approx((5_000, 10_000))
    assert rate([Part(7, 0.5)]) == pytest.approx((14, 14, 14))


@pytest.mark.parametrize("verb", ["evaluate", "calibrate"])
def test_posts_a_model_learned_from_are_refused(verb: str, posts: Path, trained: Path, tmp_path: Path) -> None:
    """They say nothing about how good it is."""
    options = ["--channel", "news", "--output", tmp_path / "x.bin"] if verb == "calibrate" else []

    with pytest.raises(SettingsError, match="learned from"):
        fleet_model(verb, posts / "tfns.csv", "--model", trained, *options)


def test_calibrate_changes_one_channel_and_the_name(trained: Path, tmp_path: Path) -> None:
    """The weights stay; the new calibrator says on how many posts it rests."""
    fresh, output = write_source(tmp_path, "fresh"), tmp_path / "mine.bin"

    fleet_model("calibrate", fresh, "--model", trained, "--channel", "unknown", "--output", output)

    before, after = parse_model(trained.read_bytes()), parse_model(output.read_bytes())
    assert after.card.weights == before.card.weights
    assert after.card.version != before.card.version
    assert after.card.calibrators[Channel.UNKNOWN].posts == 60
    assert after.card.calibrators[Channel.NEWS] == before.card.calibrators[Channel.NEWS]


def test_info_says_whether_the_fast_path_is_open(trained: Path, tmp_path: Path) -> None:
    """Open with a valid calibrator, closed without; licences are shown."""
    model = parse_model(trained.read_bytes())
    bare = tmp_path / "bare.bin"
    bare.write_bytes(Model(named(model.card.model_copy(update={"calibrators": {}})), model.rows).packed())

    shown = [json.loads(fleet_model("info", "--model", path, "--json").stdout) for path in (trained, bare)]

    assert [document["fast_path"] for document in shown] == ["open", "closed: no valid calibrator"]
    assert shown[0]["provenance"][0]["licence"].startswith("MIT")


def test_one_source_is_too_few(posts: Path, tmp_path: Path) -> None:
    """None could be left out."""
    with pytest.raises(SettingsError, match="two or more"):
        fleet_model("train", posts / "tfns.csv", "--own", posts / "tfns.csv", "--output", tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,label,source\nhello,great,x\n", "a.csv:2: label is 'great'"),
        ("a.csv", "words\nhello\n", "a.csv:2: label is ''"),
        ("a.csv", "text,label,source\n", "no labelled posts"),
        ("a.jsonl", '{"text": "x"', "a.jsonl:1: not JSON"),
        ("a.jsonl", '{"label": "bullish"}\n', "a.jsonl:1: label is 'bullish'"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    """A corpus with a hole in it is no corpus."""
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(SettingsError, match=said):
        read_corpus([path])


def test_a_folder_without_posts_is_refused(tmp_path: Path) -> None:
    """With the folder's name."""
    with pytest.raises(SettingsError, match=r"holds no \*\.csv"):
        fleet_model("train", tmp_path)


def test_a_model_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(SettingsError, match=r"nowhere\.bin"):
        fleet_model("info", "--model", tmp_path / "nowhere.bin")
