"""Settings: which place wins, what is refused and how the refusal reads."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from config.layers import parameters
from config.settings import FOLDER, PROFILES, Settings, effective, load_settings
from pipeline.errors import SettingsError

A_VENUE = {
    "FLEET_VENUE__KIND": "http",
    "FLEET_VENUE__BASE_URL": "https://venue.example/v1",
    "FLEET_VENUE__API_KEY": "marked-key-1234",
}


def a_file(folder: Path, text: str, name: str = "extra.yaml") -> Path:
    """A settings file with this text."""
    file = folder / name
    file.write_text(text)
    return file


def refusal(
    environ: Mapping[str, str] | None = None, extra_file: Path | None = None, profile: str | None = None
) -> str:
    """The words with which these settings are refused."""
    with pytest.raises(SettingsError) as refused:
        load_settings(profile, extra_file, environ or {})
    return str(refused.value)


def origin(settings: Settings, path: str) -> str:
    """Where the parameter came from."""
    return next(row.origin for row in effective(settings) if row.path == path)


# ---- which place wins --------------------------------------------------------------------------------------


def test_without_anything_set_the_paper_profile_counts() -> None:
    """A newcomer trades on paper."""
    settings = load_settings(environ={})

    assert (settings.profile, settings.environment, settings.is_live) == ("paper", "paper", False)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "live"])
def test_every_profile_loads(profile: str) -> None:
    """The files the project ships are valid."""
    assert load_settings(profile, environ={}).profile == profile


def test_a_place_with_higher_rank_wins(tmp_path: Path) -> None:
    """Environment > secrets > extra file > profile > settings.yaml, each one beating the next."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "fleet_source__channel").write_text("from-secret\n")
    extra = a_file(tmp_path, "source: {channel: from-file}")
    with_secrets = {"FLEET_SECRETS_DIR": str(secrets)}

    def channel(profile: str, extra_file: Path | None, environ: dict[str, str]) -> str:
        return load_settings(profile, extra_file, environ).source.channel

    assert channel("replay", None, {}) == "posts"
    assert channel("replay", extra, {}) == "from-file"
    assert channel("replay", extra, with_secrets) == "from-secret"
    assert channel("replay", extra, with_secrets | {"FLEET_SOURCE__CHANNEL": "from-env"}) == "from-env"
    assert load_settings("paper", environ={}).redis.key_prefix == "fleet"
    assert load_settings("replay", environ={}).redis.key_prefix == "replay"


def test_a_section_in_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    """Deep merge: one number of a section set in a profile leaves its neighbours as they were."""
    settings = load_settings(None, a_file(tmp_path, "workers:\n  immediate: 7\n"), {"FLEET_WORKERS__CONSENSUS": "5"})

    assert settings.workers == Settings().workers.model_copy(update={"immediate": 7, "consensus": 5})


def test_the_argument_beats_the_variable_that_names_a_profile() -> None:
    """`--profile` is what the person said last."""
    assert load_settings("demo", environ={"FLEET_PROFILE": "replay"}).profile == "demo"


def test_the_short_name_of_the_redis_url_works_like_the_full_one() -> None:
    """FLEET_REDIS_URL is the name every document uses."""
    for name in ("FLEET_REDIS_URL", "FLEET_REDIS__URL"):
        url = load_settings(environ={name: "redis://h:6379/0"}).redis.url
        assert url is not None
        assert url.get_secret_value() == "redis://h:6379/0"


def test_two_names_of_one_parameter_may_not_differ() -> None:
    """Nobody should have to know which of them wins."""
    assert "differ" in refusal({"FLEET_REDIS_URL": "redis://a", "FLEET_REDIS__URL": "redis://b"})


def test_an_empty_variable_counts_as_not_set() -> None:
    """Compose files pass empty variables on."""
    assert load_settings(environ={"FLEET_REDIS_URL": "", "FLEET_LIVE_CONFIRMED": ""}).redis.url is None


def test_variables_of_other_programs_are_none_of_our_business() -> None:
    """Only names that begin with FLEET_ are compared."""
    others = {"FLEETING": "1", "RQ_KEY_PREFIX": "x", "fleet_log__level": "nonsense"}

    assert load_settings(environ=others) == load_settings(environ={})


def test_the_process_environment_counts_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line passes nothing."""
    monkeypatch.setenv("FLEET_SOURCE__CHANNEL", "from-process")

    assert load_settings().source.channel == "from-process"


def test_class_defaults_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings()` in a test must not depend on the machine."""
    monkeypatch.setenv("FLEET_SOURCE__CHANNEL", "from-process")

    assert Settings().source.channel == "posts"


