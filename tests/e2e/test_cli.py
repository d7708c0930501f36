"""The command line: stable exit codes, JSON where it is promised, and strangers' text that cannot harm a terminal."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.main import get_command

from pipeline.models import OrchestratorState, TradingState
from tests.delivery import QUICK, a_message, a_result, a_runtime, an_aggregate, later, routed
from tests.e2e.recording import fleet as fleet_process
from workers import cli
from workers.adapters.embedded import EmbeddedServer
from workers.wiring import Runtime

EVIL = "\x1b[31mred\x1b]0;title\x07 <img src=x onerror=alert(1)>\u202e\r\x00 [bold]markup[/bold]"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """Standard error on one line."""
        return " ".join(self.err.split())

    @property
    def document(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def command(
    server_url: str, redis_client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """`command(words...)` runs the real `main` in this process, on an empty server, and leaves no trace in it."""
    kept = dict(os.environ), sys.argv, logging.getLogger().handlers[:], logging.getLogger().level

    def run(*words: str, **variables: str) -> Answer:
        os.environ.clear()
        plain = {name: value for name, value in kept[0].items() if not name.startswith("FLEET_")}
        os.environ.update(plain, FLEET_REDIS_URL=server_url, FLEET_DATA_DIR=str(tmp_path), FLEET_PROFILE="demo")
        os.environ.update(QUICK | variables)
        sys.argv = ["fleet", *words]
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as done:
            code = int(done.code or 0)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    yield run
    os.environ.clear()
    os.environ.update(kept[0])
    sys.argv = kept[1]
    logging.getLogger().handlers[:] = kept[2]
    logging.getLogger().setLevel(kept[3])
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def fleet(server_url: str, redis_client: Any, tmp_path: Path) -> Runtime:
    """What the commands talk about."""
    return a_runtime(server_url, tmp_path)


# ---- exit code 2: settings and usage -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FLEET_RISK__MAX_OPEN_POSITION": "5"}, ("FLEET_RISK__MAX_OPEN_POSITION",)),
        ({"FLEET_NONSENSE": "1"}, ("FLEET_NONSENSE",)),
        ({"FLEET_ORCHESTRATOR__IMMEDIATE_THRESHOLD": "1.5"}, ("immediate_threshold", "1.5", "1")),
        ({"FLEET_ORCHESTRATOR__BATCH_INTERVAL_SECONDS": "0"}, ("batch_interval_seconds", "0", "1")),
        ({"FLEET_ORCHESTRATOR__MIN_CONSENSUS": "NaN"}, ("min_consensus", "NaN")),
        ({"FLEET_PROFILE": "real"}, ("'real'", "paper, replay, live, demo")),
        ({"FLEET_PROFILE": "live"}, ("live_confirmed", "FLEET_LIVE_CONFIRMED=yes")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_stop_every_command_at_its_start(
    command: Command, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    """Rule: exit code 2; the message names the parameter, the value and the valid range."""
    for verb in ("status", "route", "start"):
        answer = command(verb, **variables)

        assert answer.code == 2
        assert answer.out == ""
        assert all(word in answer.words for word in words), answer.words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fly",), "No such command 'fly'"),
        (("halt",), "Missing option '--why'"),
        (("halt", "--why", " "), "--why is empty; valid: a reason"),
        (("resume", "--why", "x", "--cash-flow", "-5"), "--cash-flow is -5; valid: together with --accept"),
        (("resume", "--why", "x", "--accept", "--cash-flow", "much"), "--cash-flow is 'much'; valid: dollars from"),
        (("resume", "--why", "x", "--accept", "--cash-flow", "1e10"), "'1e10'; valid: dollars from -1000000000 to"),
        (("deny", "person", "ann", "--why", "x"), "KIND is 'person'; valid: symbol, author, source"),
        (("inspect", "everything"), "WHAT is 'everything'; valid: decisions, orders"),
        (("dead", "--limit", "0"), "'--limit': Input should be greater than or equal to 1"),
        (("work", "urgent"), "QUEUE is 'urgent'; valid: immediate, consensus, maintenance"),
        (("work", "immediate", "-n", "65"), "'-n': Input should be less than or equal to 64"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_explained(command: Command, words: tuple[str, ...], said: str) -> None:
    """Rule: exit code 2, what was wrong and what is valid."""
    answer = command(*words)

    assert answer.code == 2
    assert said in answer.words.replace("│ ", "")


def test_starting_a_fleet_that_is_switched_off_is_a_question_of_settings(command: Command) -> None:
    """Rule: `enabled: false` refuses to start."""
    answer = command("start", FLEET_ORCHESTRATOR__ENABLED="false")

    assert answer.code == 2
    assert "orchestrator.enabled is false; valid: true" in answer.words


def test_a_server_that_is_not_there_is_a_failure(command: Command) -> None:
    """Rule: exit code 1, one clear line, no traceback, no password."""
    answer = command("status", FLEET_REDIS_URL="redis://user:hush@127.0.0.1:1/0", FLEET_REDIS__RETRY_ATTEMPTS="0")

    assert answer.code == 1
    assert "Redis (ConnectionError)" in answer.words
    assert "start the server, or give its address in FLEET_REDIS_URL" in answer.words
    assert "Traceback" not in answer.err
    assert "hush" not in answer.err + answer.out


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("trace",),
        ("inspect",),
        ("dead",),
        ("check",),
        ("run",),
        ("replay",),
        ("model", "info"),
        ("model", "evaluate"),
    ],
)
def test_what_reads_can_answer_in_json(words: tuple[str, ...]) -> None:
    """Rule: --json on every command that answers with facts."""
    found: Any = get_command(cli.app)
    for word in words:
        found = found.commands[word]

    assert "--json" in [name for parameter in found.params for name in parameter.opts]


# ---- exit code 3: refused ----------------------------------------------------------------------------------


def test_an_id_that_nobody_knows_is_refused(command: Command) -> None:
    """Rule: exit code 3, and where to look."""
    answer = command("trace", "m1")

    assert answer.code == 3
    assert "nothing is known of m1; `fleet inspect decisions`" in answer.words


def test_a_replay_in_a_trading_profile_is_refused(command: Command) -> None:
    """Rule: exit code 3, naming the variable."""
    answer = command("replay", "posts.jsonl", FLEET_PROFILE="paper")

    assert answer.code == 3
    assert "FLEET_PROFILE is 'paper'" in answer.words


# ---- control ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "state"),
    [("halt", TradingState.HALTED), ("reduce", TradingState.REDUCING), ("resume", TradingState.ACTIVE)],
)
def test_the_trading_state_is_set_with_who_and_why(
    command: Command, fleet: Runtime, verb: str, state: TradingState
) -> None:
    """Rule: a person's act, kept with its reason."""
    answer = command(verb, "--why", "drill", "--by", "ann")
    why = fleet.control.why()

    assert (answer.code, answer.out.strip()) == (0, f"trading state {state.value}")
    assert fleet.control.trading_state() is state
    assert why is not None
    assert (why.by, why.reason) == ("ann", "drill")


