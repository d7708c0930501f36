"""rediss://: who is spoken to is known, or nobody is. Whole processes over TLS are in test_composition."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from config.settings import Settings, load_settings
from tests.accounts import Guarded, guarded_server
from tests.tls import CA, FILES, tls_door
from workers.adapters.connection import connect, connect_bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One server with the shipped accounts."""
    with guarded_server(tmp_path_factory.mktemp("tls")) as found:
        yield found


def settings(url: str, **tls: Path) -> Settings:
    """Settings without patience."""
    files = {f"FLEET_REDIS__{name.upper()}": str(path) for name, path in tls.items()}
    return load_settings(environ={"FLEET_REDIS_URL": url, "FLEET_REDIS__RETRY_ATTEMPTS": "0", **files})


def over_tls(server: Guarded, port: int, host: str = "127.0.0.1") -> str:
    """The worker's address through the door."""
    return server.url("worker").replace("redis://", "rediss://").replace(f"127.0.0.1:{server.port}", f"{host}:{port}")


@pytest.mark.parametrize("make", [connect, connect_bytes])
def test_a_server_of_our_authority_is_spoken_to(server: Guarded, make: Any) -> None:
    """Both kinds of client: ours and RQ's."""
    with tls_door(server.port) as port, make(settings(over_tls(server, port), tls_ca=CA)) as client:
        assert client.ping()


@pytest.mark.parametrize(
    ("authority", "host"), [(FILES / "stranger.pem", "127.0.0.1"), (None, "127.0.0.1"), (CA, "127.0.0.2")]
)
def test_a_server_that_cannot_prove_its_name_is_not(server: Guarded, authority: Path | None, host: str) -> None:
    """Another authority, the system's own, and a certificate of another name: the password is not sent."""
    files = {} if authority is None else {"tls_ca": authority}
    with tls_door(server.port) as port:
        door = settings(over_tls(server, port, host), **files)
        with connect(door) as client, pytest.raises(redis.ConnectionError):
            client.ping()


def test_a_certificate_of_our_own_is_shown_where_it_is_asked_for(server: Guarded) -> None:
    """And a near-miss: without it the door stays shut."""
    with tls_door(server.port, asks_for_certificate=True) as port:
        url, mine = over_tls(server, port), {"tls_cert": FILES / "client.pem", "tls_key": FILES / "client-key.pem"}
        with connect(settings(url, tls_ca=CA, **mine)) as client:
            assert client.ping()
        with connect(settings(url, tls_ca=CA)) as client, pytest.raises(redis.ConnectionError):
            client.ping()