def test_lists_are_json_in_variables() -> None:
    """One way to write a list."""
    assert load_settings(environ={"FLEET_SOURCE__KNOWN": '["twitter", "rss"]'}).source.known == ("twitter", "rss")


# ---- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FLEET_WORKERS__IMEDIATE": "1"}, ["FLEET_WORKERS__IMEDIATE", "did you mean FLEET_WORKERS__IMMEDIATE?"]),
        ({"FLEET_REDISURL": "redis://:pw@h"}, ["FLEET_REDISURL", "did you mean FLEET_REDIS_URL?"]),
        ({"FLEET_WORKERS": "{}"}, ["FLEET_WORKERS is no variable"]),
        ({"FLEET_XYZZY": "1"}, ["FLEET_XYZZY is no variable", "fleet check"]),
        ({"FLEET_PROFILE": "prod"}, ["FLEET_PROFILE", "'prod'", "paper, replay, live, demo"]),
        ({"FLEET_WORKERS__IMMEDIATE": "0"}, ["FLEET_WORKERS__IMMEDIATE: workers.immediate = '0'", ">= 1 and <= 256"]),
        ({"FLEET_WORKERS__IMMEDIATE": "2.5"}, ["workers.immediate = '2.5'", "a whole number"]),
        ({"FLEET_REDIS__SOCKET_TIMEOUT_S": "nan"}, ["redis.socket_timeout_s = 'nan'", "finite"]),
        ({"FLEET_REDIS__SOCKET_TIMEOUT_S": "1e999"}, ["redis.socket_timeout_s = '1e999'", "finite"]),
        ({"FLEET_REDIS__BLOCK_S": "5"}, ["redis", "block_s = 5.0 must be below socket_timeout_s = 5.0"]),
        ({"FLEET_SCHEDULE__RECONCILE_MAX_AGE_S": "30"}, ["reconcile_max_age_s = 30 must be above", "interval_s = 30"]),
        ({"FLEET_CLOCK": "sundial"}, ["FLEET_CLOCK: clock = 'sundial'", "live | event"]),
        ({"FLEET_SOURCE__KNOWN": "a,b"}, ["FLEET_SOURCE__KNOWN", "JSON"]),
        ({"FLEET_SOURCE__KNOWN": '["Twitter!"]'}, ["FLEET_SOURCE__KNOWN", "source.known", "Twitter!"]),
        ({"FLEET_SOURCE__PATH": "posts.jsonl.gz"}, ["tail = true cannot follow the packed file posts.jsonl.gz"]),
        ({"FLEET_MARKET__CALENDAR_END": "1989-01-01"}, ["calendar_start = 1990-01-01 must be before calendar_end"]),
        ({"FLEET_SECRETS_DIR": "/nowhere/secrets"}, ["FLEET_SECRETS_DIR: /nowhere/secrets is not a folder"]),
        ({"FLEET_REDIS_URL": "redis://h?decode_responses=true"}, ["must not set decode_responses"]),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused_by_name(environ: dict[str, str], words: list[str]) -> None:
    """The message names the variable, the parameter's path, the value received and the valid range."""
    message = refusal(environ)

    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers:\n  immediate: 1\n  imediate: 2\n", ["extra.yaml:3: workers.imediate is no parameter", "immediate?"]),
        ("wrokers: {}\n", ["extra.yaml:1: wrokers is no parameter", "did you mean workers?"]),
        ("# one\n\nworkers:\n  immediate: 999\n", ["extra.yaml:4: workers.immediate = 999", ">= 1 and <= 256"]),
        ("workers:\n  immediate: true\n", ["extra.yaml:2: workers.immediate = True", "a whole number"]),
        ("redis: {block_s: .nan}\n", ["redis.block_s = nan", "finite"]),
        ("log: {level: 10:30}\n", ["log.level = '10:30'", "debug | info | warning | error"]),
        ("workers:\n  immediate: 1\n  immediate: 2\n", ["extra.yaml:3: workers.immediate is there twice", "line 2"]),
        ("workers: {}\nlog: {}\nworkers: {}\n", ["extra.yaml:3: workers is there twice, first in line 1"]),
        ("workers: [1]\n", ["extra.yaml:1: workers"]),
        ("workers:\n", ["extra.yaml:1: workers"]),
        ("- a\n- b\n", ["extra.yaml: must hold sections", "list"]),
        ("workers: {immediate: 1\n", ["extra.yaml: cannot be read as YAML"]),
        ("a: !!python/object/apply:os.system ['true']\n", ["extra.yaml: cannot be read as YAML"]),
        ("profile: live\n", ["extra.yaml:1: profile is chosen by --profile or FLEET_PROFILE only"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_line(tmp_path: Path, text: str, words: list[str]) -> None:
    """The message names the file and line, the parameter's path, the value received and the valid range."""
    message = refusal(extra_file=a_file(tmp_path, text))

    assert all(word in message for word in words), message


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    """Nobody wants to meet them one start at a time."""
    message = refusal({"FLEET_LOG__LEVEL": "loud"}, a_file(tmp_path, "workers: {immediate: 0}"))

    assert len(message.splitlines()) == 2


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The library would pass over it."""
    assert "there is no such settings file" in refusal(extra_file=tmp_path / "nowhere.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A wrong path must not end in a stack trace."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")

    assert "cannot be read as YAML" in refusal(extra_file=tmp_path / "binary.yaml")


def test_a_misspelt_secret_is_refused(tmp_path: Path) -> None:
    """A secret that is silently ignored is a fleet without its password."""
    (tmp_path / "FLEET_REDIS_ULR").write_text("redis://:hunter2@h")
    message = refusal({"FLEET_SECRETS_DIR": str(tmp_path)})

    assert "did you mean FLEET_REDIS_URL?" in message
    assert "hunter2" not in message


def test_foreign_files_beside_secrets_are_passed_over(tmp_path: Path) -> None:
    """Mounted folders hold other programs' secrets too."""
    (tmp_path / "postgres_password").write_text("x")
    (tmp_path / "..data").mkdir()

    assert load_settings(environ={"FLEET_SECRETS_DIR": str(tmp_path)}).redis.url is None


@pytest.mark.parametrize("url", ["http://:hunter2@h", "hunter2", "redis://", "redis://:hunter2@h?decode_responses=1"])
def test_a_refused_url_is_never_repeated(url: str) -> None:
    """It may hold the password."""
    message = refusal({"FLEET_REDIS_URL": url})

    assert "FLEET_REDIS_URL: redis.url = a secret that is not shown" in message
    assert "hunter2" not in message


# ---- real money ------------------------------------------------------------------------------------------------


def test_live_without_the_second_switch_is_refused() -> None:
    """A profile name alone must not move money."""
    assert "FLEET_LIVE_CONFIRMED=yes" in refusal(profile="live")


def test_live_with_the_second_switch_loads() -> None:
    """Both together are meant."""
    assert load_settings("live", environ={"FLEET_LIVE_CONFIRMED": "yes"} | A_VENUE).is_live


def test_live_without_a_venue_is_refused() -> None:
    """Real money never trades against the simulated venue by oversight."""
    assert "venue.kind is paper" in refusal({"FLEET_LIVE_CONFIRMED": "yes"}, profile="live")


def test_a_venue_outside_live_must_say_that_its_money_is_play_money() -> None:
    """A paper fleet with a real address would trade real money without the two switches."""
    assert "venue.sandbox is false" in refusal(A_VENUE)
    assert load_settings(environ=A_VENUE | {"FLEET_VENUE__SANDBOX": "true"}).venue.kind == "http"


def test_a_venue_without_an_address_is_refused() -> None:
    """The key is asked for where orders are sent: routers and collectors live without it."""
    given = {name: value for name, value in A_VENUE.items() if not name.endswith("BASE_URL")}

    assert "FLEET_VENUE__BASE_URL" in refusal(given | {"FLEET_VENUE__SANDBOX": "true"})


def test_several_folders_of_secrets_are_read_the_last_wins(tmp_path: Path) -> None:
    """A role's own and what a composition mounts beside it."""
    for name, url in (("one", "redis://one/0"), ("two", "redis://two/0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fleet_redis_url").write_text(f"{url}\n")
    (tmp_path / "one" / "fleet_source__token").write_text("sixteen-characters\n")
    settings = load_settings(environ={"FLEET_SECRETS_DIR": f"{tmp_path}/one:{tmp_path}/two"})

    assert settings.redis.url is not None
    assert settings.source.token is not None
    assert settings.redis.url.get_secret_value() == "redis://two/0"
    assert settings.source.token.get_secret_value() == "sixteen-characters"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FLEET_REDIS_URL": "rediss://h/0?ssl_cert_reqs=none"}, "ssl_"),
        (
            {"FLEET_REDIS_URL": "redis://h/0", "FLEET_REDIS__TLS_CA": "ca.pem"},
            "tls_ca is set, but url is not rediss://",
        ),
        ({"FLEET_REDIS__TLS_CA": "ca.pem"}, "tls_ca is set, but url is not rediss://"),
        (
            {"FLEET_REDIS_URL": "rediss://h/0", "FLEET_REDIS__TLS_CERT": "c.pem"},
            "tls_key = None; valid: both",
        ),
    ],
)
def test_tls_that_would_protect_nothing_is_refused(variables: dict[str, str], words: str) -> None:
    """No certificate goes unchecked, and none is named in vain."""
    assert words in " ".join(refusal(variables).split())


@pytest.mark.parametrize(
    ("first", "last", "speed", "words"),
    [
        ("2025-09-17T13:30:00Z", "", "1", "valid: both or neither"),
        ("2025-09-17T13:30:00Z", "2025-09-17T13:39:59Z", "10", "must take whole seconds, at least 60"),
        ("2025-09-17T13:30:00Z", "2025-09-17T13:39:50Z", "10", "must take whole seconds, at least 60"),
        ("2025-09-17T20:00:00Z", "2025-09-17T13:30:00Z", "1", "must take whole seconds, at least 60"),
    ],
)
def test_a_playback_without_a_round_is_refused(first: str, last: str, speed: str, words: str) -> None:
    """599 s at ten times the speed are 59.9 s, 590 s are 59 s; 600 s are a minute."""
    names = ("FIRST", "LAST", "SPEED")
    given = {f"FLEET_PLAYBACK__{name}": value for name, value in zip(names, (first, last, speed), strict=True)}
    accepted = given | {"FLEET_PLAYBACK__FIRST": "2025-09-17T13:30:00Z", "FLEET_PLAYBACK__LAST": "2025-09-17T13:40:00Z"}

    assert words in " ".join(refusal(given).split())
    assert load_settings(environ=accepted | {"FLEET_PLAYBACK__SPEED": "10"}).playback.round_s == 60


@pytest.mark.parametrize(
    "url", ["http://venue.example", "https://user:hunter22@venue.example", "ftp://venue.example", "https://", "x"]
)
def test_an_address_that_would_leak_the_key_is_refused_and_not_repeated(url: str) -> None:
    """The key goes over TLS only, and never stands in an address."""
    words = refusal(A_VENUE | {"FLEET_VENUE__SANDBOX": "true", "FLEET_VENUE__BASE_URL": url})

    assert "base_url" in words
    assert "must" in words
    assert "hunter22" not in words


@pytest.mark.parametrize("key", ["short", "with space in it", "line\nbreak-key", "schlüssel-geheim"])
def test_a_key_that_does_not_fit_a_header_is_refused_and_not_repeated(key: str) -> None:
    """A line break in a header would add headers."""
    words = refusal(A_VENUE | {"FLEET_VENUE__SANDBOX": "true", "FLEET_VENUE__API_KEY": key})

    assert "api_key" in words
    assert key not in words


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("venue: {api_key: hunter2-hunter2}", "FLEET_VENUE__API_KEY"),
        ("redis: {url: 'redis://u:hunter2-hunter2@h/0'}", "FLEET_REDIS__URL"),
    ],
)
def test_a_secret_in_a_settings_file_is_refused_and_not_repeated(tmp_path: Path, text: str, variable: str) -> None:
    """Files are copied, shown and committed: secrets come from the environment or a secret file only."""
    words = refusal(extra_file=a_file(tmp_path, text))

    assert variable in words
    assert "hunter2" not in words