def test_start_makes_an_empty_server_run_and_active(command: Command, server_url: str, tmp_path: Path) -> None:
    """Rule: a missing control key means HALTED; start initialises it."""
    assert command("start").out.strip() == "running, trading state ACTIVE"


def test_start_does_not_lift_a_halt(command: Command, fleet: Runtime) -> None:
    """Rule: the near miss; a halt ends by `resume` only."""
    command("halt", "--why", "drill")
    command("stop")
    assert fleet.state.read() is OrchestratorState.STOPPING

    assert command("start").out.strip() == "running, trading state HALTED"
    assert fleet.state.read() is OrchestratorState.RUNNING


def test_start_refuses_a_namespace_of_another_profile(command: Command, fleet: Runtime) -> None:
    """Rule: two fleets never share keys."""
    answer = command("start", FLEET_PROFILE="paper", FLEET_REDIS__KEY_PREFIX="demo")

    assert answer.code == 1
    assert "belongs to profile 'demo', not 'paper'" in answer.words


def test_denying_and_muting_reach_every_router_and_can_be_taken_back(command: Command, fleet: Runtime) -> None:
    """Rule: one list for the whole fleet."""
    assert command("deny", "symbol", "ZELK", "--why", "x").out.strip() == "symbol ZELK denied"
    assert command("mute", "bot", "--why", "noise").out.strip() == "author bot denied"
    denied = fleet.control.deny_list()
    assert (denied.symbols, denied.authors) == (frozenset({"ZELK"}), frozenset({"bot"}))

    command("deny", "symbol", "ZELK", "--why", "x", "--off")
    command("mute", "bot", "--why", "x", "--off")
    assert not fleet.control.deny_list().symbols | fleet.control.deny_list().authors


