"""Sources on real files and pipes: marks, gzip, tail, rotation, truncation."""

import gzip
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import SettingsError, TransientError
from workers.adapters import source_jsonl
from workers.adapters.lines import Mark, SourceError
from workers.adapters.posts import MAX_LINE_BYTES
from workers.adapters.source_jsonl import JsonlSource
from workers.adapters.source_stdin import StdinSource


def lines(source: JsonlSource | StdinSource, limit: int = 100) -> list[bytes]:
    """What the source gives now."""
    return [post.line for post in source.read(limit)]


class Opener:
    """Opens sources and closes them after the test."""

    def __init__(self) -> None:
        self.sources: list[JsonlSource] = []

    def __call__(self, path: Path, *, tail: bool = False, mark: Mark | None = None) -> JsonlSource:
        source = JsonlSource(path, tail=tail)
        self.sources.append(source)
        source.connect(mark)
        return source


@pytest.fixture
def connected() -> Iterator[Opener]:
    """Sources that are open."""
    opener = Opener()
    yield opener
    for source in opener.sources:
        source.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of three lines."""
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"one\ntwo\nthree\n")
    return path


def append(path: Path, content: bytes) -> None:
    """Another program writes on."""
    with path.open("ab") as out:
        out.write(content)


# ---- once through --------------------------------------------------------------------------------------


def test_a_file_is_read_in_order_and_ends(connected: Opener, file: Path) -> None:
    """`ended` is told only when the last line was taken."""
    source = connected(file)

    assert lines(source, 2) == [b"one", b"two"]
    assert not source.ended
    assert lines(source) == [b"three"]
    assert lines(source) == []
    assert source.ended


def test_a_last_line_without_newline_is_a_line(connected: Opener, file: Path) -> None:
    """In a file that does not grow."""
    append(file, b"four")

    assert lines(connected(file))[-1] == b"four"


def test_an_empty_file_ends_at_once(connected: Opener, tmp_path: Path) -> None:
    """Nothing to read is not an error."""
    (tmp_path / "empty").touch()
    source = connected(tmp_path / "empty")

    assert lines(source) == []
    assert source.ended


@pytest.mark.parametrize("packed", [False, True])
def test_a_restart_goes_on_after_the_mark(connected: Opener, tmp_path: Path, *, packed: bool) -> None:
    """Offsets of a packed file count decompressed bytes."""
    path = tmp_path / ("posts.jsonl.gz" if packed else "posts.jsonl")
    content = b"".join(b'{"id": %d}\n' % number for number in range(5_000))
    path.write_bytes(gzip.compress(content) if packed else content)
    first = connected(path).read(1234)

    assert lines(connected(path, mark=first[-1].mark), 1) == [b'{"id": 1234}']


def test_a_mark_at_the_end_leaves_nothing(connected: Opener, file: Path) -> None:
    """The same file twice in a row gives no post twice."""
    mark = connected(file).read(3)[-1].mark

    assert lines(connected(file, mark=mark)) == []


def test_a_mark_of_other_content_is_not_used(connected: Opener, file: Path) -> None:
    """A new file under the old name begins at its beginning, however long it is."""
    mark = connected(file).read(3)[-1].mark
    file.write_bytes(b"uno\ndos\ntres\ncuatro\n")

    assert lines(connected(file, mark=mark), 1) == [b"uno"]


def test_a_mark_behind_the_end_is_not_used(connected: Opener, file: Path) -> None:
    """The file was cut since."""
    file.write_bytes(b"one\n")
    mark = connected(file).read(1)[-1].mark

    assert lines(connected(file, mark=Mark(mark.identity, 5))) == [b"one"]


def test_a_moved_file_keeps_its_mark(connected: Opener, file: Path, tmp_path: Path) -> None:
    """A mark is of content, not of a name or an inode."""
    mark = connected(file).read(2)[-1].mark
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(file.read_bytes())

    assert lines(connected(copy, mark=mark)) == [b"three"]


def test_a_missing_file_is_a_wrong_setting(connected: Opener, tmp_path: Path) -> None:
    """The message names parameter and value."""
    with pytest.raises(SettingsError, match=r"source\.path = .*nowhere"):
        connected(tmp_path / "nowhere")


def test_a_folder_is_a_wrong_setting(connected: Opener, tmp_path: Path) -> None:
    """So is what cannot be opened."""
    with pytest.raises(SettingsError, match="cannot be read"):
        connected(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_gzip_file_gives_what_is_whole_and_says_where_it_breaks(
    connected: Opener, tmp_path: Path, damage: str
) -> None:
    """Nothing is passed over in silence."""
    path = tmp_path / "posts.jsonl.gz"
    packed = gzip.compress(b"one\ntwo\n" * 100_000)
    path.write_bytes(packed[: len(packed) // 2] if damage == "cut" else b"no gzip")
    source = connected(path)

    with pytest.raises(SourceError, match=r"cannot be read after byte \d+"):
        source.read(1_000_000)


def test_a_line_of_ten_megabytes_is_never_held_whole(connected: Opener, tmp_path: Path) -> None:
    """It arrives one byte over the cap, for the parser to refuse; its neighbours arrive whole."""
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"before\n" + b"x" * 10_000_000 + b"\nafter\n")
    source = connected(path)
    tracemalloc.start()
    found = lines(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [len(line) for line in found] == [6, MAX_LINE_BYTES + 1, 5]
    assert peak < 5_000_000


# ---- followed ---------------------------------------------------------------------------------------------


def test_a_followed_file_gives_what_is_appended(connected: Opener, file: Path) -> None:
    """It never ends."""
    source = connected(file, tail=True)

    assert lines(source) == [b"one", b"two", b"three"]
    assert lines(source) == []
    append(file, b"four\n")
    assert lines(source) == [b"four"]
    assert not source.ended


def test_a_line_that_comes_while_it_is_waited_for_is_given_at_once(file: Path) -> None:
    """The wait ends with the line, not with the patience."""
    source = JsonlSource(file, tail=True, patience_s=3600)
    source.connect()
    assert lines(source) == [b"one", b"two", b"three"]

    def write() -> None:
        with file.open("ab") as stream:
            stream.write(b"four\n")

    writer = threading.Timer(0.05, write)
    writer.start()

    assert lines(source) == [b"four"]
    writer.join()
    source.close()


def test_a_file_to_which_nothing_is_written_is_looked_at_ever_less(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a millisecond to 50, also over many reads of half a second each; a line begins it anew."""
    clock, pauses = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(source_jsonl, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    source = JsonlSource(file, tail=True, patience_s=0.5)
    source.connect()
    assert source.read(10)
    for _ in range(4):
        assert source.read(10) == []

    assert pauses[0] == 0.001
    assert set(pauses[-8:-2]) == {0.05}
    with file.open("a") as feed:
        feed.write("again\n")
    assert source.read(10)
    pauses.clear()
    assert source.read(10) == []
    source.close()

    assert pauses[0] == 0.001


def test_a_half_written_line_is_waited_for(connected: Opener, file: Path) -> None:
    """The writer is in the middle of it."""
    source = connected(file, tail=True)
    lines(source)
    append(file, b"fo")

    assert lines(source) == []
    append(file, b"ur\n")
    assert lines(source) == [b"four"]


def test_a_half_read_line_is_read_whole_after_a_restart(connected: Opener, file: Path) -> None:
    """The mark stays before it."""
    source = connected(file, tail=True)
    mark = source.read(3)[-1].mark
    append(file, b"fo")
    lines(source)
    append(file, b"ur\n")

    assert lines(connected(file, tail=True, mark=mark)) == [b"four"]


def test_rotation_by_renaming_loses_nothing(connected: Opener, file: Path) -> None:
    """What the writer still adds to the old file comes first, then the new one."""
    source = connected(file, tail=True)
    lines(source, 1)
    file.rename(file.with_suffix(".1"))
    append(file.with_suffix(".1"), b"late\n")

    assert lines(source) == [b"two", b"three", b"late"]
    file.write_bytes(b"new\n")
    assert lines(source) == [b"new"]


def test_rotation_by_copy_and_truncate_begins_anew(connected: Opener, file: Path) -> None:
    """The file became shorter than what was read."""
    source = connected(file, tail=True)
    lines(source)
    file.write_bytes(b"new\n")

    assert lines(source) == [b"new"]


def test_a_truncated_file_that_grew_past_our_place_is_noticed(connected: Opener, file: Path) -> None:
    """Its size says nothing, its beginning does."""
    source = connected(file, tail=True)
    lines(source)
    file.write_bytes(b"a longer first line than before\nsecond\n")

    assert lines(source) == [b"a longer first line than before", b"second"]


def test_after_a_rotation_marks_are_of_the_new_file(connected: Opener, file: Path) -> None:
    """A restart goes on in it."""
    source = connected(file, tail=True)
    lines(source)
    file.unlink()
    file.write_bytes(b"new\nnewer\n")
    mark = source.read(1)[-1].mark

    assert lines(connected(file, tail=True, mark=mark)) == [b"newer"]


def test_a_followed_file_may_come_later(connected: Opener, tmp_path: Path) -> None:
    """The process backs off until it is there."""
    with pytest.raises(TransientError, match=r"source\.path"):
        connected(tmp_path / "later.jsonl", tail=True)
    (tmp_path / "later.jsonl").write_bytes(b"one\n")

    assert lines(connected(tmp_path / "later.jsonl", tail=True)) == [b"one"]


def test_a_packed_file_cannot_be_followed(tmp_path: Path) -> None:
    """Its last block is unreadable until it is closed."""
    with pytest.raises(SettingsError, match=r"source\.tail = true.*valid: false"):
        JsonlSource(tmp_path / "posts.jsonl.gz", tail=True)


# ---- standard input ------------------------------------------------------------------------------------------


def test_standard_input_gives_lines_as_they_come_and_ends_with_the_writer() -> None:
    """A pipe: nothing there is an empty answer, a closed end the end."""
    reader, writer = os.pipe()
    source = StdinSource(reader)
    source.connect()

    assert lines(source) == []
    os.write(writer, b"one\ntw")
    assert lines(source) == [b"one"]
    os.write(writer, b"o")
    os.close(writer)
    assert lines(source) == [b"two"]
    assert source.ended
    os.close(reader)
