"""`python -m tests.browser.pictures`: docs/pictures, of a real fleet that plays the demo."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.accounts import ROOT, guarded_server, until
from tests.browser.chromium import DESKTOP, PHONE, browser
from tests.conftest import free_port
from workers.supervisor import ChildSpec, Supervisor, fleet_command

FOLDER: Final = ROOT / "docs" / "pictures"
PASSWORD: Final = "twelve-letters"
ORDERS: Final = 6
STATE: Final = "document.querySelector('[data-role=state]')"
LOADED: Final = f"!{STATE} || {STATE}.textContent !== 'Loading'"
PICTURES: Final = {
    "fleet": ("/", DESKTOP),
    "fleet-phone": ("/", PHONE),
    "workers": ("/rq/0/view/workers", (1280, 400)),
    "jobs": ("/rq/0/view/jobs/immediate/finished/20/dsc/1", (1280, 720)),
    "jobs-phone": ("/rq/0/view/jobs/immediate/finished/20/dsc/1", PHONE),
}
VERBS: Final = ("collect", "route", "schedule", "watch", "work immediate", "work consensus", "work maintenance")


def main() -> None:
    """Play the demo at sixty times its speed until there is something to see, then take the pictures."""
    with tempfile.TemporaryDirectory() as name, guarded_server(Path(name), "--appendonly", "yes") as server:
        port = free_port()
        env = os.environ | {
            "FLEET_REDIS_URL": server.url("admin"),
            "FLEET_SETTINGS_FILE": str(ROOT / "config" / "feeds" / "demo.yaml"),
            "FLEET_PLAYBACK__SPEED": "60",
            "FLEET_DATA_DIR": name,
            "FLEET_DASHBOARD__PASSWORD": PASSWORD,
            "FLEET_DASHBOARD__PORT": str(port),
        }
        words = (*VERBS, "dashboard")
        children = [ChildSpec(verb.replace(" ", "-"), fleet_command(*verb.split())) for verb in words]
        crew = Supervisor(children, env=env, log_dir=Path(name) / "logs")
        try:
            with server.client("operator") as looker:
                any_looker: Any = looker

                def enough() -> bool:
                    crew.poll()
                    return int(any_looker.hget("fleet:tally", "leg:executed") or 0) >= ORDERS

                until(enough, 600)
            take(f"http://127.0.0.1:{port}")
        finally:
            crew.shut_down()


def take(address: str) -> None:
    """Log in and take every picture."""
    with browser() as page:
        page.size(*DESKTOP)
        page.go(f"{address}/")
        page.picture(FOLDER / "login.png", whole=False)
        page.ask(f"document.getElementById('password').value = {PASSWORD!r}")
        page.ask("document.querySelector('form.login button').click()")
        page.until("document.getElementById('fleet') !== null")
        for name, (path, size) in PICTURES.items():
            page.size(*size)
            page.go(f"{address}{path}")
            page.until(LOADED)
            page.picture(FOLDER / f"{name}.png", whole=path == "/")
            sys.stderr.write(f"{name}.png {(FOLDER / f'{name}.png').stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main()