def test_flatten_of_a_flat_book_says_so(command: Command, fleet: Runtime) -> None:
    """Rule: also under HALTED; nothing to do is no failure."""
    command("halt", "--why", "drill")
    answer = command("flatten", "--why", "drill")

    assert (answer.code, answer.out.strip()) == (0, "flat")
    assert command("flatten", "--why", "drill", "--json").document == []


# ---- reading ---------------------------------------------------------------------------------------------


READS = (
    ("status",),
    ("check",),
    ("dead",),
    ("trace", "m1"),
    ("trace", "m1:AAA"),
    ("trace", "AAA-1"),
    *(("inspect", what) for what in ("decisions", "orders", "positions", "lists", "claims", "keys", "AAA")),
)

DAMAGED = 2  # `fleet check` names the file that the recorded day brings damaged on purpose


def fill(fleet: Runtime, words: str = "words") -> None:
    """A decided vote, a waiting one and a dead letter, all with these words in them."""
    messages = [a_message("m1", text=words, author=f"a {words}"), a_message("m2", text=f"{words} too")]
    fleet.inbox.append(messages)
    fleet.backlog.accept([routed(messages[0])])
    fleet.backlog.claim()
    fleet.backlog.accept([routed(messages[1], later(1))])
    fleet.journal.record([(a_result(aggregate=an_aggregate("m1")), ("m1:AAA",))])
    fleet.inbox.bury("collector", "not_json", f"detail {words}", f"raw {words}".encode())


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_every_reading_verb_gives_one_json_document(command: Command, fleet: Runtime, words: tuple[str, ...]) -> None:
    """Rule: --json parses, whatever strangers wrote, and says something."""
    fill(fleet, EVIL)
    answer = command(*words, "--json")

    assert answer.code == (DAMAGED if words == ("check",) else 0), answer.err
    assert answer.document or words[1:] in {("orders",), ("positions",)}


@pytest.mark.parametrize("words", [*READS, ("deny", "author", EVIL.replace("\0", ""), "--why", "x")], ids=str)
def test_text_of_strangers_cannot_move_the_cursor(command: Command, fleet: Runtime, words: tuple[str, ...]) -> None:
    """Rule: no escape, carriage return, bell, NUL or direction mark of theirs reaches the terminal."""
    fill(fleet, EVIL)
    answer = command(*words)

    assert answer.code == (DAMAGED if words == ("check",) else 0), answer.err
    assert not set(answer.out + answer.err) & set("\x1b\x07\x00\r\u202e\x9b")


def test_markup_and_html_of_strangers_are_shown_as_they_are(command: Command, fleet: Runtime) -> None:
    """Rule: rich's markup and a browser's tags are words like any others."""
    fill(fleet, EVIL)

    for answer in (command("dead"), command("trace", "m1")):
        assert "<img src=x onerror=alert(1)>" in answer.out
        assert "[bold]markup[/bold]" in answer.out


