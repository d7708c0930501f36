"""What people read names what is there: links, verbs, Redis keys, decisions."""

import inspect
import re
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.sentiment import load_model
from tests.tools.readme_counts import fill
from workers.adapters.keys import Keys
from workers.cli import app
from workers.model_report import BEGIN, END

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"""(?:\]\(|src=")([^)"#\s]*)(#[^)"]*)?[)"]""")
CODE = re.compile(r"```\n(.*?)```|`([^`\n]+)`", re.DOTALL)
VERB = re.compile(r"^(?:\$ )?fleet(?: --[a-z-]+ \S+)* ([a-z]+)", re.MULTILINE)
IMAGE = "docs/flow.svg"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    """Relative links are files of the repository."""
    links = [target for target, _ in LINK.findall(page.read_text("utf-8")) if target and "://" not in target]

    assert [target for target in links if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_anchor_is_a_heading(page: Path) -> None:
    """A link into a page leads to a heading of it, by the name that GitHub gives it."""
    wanted = [
        (target or page.name, anchor[1:])
        for target, anchor in LINK.findall(page.read_text("utf-8"))
        if anchor and "://" not in target
    ]
    lost = [
        (target, anchor)
        for target, anchor in wanted
        if target.endswith(".md") and anchor not in anchors((page.parent / target).read_text("utf-8"))
    ]

    assert lost == []


def anchors(text: str) -> set[str]:
    """What the headings of a page are reached by."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_verb_is_one_of_the_command_line(page: Path) -> None:
    """`fleet VERB` in a page is a command of `fleet`."""
    verbs = set(getattr(get_command(app), "commands"))  # noqa: B009  # typer's own click has no types here

    code = "\n".join(fenced or inline for fenced, inline in CODE.findall(page.read_text("utf-8")))

    assert set(VERB.findall(code)) - verbs == set()


def test_the_operations_page_has_every_redis_key() -> None:
    """A key without its row in the table would be found by nobody."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    spelled = re.findall(r'f"\{self\.prefix\}:([a-z:-]*[a-z])', inspect.getsource(Keys))
    shown = page.replace("`:positions`", "`fleet:paper:positions`").replace("`:marks`", "`fleet:paper:marks`")

    assert len(spelled) > 30
    assert [key for key in spelled if f"`fleet:{key}" not in shown] == []


def test_the_index_of_decisions_is_complete() -> None:
    """Each record is listed, in the order of its number."""
    folder = ROOT / "docs" / "adr"
    listed = re.findall(r"\((\d{4}-[a-z-]+\.md)\)", (folder / "README.md").read_text("utf-8"))

    assert listed == sorted(file.name for file in folder.glob("0*.md"))


def test_the_model_card_shows_what_was_measured_of_the_shipped_model() -> None:
    """Between its marks: the model's version, and rows of every source it was learned from, known and unseen."""
    card = load_model().card
    table = (ROOT / "docs" / "analyzer.md").read_text("utf-8").split(BEGIN)[1].split(END)[0]
    sources = {entry.source for entry in card.provenance}
    rows = {f"{source} known" for source in sources} | {f"{s} unseen" for s in sources if not s.startswith("own_")}

    assert f"`{card.version}`" in table
    assert {line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if "[" in line} == {
        *rows,
        "all known",
        "all unseen",
    }


def test_the_picture_has_words_for_those_who_cannot_see_it() -> None:
    """Title, description and the README's alternative text."""
    picture = (ROOT / IMAGE).read_text("utf-8")

    assert all(tag in picture for tag in ('role="img"', "<title", "<desc"))
    assert re.search(rf'<img src="{IMAGE}"[^>]* alt="[^"]+"', (ROOT / "README.md").read_text("utf-8"))


def test_counts_of_two_runs_go_into_their_rows() -> None:
    """A row of two rules shows both counts, the errors one sum, a row without any a 0."""
    page = (ROOT / "README.md").read_text("utf-8")

    filled = fill(page, {"vetoed:rsi_oversold": 2, "error:KeyError": 3, "error:ValueError": 1}, {"gate_closed:vix": 7})

    rows = {line.split(" | ")[1]: line.split(" | ")[-2:] for line in filled.splitlines() if line.count(" | ") == 4}
    assert rows["`rsi_overbought`, `rsi_oversold`"] == ["0 / 2", "0 |"]
    assert rows["an exception's name, `three_strikes`"] == ["4", "0 |"]
    assert rows["`vix`"] == ["0", "7 |"]


def test_a_rule_without_a_row_is_told() -> None:
    """A new rule must be explained before it is counted."""
    page = (ROOT / "README.md").read_text("utf-8")

    with pytest.raises(ValueError, match="risk_rejected:moon"):
        fill(page, {"risk_rejected:moon": 1}, {})
