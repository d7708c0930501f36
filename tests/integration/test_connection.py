"""Connections on a real server."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from config.settings import Settings, load_settings
from pipeline.errors import SettingsError
from workers.adapters.connection import connect, connect_bytes, redis_url
from workers.adapters.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a running server."""
    folder = tmp_path_factory.mktemp("server")
    with EmbeddedServer(folder):
        yield folder


def settings_of(folder: Path, **more: str) -> Settings:
    """Settings without an address: the embedded server of this folder."""
    return load_settings(environ={"FLEET_DATA_DIR": str(folder), **more})


def test_without_an_address_the_embedded_server_of_the_folder_is_used(folder: Path) -> None:
    """`fleet status` in another shell finds the fleet."""
    with connect(settings_of(folder)) as client:
        assert client.ping()


def test_a_configured_address_wins(folder: Path) -> None:
    """Also over a running embedded server."""
    assert redis_url(settings_of(folder, FLEET_REDIS_URL="redis://elsewhere:1/0")) == "redis://elsewhere:1/0"


def test_without_any_server_the_refusal_says_what_to_set(tmp_path: Path) -> None:
    """Neither address nor running server."""
    with pytest.raises(SettingsError, match=r"redis\.url = null.*FLEET_REDIS_URL=redis://"):
        connect(settings_of(tmp_path))


def test_ours_speaks_text_and_rqs_speaks_bytes(folder: Path) -> None:
    """With decoded replies an RQ worker ends without running its job."""
    with connect(settings_of(folder)) as ours, connect_bytes(settings_of(folder)) as theirs:
        ours.set("k", "v")

        assert (ours.get("k"), theirs.get("k")) == ("v", b"v")


def test_patience_is_explicit(folder: Path) -> None:
    """`from_url` alone retries nothing and never times out a connection of its own accord."""
    settings = settings_of(folder, FLEET_REDIS__SOCKET_TIMEOUT_S="4", FLEET_REDIS__RETRY_ATTEMPTS="2")
    with connect(settings) as ours, connect_bytes(settings) as theirs:
        options = ours.connection_pool.connection_kwargs

        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (4.0, 3.0)
        assert options["health_check_interval"] == 15
        assert options["retry"].get_retries() == 2
        assert theirs.connection_pool.connection_kwargs["retry"].get_retries() == 150


def test_a_server_that_is_gone_is_reported_after_the_configured_repeats() -> None:
    """A refused port: the process loop takes over."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = load_settings(
        environ={
            "FLEET_REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "FLEET_REDIS__RETRY_BASE_S": "0.001",
            "FLEET_REDIS__RETRY_CAP_S": "0.01",
        }
    )

    with connect(settings) as client, pytest.raises(redis.ConnectionError):
        client.ping()
