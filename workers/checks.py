"""What `fleet check` looks at beside the settings themselves."""

from config.settings import Settings
from pipeline.errors import FleetError
from workers.adapters.connection import connect, require_server
from workers.wiring import Runtime


def problems(settings: Settings) -> list[str]:
    """Sentences about what cannot be used; empty when the fleet could start."""
    fleet = Runtime(settings)
    found: list[str] = []
    try:
        found += [f"market: {problem}" for problem in fleet.market.check()]
        _ = fleet.conditions
    except FleetError as error:
        found.append(str(error))
    if settings.redis.url is not None:
        try:
            require_server(connect(settings))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it is the answer
            found.append(f"redis.url: {type(error).__name__}: {error}")
    return found
