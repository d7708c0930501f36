"""`fleet analyze`: one line out for every line in, whatever the line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.analyzer import LexiconAnalyzer
from pipeline.errors import SettingsError
from workers.analyze import answers, app, read_lines

ANALYZER = LexiconAnalyzer(frozenset({"AAPL", "TSLA"}))
CALL = "$AAPL beats estimates, upgraded to buy"


def said(line: bytes | str) -> dict[str, Any]:
    """What comes out for one line."""
    raw = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
    found: dict[str, Any] = json.loads(answers(ANALYZER, [(7, raw)])[0])
    return found


def test_a_post_comes_out_with_all_that_routing_asks_for() -> None:
    """Symbols, primary first; label, score, confidence; spam and the model's name; never the words."""
    found = said(json.dumps({"id": "a1", "source": "x", "text": CALL + " $NFLX"}))

    assert list(found) == ["id", "symbols", "tradable", "primary", "label", "score", "confidence", "spam", "model"]
    assert (found["id"], found["symbols"], found["tradable"]) == ("a1", ["AAPL", "NFLX"], ["AAPL"])
    assert (found["primary"], found["label"], found["spam"]) == ("AAPL", "bullish", None)
    assert found["model"] == ANALYZER.model


def test_a_plain_line_is_its_own_text() -> None:
    """Its number is its id; the reading is that of the same text in JSON."""
    assert said(CALL) == {**said(json.dumps({"text": CALL})), "id": 7}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"text": "cut', "not_json"),
        ("{" * 100_000, "not_json"),
        ('{"words": "x"}', "missing_field"),
        ('{"text": 5}', "missing_field"),
        ('{"text": null, "id": "k"}', "missing_field"),
    ],
)
def test_a_bad_line_comes_out_with_its_reason(line: str, error: str) -> None:
    """Under the reason's name; nothing is raised."""
    assert said(line)["error"] == error


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": ""}', "empty"),
        (b"\xff\xfe\x00\x01 buy", "unreadable"),
        ('{"text": "bullish \\ud800"}', "unreadable"),
        ("\u202ebullish", "unreadable"),
        ("12 $AAPL", "no_words"),
    ],
)
def test_what_says_nothing_is_neutral_with_a_reason(line: bytes | str, reason: str) -> None:
    """Confidence 0 and why."""
    found = said(line)

    assert (found["label"], found["confidence"], found["reason"]) == ("neutral", 0.0, reason)


@pytest.mark.parametrize("name", ["\ud800", 10**30, {"a": 1}, None, "x" * 10_000])
def test_any_id_can_be_written(name: object) -> None:
    """Surrogates, numbers beyond 64 bits, objects and long ids do not stop the line."""
    assert "label" in said(json.dumps({"id": name, "text": CALL}))


def test_a_line_over_a_mebibyte_is_skipped_and_the_next_one_read() -> None:
    """It costs no memory and keeps its number; a line of exactly 1 MiB is read."""
    stream = io.BytesIO(b"x" * 3_000_000 + b"\nafter\n\n" + b"y" * 1_048_575 + b"\nlast")

    found = [(number, None if line is None else len(line)) for number, line in read_lines(stream)]

    assert found == [(1, None), (2, 6), (4, 1_048_576), (5, 4)]
    assert json.loads(answers(ANALYZER, [(1, None)])[0])["error"] == "line_too_long"


def test_lines_come_out_in_order_one_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good and bad mixed: exit code 0, as many lines out as lines that hold something."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "posts.txt"
    file.write_bytes(f'{CALL}\n{{"text": "cut\n\n\xff\n{{"id": "z", "text": "$TSLA"}}'.encode("latin-1"))

    result = CliRunner().invoke(app, [str(file), "--symbols", "AAPL, TSLA"], catch_exceptions=False)

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [line["id"] for line in lines] == [1, 2, 4, "z"]
    assert lines[1]["error"] == "not_json"
    assert lines[3]["tradable"] == ["TSLA"]


def test_a_long_file_is_answered_as_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More lines than are read at once, bad ones among them: each answer is that of its line alone."""
    monkeypatch.chdir(tmp_path)
    lines = [b'{"id": []' if n % 40 == 7 else f'{{"id": "p{n}", "text": "{CALL} {n}"}}'.encode() for n in range(130)]
    file = tmp_path / "posts.jsonl"
    file.write_bytes(b"\n".join(lines))

    result = CliRunner().invoke(app, [str(file), "--symbols", "AAPL,TSLA"], catch_exceptions=False)
    alone = [answers(ANALYZER, [(n, line)])[0].decode() for n, line in enumerate(lines, start=1)]

    assert result.stdout.splitlines() == alone


def test_standard_input_is_read_and_a_channel_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is the default; the channel's calibrator is another, so the confidence is."""
    monkeypatch.chdir(tmp_path)
    outputs = [
        json.loads(CliRunner().invoke(app, ["--channel", channel], input=CALL, catch_exceptions=False).stdout)
        for channel in ("unknown", "news")
    ]

    assert outputs[0]["confidence"] != outputs[1]["confidence"]
    assert outputs[0]["tradable"] == []


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(SettingsError, match=r"nowhere\.txt"):
        CliRunner().invoke(app, [str(tmp_path / "nowhere.txt")], catch_exceptions=False)