def test_an_address_without_a_password_may_stand_in_a_file(tmp_path: Path) -> None:
    """It is no secret."""
    assert load_settings(None, a_file(tmp_path, "redis: {url: 'redis://h:1/0'}"), {}).redis.url is not None


def test_a_secret_is_never_shown() -> None:
    """`fleet check` prints stars."""
    shown = effective(load_settings("live", environ={"FLEET_LIVE_CONFIRMED": "yes"} | A_VENUE))

    assert "marked-key-1234" not in str(shown)


def test_the_live_environment_needs_the_switch_under_any_profile() -> None:
    """Order ids of the live environment belong to the live fleet."""
    assert "FLEET_LIVE_CONFIRMED=yes" in refusal({"FLEET_ENVIRONMENT": "live"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FLEET_ORCHESTRATOR__GATE_FAIL_SAFE_CLOSED", "false", "gate_fail_safe_closed is false"),
        ("FLEET_CLOCK", "event", "clock is event"),
    ],
)
def test_live_refuses_what_is_only_for_practice(name: str, value: str, words: str) -> None:
    """A gate that opens on error and a clock that is not the world's never meet real money."""
    assert words in refusal({"FLEET_LIVE_CONFIRMED": "yes", name: value}, profile="live")


# ---- what is shown ------------------------------------------------------------------------------------------------


