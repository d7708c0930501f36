"""The fleet's manual control, heartbeats and the owner of a namespace, in Redis."""

from datetime import datetime
from typing import Any

import orjson
import redis

from pipeline.errors import FleetError
from pipeline.models import OrchestratorState
from workers.adapters.keys import HEARTBEAT_TTL_S, Keys, to_ms


class RedisState:
    """`fleet:state` and `fleet:environment`."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis: Any = client  # decode_responses=True: its answers are str, which the stubs cannot say
        self._keys = keys

    def read(self) -> OrchestratorState:
        """STOPPED when the key is missing."""
        raw = self._redis.get(self._keys.state())
        return OrchestratorState(orjson.loads(raw)["state"]) if raw else OrchestratorState.STOPPED

    def write(self, state: OrchestratorState, by: str, at: datetime) -> None:
        """Set the state for the whole fleet; `by` says who and, for the fleet itself, why."""
        document = {"v": 1, "state": state.value, "by": by, "at": at}
        self._redis.set(self._keys.state(), orjson.dumps(document).decode())

    def by(self) -> str:
        """Who wrote the state, "" when nobody did."""
        raw = self._redis.get(self._keys.state())
        return str(orjson.loads(raw)["by"]) if raw else ""

    def since(self) -> datetime | None:
        """When the state was written, None when it never was."""
        raw = self._redis.get(self._keys.state())
        return datetime.fromisoformat(orjson.loads(raw)["at"]) if raw else None

    def fresh(self, role: str, now: datetime) -> list[str]:
        """Names of the processes of a role whose heartbeat is younger than 30 s. Only reads."""
        alive = to_ms(now) - HEARTBEAT_TTL_S * 1000
        names: list[str] = self._redis.zrangebyscore(self._keys.heartbeats(), alive, "+inf")
        return [name for name in names if name.startswith(f"{role}-")]

    def is_empty(self) -> bool:
        """Whether nobody ever initialised this namespace."""
        return not self._redis.exists(self._keys.state(), self._keys.environment(), self._keys.control())

    def claim_namespace(self, profile: str) -> None:
        """Write what this namespace is for. Raises FleetError when it belongs to another profile."""
        document = orjson.dumps({"v": 1, "profile": profile}).decode()
        if self._redis.set(self._keys.environment(), document, nx=True):
            return
        raw = self._redis.get(self._keys.environment())
        owner = orjson.loads(raw)["profile"] if raw else profile
        if owner != profile:
            raise FleetError(
                f"the namespace {self._keys.prefix!r} on this server belongs to profile {owner!r}, not {profile!r}; "
                "use another FLEET_REDIS__KEY_PREFIX or another server"
            )
