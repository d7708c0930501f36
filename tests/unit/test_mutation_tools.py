"""The tools behind `make mutation`: what counts as a mutant of Lua, and when the score is too low."""

from collections import Counter

import pytest

from tests.tools import mutation
from tests.tools.lua_mutants import TESTS, mutants, parts


def changes(line: str) -> set[str]:
    """Every line that some mutant puts in the place of this one."""
    return {mutant.now for mutant in mutants("SCRIPT", line)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("local a = b < c", {"local a = b <= c"}),
        ("local a = b and not c", {"local a = b or not c", "local a = b and c"}),
        ("local a = b - c", {"local a = b + c"}),
        ("local lost = -worst", {"local lost = worst"}),
        ("return {'refused', 'a < b', x}", {"return {'Xrefused', 'a < b', x}", "return {'refused', 'Xa < b', x}"}),
        ("local a = b[1]", {"local a = b[2]"}),
        ("return 0", {"return 1"}),
        ("return 1", {"return 0"}),
        ("n = n + 1", {"", "n = n - 1", "n = n + 2"}),
        ("if a then return b end", {""}),
        ("redis.call('DEL', KEYS[1])", {"", "redis.call('DEL', KEYS[2])"}),  # a command's own name stays
        ("end", set()),
    ],
)
def test_a_mutant_changes_one_operator_number_or_word_or_drops_the_statement(line: str, expected: set[str]) -> None:
    """What is between quotes is a word: its signs are no operators."""
    assert changes(line) == expected


def test_a_mutant_changes_its_line_and_no_other() -> None:
    """The second of three."""
    (one,) = mutants("S", "local a\nreturn a == b\nend\n")

    assert (one.script, one.line, one.was, one.now) == ("S", 1, "return a == b", "return a ~= b")
    assert one.changed == "local a\nreturn a ~= b\nend\n"


@pytest.mark.parametrize("module", TESTS)
def test_lua_that_scripts_share_is_mutated_once_under_its_own_name(module: str) -> None:
    """Every part is in some script as it stands, and no part holds another."""
    found = parts(module)

    assert found
    assert not [(a, b) for a in found for b in found if a != b and found[a] in found[b]]


def test_the_score_counts_what_was_killed_or_never_ended_among_all_mutants() -> None:
    """8 killed and 1 timed out of 10: 90 %; what no test reaches counts as missed."""
    assert mutation.score(Counter({"killed": 8, "timeout": 1, "survived": 1})) == 90
    assert mutation.score(Counter({"killed": 1, "no tests": 1})) == 50


@pytest.mark.parametrize(("killed", "code"), [(85, 0), (84, 1)])
def test_a_file_below_85_per_cent_fails_the_run(monkeypatch: pytest.MonkeyPatch, killed: int, code: int) -> None:
    """85 of 100 are enough."""
    low = Counter({"killed": killed, "survived": 100 - killed})
    monkeypatch.setattr(mutation, "python_fates", lambda: {"fine.py": Counter({"killed": 3}), "low.py": low})

    assert mutation.main(["python"]) == code


def test_the_table_has_a_line_for_each_file() -> None:
    """Mutants, fates, score."""
    _, line = mutation.table({"a.py": Counter({"killed": 3, "survived": 1})}).splitlines()

    assert line.split() == ["a.py", "4", "3", "0", "1", "0", "0", "75.0", "%"]