def test_an_unknown_id_of_a_stranger_is_harmless_in_the_refusal(command: Command) -> None:
    """Rule: what is repeated in an error is plain."""
    answer = command("trace", "\x1b[2J\u202e[red]x")

    assert answer.code == 3
    assert not set(answer.err) & set("\x1b\u202e")


def test_status_says_how_the_fleet_stands(command: Command, fleet: Runtime) -> None:
    """Rule: state, control with its reason, what waits, what ended, the book."""
    fill(fleet)
    command("halt", "--why", "drill", "--by", "ann")
    found = command("status", "--json").document

    assert (found["state"], found["control"]["trading_state"]) == ("running", "HALTED")
    assert (found["control"]["by"], found["control"]["reason"]) == ("ann", "drill")
    lists = found["lists"]
    assert (found["stream"]["waiting"], found["claims"], lists["symbols"], lists["votes"]) == (2, 1, 1, 1)
    assert lists["oldest_s"] > found["stream"]["oldest_s"] >= 0
    assert 0 < found["limits"]["memory"] < 1
    assert (found["legs"], found["outcomes"], found["dead"]) == (2, {"vetoed": 1}, 1)


def test_a_trace_names_message_leg_and_decision_with_the_numbers(command: Command, fleet: Runtime) -> None:
    """Rule: DESIGN 8, one message's way with every number."""
    fill(fleet)
    found = command("trace", "m1", "--json").document

    assert found["message"]["message"]["message_id"] == "m1"
    assert found["legs"]["m1:AAA"]["state"] == "vetoed"
    outcome = found["decisions"]["AAA-1"]["outcome"]
    assert (outcome["stage"], outcome["rule"], outcome["observed"], outcome["limit"]) == (
        "validator",
        "rsi",
        "71",
        "<= 70",
    )


def test_check_shows_every_setting_with_its_place_and_hides_secrets(command: Command, server_url: str) -> None:
    """Rule: STYLE B4."""
    secret = server_url.replace("redis://", "redis://:hush@")
    found = command("check", "--json", FLEET_RISK__MAX_OPEN_POSITIONS="3", FLEET_REDIS_URL=secret)
    rows = {row["path"]: row for row in found.document["settings"]}

    assert rows["risk.max_open_positions"]["value"] == "3"
    assert "FLEET_RISK__MAX_OPEN_POSITIONS" in rows["risk.max_open_positions"]["origin"]
    assert "hush" not in found.out + found.err


def test_check_names_what_cannot_be_used(command: Command, tmp_path: Path) -> None:
    """Rule: exit code 2 with a sentence for each problem: bars that are not there, a server that is not there."""
    answer = command(
        "check",
        "--json",
        FLEET_MARKET__BARS_DIR=str(tmp_path / "nowhere"),
        FLEET_REDIS_URL="redis://127.0.0.1:1/0",
        FLEET_REDIS__RETRY_ATTEMPTS="0",
    )

    assert answer.code == 2
    assert any("nowhere" in problem for problem in answer.document["problems"])
    assert any("redis.url" in problem for problem in answer.document["problems"])


# ---- the real command ------------------------------------------------------------------------------------


def test_reading_finds_the_embedded_server_of_the_data_folder(tmp_path: Path) -> None:
    """Rule: `fleet status` in another shell needs no address; afterwards a stopped fleet can be read too."""
    where = {"FLEET_DATA_DIR": str(tmp_path), "FLEET_PROFILE": "demo"}
    with EmbeddedServer(tmp_path):
        assert fleet_process("start", **where).returncode == 0

    read = fleet_process("status", "--json", **where)
    assert json.loads(read.stdout)["state"] == "running"


def test_without_a_server_and_without_data_the_next_step_is_said(tmp_path: Path) -> None:
    """Rule: exit code 2 and what to do."""
    done = fleet_process("status", FLEET_DATA_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "set FLEET_REDIS_URL" in " ".join(done.stderr.split())
