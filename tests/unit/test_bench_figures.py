"""The table of the benches: medians, ranges, ratios and targets as they are printed."""

from pathlib import Path

import pytest

from tests.benchmarks.figures import BEGIN, END, Figure, Target, at_least, fill, shown, spread, table
from tests.benchmarks.targets import TARGETS

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def test_three_rounds_are_one_row_with_median_range_and_ratio() -> None:
    """2,000 of 1,900, 2,000 and 2,500; ratios 4, 5 and 6 have the median 5; a target of 2,000 is met at 2,000."""
    rows = [Figure("worker", "jobs/s", v, {"RPUSH": r}, (10, 5)) for v, r in ((1_900, 4), (2_500, 6), (2_000, 5))]
    text = table(rows, {"jobs/s": at_least(2_000)})

    assert text.splitlines()[-1] == (
        "| worker | jobs/s | 2,000 (1,900 to 2,500) | 5.00 × RPUSH | 10.0 + 5.00 | >= 2,000 | met |"
    )


def test_a_missed_target_is_said() -> None:
    """1.51 ms of at most 1.5."""
    row = table([Figure("worker", "p50", 1.51)], {"p50": Target(1.5)}).splitlines()[-1]

    assert row == "| worker | p50 | 1.51 | - | - | <= 1.5 | **missed** |"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0412, "0.0412"), (1.514, "1.51"), (15.14, "15.1"), (1_514.2, "1,514"), (0, "0")]
)
def test_numbers_are_shown_with_three_digits(value: float, text: str) -> None:
    """More would be noise."""
    assert shown(value) == text


def test_one_value_has_no_range() -> None:
    """What is measured once."""
    assert spread([7.0]) == "7.00"


def test_the_page_is_filled_between_its_markers_only(tmp_path: Path) -> None:
    """Filling it again replaces what was there; a page without markers is refused."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    fill(page, "new")
    fill(page, "newer")

    assert page.read_text() == f"before\n{BEGIN}newer\n{END}after\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="has no <!-- bench"):
        fill(page, "new")


def test_the_shipped_page_has_markers() -> None:
    """Or `make bench` would end without its table."""
    assert BEGIN in PAGE.read_text(encoding="utf-8")
    assert END in PAGE.read_text(encoding="utf-8")


def test_every_target_is_one_that_can_be_judged() -> None:
    """A target of zero or less would always be met or never."""
    assert all(target.limit > 0 for target in TARGETS.values())
