"""`python -m workers.health ROLE`: exit 0 while the container's process gives signs of life, for healthchecks."""

import socket
import sys
from typing import Final

import redis

from config.settings import load_settings
from workers.adapters.connection import connect
from workers.adapters.keys import Keys

MAIN_PID: Final = 1  # the process a container was started for


def is_alive(client: redis.Redis, keys: Keys, rq_prefix: str, name: str) -> bool:
    """Whether the process of this name has a fresh heartbeat, or is registered as an RQ worker."""
    return bool(client.exists(keys.heartbeat(name), f"{rq_prefix}:worker:{name}"))


def main(role: str) -> int:
    """The exit code: 0 alive, 1 not."""
    settings = load_settings()
    with connect(settings) as client:
        name = f"{role}-{socket.gethostname()}-{MAIN_PID}"
        return 0 if is_alive(client, Keys(settings.redis.key_prefix), settings.rq_prefix, name) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
