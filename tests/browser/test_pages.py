"""The dashboard in a real browser, with hostile words in every field. `make browser`; pictures go to docs/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pipeline.models import TradingState
from tests.accounts import guarded_server
from tests.browser.chromium import DESKTOP, PHONE, Page, browser, program
from tests.pages import BUSY, DEPENDENT, EVIL, FAILED, PASSWORD, Scene, a_scene
from workers.adapters.wsgi import WsgiServer
from workers.dashboard.app import MOST_BODY_BYTES, build

pytestmark = pytest.mark.skipif(program() is None, reason="chromium is missing. Debian: sudo apt-get install chromium")

LOADED: Final = "document.querySelector('[data-role=state]').textContent !== 'Loading'"
PAGES: Final = {
    "/rq/": ["immediate"],
    "/rq/0/view/workers": ["work-immediate-host-7", "busy", BUSY],
    "/rq/0/view/jobs/immediate/queued/20/asc/1": [FAILED, BUSY, EVIL],
    "/rq/0/view/jobs/immediate/failed/20/asc/1": [FAILED, EVIL],
    f"/rq/0/view/job/{BUSY}": [EVIL],
    f"/rq/0/view/job/{DEPENDENT}": [EVIL, BUSY, "(expired)"],
    f"/rq/0/view/job/{FAILED}": [EVIL, "Traceback"],
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A fleet with something of everything, hostile wherever it can be."""
    with guarded_server(tmp_path_factory.mktemp("browser")) as server:
        yield a_scene(server, FLEET_DASHBOARD__REFRESH_S="1")


@pytest.fixture(scope="module")
def address(scene: Scene) -> Iterator[str]:
    """Where the dashboard answers, on the server that `fleet dashboard` uses."""
    app = build(scene.shown, scene.admin.control)
    server = WsgiServer(app, "127.0.0.1", 0, threads=4, most_body_bytes=MOST_BODY_BYTES)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    """A browser that is logged in."""
    with browser() as found:
        found.size(*DESKTOP)
        found.go(f"{address}/")
        found.ask(f"document.getElementById('password').value = {PASSWORD!r}")
        found.ask("document.querySelector('form.login button').click()")
        found.until("document.getElementById('fleet') !== null")
        yield found


def harmless(page: Page) -> bool:
    """Nothing of the words became an element, ran, changed the title, or had to be stopped by the policy."""
    page.call("Runtime.evaluate", expression="1")
    clean = page.ask("document.querySelectorAll('img, main script, iframe, object').length") == 0
    refused = [line for line in page.said if "Content Security Policy" in line or "PWNED" in line or "dialog" in line]
    return bool(clean) and "PWNED" not in str(page.ask("document.title")) and refused == []


@pytest.mark.parametrize("path", PAGES)
def test_rq_dashboards_pages_show_words_as_words(page: Page, address: str, path: str) -> None:
    """Busy workers, dependent and failed jobs load, and a job's text is what was written."""
    page.go(f"{address}{path}")
    page.until(LOADED)
    shown = page.ask("document.querySelector('main').textContent")

    assert [word for word in PAGES[path] if word not in shown] == []
    assert harmless(page)


def test_the_fleet_page_shows_words_as_words_also_after_its_refresh(page: Page, address: str) -> None:
    """The refresh parses the server's part: nothing in it may run."""
    page.go(f"{address}/")
    page.ask("document.querySelector('.foot time').remove()")
    page.until("document.querySelector('.foot time') !== null")
    shown = page.ask("document.querySelector('main').textContent")

    assert EVIL in shown
    assert f"because {EVIL}" in shown
    assert harmless(page)


def test_what_is_old_looks_old(page: Page, address: str) -> None:
    """A dashboard that cannot be reached says so, rather than showing the past as now."""
    page.go(f"{address}/")
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    page.until("!document.getElementById('stale').hidden")
    words = page.ask("document.getElementById('stale').textContent")
    page.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    page.until("document.getElementById('stale').hidden")

    assert "No answer" in words


def test_halt_is_a_click_with_a_reason(page: Page, address: str, scene: Scene) -> None:
    """Typed words survive the refresh; without a reason the browser sends nothing."""
    page.go(f"{address}/")
    page.ask("document.querySelector('button.stop').click()")
    assert scene.admin.control.trading_state() is TradingState.ACTIVE
    page.ask("document.getElementById('why').value = 'drill in a browser'")
    page.ask("document.querySelector('.foot time').remove()")
    page.until("document.querySelector('.foot time') !== null")
    page.ask("document.querySelector('button.stop').click()")
    page.until("document.querySelector('.hero').textContent.includes('HALTED')")
    why = scene.admin.control.why()
    scene.admin.control.set(TradingState.ACTIVE, EVIL, f"because {EVIL}", scene.admin.clock.now())

    assert why is not None
    assert why.reason == "drill in a browser"


@pytest.mark.parametrize(("width", "height"), [DESKTOP, PHONE, (320, 640)])
@pytest.mark.parametrize("path", ["/", *PAGES])
def test_no_page_is_wider_than_its_window(page: Page, address: str, path: str, width: int, height: int) -> None:
    """Only tables may be pushed sideways, inside their card."""
    page.size(width, height)
    page.go(f"{address}{path}")
    page.until(f"!document.querySelector('[data-role=state]') || {LOADED}")
    wide = page.ask("document.documentElement.scrollWidth - window.innerWidth")
    page.size(*DESKTOP)

    assert wide <= 0


def test_the_login_can_be_used_without_a_mouse(address: str) -> None:
    """The field has the focus and a label."""
    with browser() as fresh:
        fresh.go(f"{address}/login")

        assert fresh.ask("document.activeElement.id") == "password"
        assert fresh.ask("document.querySelector('label[for=password]').textContent") == "Password"


def test_pictures_of_the_real_thing_are_there() -> None:
    """docs/ shows the pages as they are: made by `python -m tests.browser.pictures`."""
    folder = Path(__file__).parents[2] / "docs" / "pictures"

    assert {file.name for file in folder.glob("*.png")} >= {"fleet.png", "fleet-phone.png", "jobs.png"}