def test_every_value_knows_where_it_came_from(tmp_path: Path) -> None:
    """`fleet check` names file and line, or the variable as it was spelt."""
    extra = a_file(tmp_path, "log:\n  level: debug\n")
    settings = load_settings("replay", extra, {"FLEET_REDIS_URL": "redis://h"})

    assert origin(settings, "log.level") == f"{extra}:2"
    assert origin(settings, "redis.url") == "FLEET_REDIS_URL"
    assert origin(settings, "profile") == "--profile"
    assert origin(settings, "clock").startswith(str(FOLDER / "profiles" / "replay.yaml"))
    assert origin(settings, "workers.maintenance").startswith(str(FOLDER / "settings.yaml"))
    assert origin(Settings(), "workers.immediate") == "default"


def test_secrets_are_masked_where_settings_are_shown() -> None:
    """Neither the table nor a printed object shows the password."""
    settings = load_settings(environ={"FLEET_REDIS_URL": "redis://:hunter2@h"})

    assert next(row.value for row in effective(settings) if row.path == "redis.url") == "**********"
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


def test_settings_cannot_be_changed() -> None:
    """Every process decides with the numbers it started with."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().clock = "event"  # type: ignore[misc]


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """Sets have another order under another hash seed; a trace must name the same settings everywhere."""
    program = (
        "from config.settings import load_settings;"
        'print(load_settings(environ={\'FLEET_PAPER__HARD_TO_BORROW\': \'["A", "B", "C"]\'}).fingerprint)'
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            cwd=FOLDER.parent,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(found) == 1


@pytest.mark.parametrize(
    ("environ", "changes"), [({"FLEET_RISK__MAX_ORDER_USD": "1"}, True), ({"FLEET_LOG__LEVEL": "debug"}, False)]
)
def test_the_fingerprint_tells_whether_decisions_may_differ(environ: dict[str, str], *, changes: bool) -> None:
    """A limit counts, a log level does not."""
    assert (load_settings(environ=environ).fingerprint != load_settings(environ={}).fingerprint) is changes


def test_paths_of_a_shipped_profile_start_at_the_folder_of_settings() -> None:
    """The demo runs from any working directory."""
    assert load_settings("demo", environ={}).market.bars_dir == FOLDER / "demo" / "bars"
    assert load_settings("demo", environ={"FLEET_MARKET__BARS_DIR": "bars"}).market.bars_dir == Path("bars")


# ---- settings.yaml ------------------------------------------------------------------------------------------------


def test_settings_yaml_names_every_parameter_with_exactly_the_class_default() -> None:
    """The file people read and the classes that count cannot drift apart."""
    values = yaml.safe_load((FOLDER / "settings.yaml").read_text())
    named = {path for path, _ in parameters(Settings) if path != ("profile",)}

    def paths(node: object, known: set[tuple[str, ...]], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        if above in known or not isinstance(node, dict):
            return {above}
        return {path for key, value in node.items() for path in paths(value, known, (*above, key))}

    assert paths(values, named) == named
    assert load_settings("paper", environ={}).model_dump() == Settings().model_dump()


def test_every_line_of_settings_yaml_says_unit_and_reason() -> None:
    """A number without a reason is a superstition."""
    lines = (FOLDER / "settings.yaml").read_text().splitlines()
    silent = [line for line in lines if line.strip() and not line.startswith("#") and " # " not in line]

    assert silent == []


def test_a_settings_file_named_by_a_variable_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    """Children of a process read the same file, since it travels in the environment."""
    file = tmp_path / "mine.yaml"
    file.write_text("risk:\n  max_open_positions: 3\n")
    named = {"FLEET_SETTINGS_FILE": str(file)}
    settings = load_settings(environ=named)
    file.write_text("risk:\n  max_open_positons: 3\n")

    assert settings.risk.max_open_positions == 3
    with pytest.raises(SettingsError, match=r"mine\.yaml:2.*max_open_positons.*max_open_positions"):
        load_settings(environ=named)
