"""The splitter: lines, offsets and a bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from workers.adapters.lines import KEPT_BYTES, Splitter


def test_lines_come_with_the_offset_after_their_newline() -> None:
    """The offset is where a reader goes on."""
    assert Splitter().feed(b"ab\ncd\n") == [(b"ab", 3), (b"cd", 6)]


def test_a_half_line_waits_for_its_other_half() -> None:
    """Chunks end anywhere."""
    splitter = Splitter()

    assert splitter.feed(b"ab") == []
    assert splitter.position == 2
    assert splitter.offset == 0
    assert splitter.feed(b"cd\n") == [(b"abcd", 5)]


def test_windows_line_ends_and_blank_lines_are_no_content() -> None:
    """Blank lines are no posts, but their bytes count."""
    assert Splitter(10).feed(b"a\r\n \r\n\n\tb\n") == [(b"a", 13), (b"\tb", 20)]


def test_the_last_line_may_lack_its_newline() -> None:
    """At the end of a file that does not grow."""
    splitter = Splitter()
    splitter.feed(b"a\nb")

    assert splitter.flush() == [(b"b", 3)]
    assert splitter.flush() == []


def test_of_a_line_over_the_cap_only_the_beginning_is_held() -> None:
    """Ten megabytes pass through; one byte over the cap stays, so that the parser refuses it by length."""
    splitter = Splitter()
    for _ in range(10):
        assert splitter.feed(b"x" * 1_000_000) == []
        assert len(splitter._pending) <= KEPT_BYTES
    lines = splitter.feed(b"\nok\n")

    assert lines == [(b"x" * KEPT_BYTES, 10_000_001), (b"ok", 10_000_004)]


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_lines_do_not_depend_on_where_chunks_end(chunks: list[bytes]) -> None:
    """Any cut of the same bytes gives the same lines and offsets."""
    whole, cut = Splitter(), Splitter()
    expected = whole.feed(b"".join(chunks)) + whole.flush()
    found = [line for chunk in chunks for line in cut.feed(chunk)] + cut.flush()

    assert found == expected
    assert cut.offset == len(b"".join(chunks))
