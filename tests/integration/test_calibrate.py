"""The calibration command on small files of its own."""

import csv
from pathlib import Path

import pytest

from pipeline.sentiment import parse_weights
from workers import calibrate

WORDS = {"bullish": "strong beat and rally", "bearish": "weak miss and crash", "neutral": "meeting on monday"}


def write_source(folder: Path, name: str) -> None:
    """120 posts of one source, forty of each label."""
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label", "source"])
        rows.writerows((f"{words} number {i % 7}", label, name) for i in range(40) for label, words in WORDS.items())


def test_the_same_posts_give_the_same_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs write the same bytes; the report has a line for every source; no text is in the model."""
    for name in ("one", "two", "three"):
        write_source(tmp_path, name)
    outputs = [tmp_path / "a.json", tmp_path / "b.json"]

    codes = [calibrate.main([str(tmp_path), str(output)]) for output in outputs]

    weights = parse_weights(outputs[0].read_text("utf-8"))
    assert codes == [0, 0]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert [entry["source"] for entry in weights.provenance] == ["one", "three", "two"]
    assert all(len(name.split()) <= 3 for name in weights.words)
    assert weights.words["rally"][1] > weights.words["rally"][0]
    assert {"one", "two", "three", "all"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_wrong_arguments_show_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and how to call it."""
    assert calibrate.main(arguments) == 2
    assert "usage" in capsys.readouterr().err


def test_a_folder_without_labelled_posts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the folder's name: at least two sources are needed to hold one out."""
    write_source(tmp_path, "one")

    assert calibrate.main([str(tmp_path)]) == 2
    assert "two sources" in capsys.readouterr().err
