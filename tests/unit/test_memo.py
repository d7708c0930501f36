"""What a memo keeps, and what it never keeps."""

from pipeline.memo import Memo, TextMemo


def test_a_question_is_asked_once_until_the_memo_is_full() -> None:
    """With room for two answers the third question empties it, so the first is asked again."""
    asked: list[str] = []

    def length(key: str) -> int:
        asked.append(key)
        return len(key)

    memo = Memo(length, room=2)

    assert [memo[key] for key in ("a", "bb", "a", "ccc", "a")] == [1, 2, 1, 3, 1]
    assert asked == ["a", "bb", "ccc", "a"]


def test_texts_of_more_than_thirty_characters_are_not_kept() -> None:
    """Thirty are, thirty-one are answered and forgotten."""
    memo = TextMemo(len)

    assert (memo["x" * 30], memo["x" * 31]) == (30, 31)
    assert list(memo) == ["x" * 30]


def test_answers_found_together_are_kept_while_there_is_room() -> None:
    """Room for three: two fit beside one, two more empty it first; none is asked for again."""
    memo = Memo[str, int](len, room=3)
    assert memo["a"] == 1

    memo.keep({"bb": 2, "ccc": 3})
    assert list(memo) == ["a", "bb", "ccc"]

    memo.keep({"dddd": 4, "eeeee": 5})
    assert list(memo) == ["dddd", "eeeee"]
