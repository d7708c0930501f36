"""`fleet dashboard` over HTTP, under its read-only account: who gets in, what is shown, what cannot be done."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from pipeline.models import TradingState
from tests.accounts import Guarded, guarded_server
from tests.pages import BUSY, DEPENDENT, EVIL, FAILED, GONE, PASSWORD, Scene, a_scene
from workers.dashboard.app import HEADERS, build
from workers.dashboard.login import Ended, Tries, same, session_key
from workers.wiring import Runtime

PAGES = (
    "/",
    "/fleet.part",
    "/rq/",
    "/rq/0/view/workers",
    "/rq/0/view/jobs/immediate/queued/20/dsc/1",
    "/rq/0/view/jobs/immediate/failed/20/asc/1",
    f"/rq/0/view/job/{DEPENDENT}",
)
DATA = (
    "/fleet.json",
    "/rq/0/data/queues.json",
    "/rq/0/data/workers.json",
    *(
        f"/rq/0/data/jobs/immediate/{registry}/20/dsc/1.json"
        for registry in ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled")
    ),
    f"/rq/0/data/job/{BUSY}.json",
    f"/rq/0/data/job/{DEPENDENT}.json",
    f"/rq/0/data/job/{FAILED}.json",
)
ACTS = (
    "/rq/requeue/immediate",
    f"/rq/job/{FAILED}/requeue",
    f"/rq/job/{FAILED}/delete",
    "/rq/queue/immediate/queued/empty",
    "/rq/queue/immediate/compact",
)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One server with the shipped accounts."""
    with guarded_server(tmp_path_factory.mktemp("dashboard")) as found:
        yield found


@pytest.fixture(scope="module")
def scene(server: Guarded) -> Scene:
    """A fleet with something of everything."""
    return a_scene(server)


@pytest.fixture
def clock() -> Clock:
    """The login's clock."""
    return Clock()


@pytest.fixture
def web(scene: Scene, clock: Clock) -> FlaskClient:
    """A browser's requests; nobody is logged in."""
    return build(scene.shown, None, clock).test_client()


@pytest.fixture
def acting(scene: Scene, clock: Clock) -> FlaskClient:
    """The same with an account that may halt, logged in."""
    client = build(scene.shown, scene.admin.control, clock).test_client()
    log_in(client)
    return client


def csrf(client: FlaskClient, page: str = "/login") -> str:
    """The token of a page's form."""
    found = re.search(r'name="csrf" value="([\w-]{32})"', client.get(page).text)
    assert found is not None
    return found[1]


def log_in(client: FlaskClient, password: str = PASSWORD, **how: Any) -> TestResponse:
    """What the login form sends."""
    return client.post("/login", data={"csrf": csrf(client), "password": password}, **how)


def changed(scene: Scene, **dashboard: object) -> Runtime:
    """The shown runtime with other settings of the dashboard."""
    settings = scene.shown.settings
    return Runtime(settings.model_copy(update={"dashboard": settings.dashboard.model_copy(update=dashboard)}))


# ---- who gets in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, *DATA, *ACTS, "/rq/static/js/jquery-3.5.1.min.js"])
def test_a_stranger_sees_the_login_and_nothing_else(web: FlaskClient, path: str) -> None:
    """Scripts are told 401, people are sent to the form; what is not there says nothing either."""
    answer = web.get(path)

    assert answer.status_code in {302, 401, 404, 405}
    assert PASSWORD not in answer.text
    assert "demo" not in answer.text
    if path in PAGES:
        assert answer.headers["Location"] == "/login"


def test_the_password_opens_and_a_wrong_one_does_not(web: FlaskClient) -> None:
    """Near-misses: its beginning, another case, nothing."""
    for wrong in (PASSWORD[:-1], PASSWORD.upper(), "", PASSWORD + " "):
        assert log_in(web, wrong).status_code == 403
    assert web.get("/").status_code == 302
    right = log_in(web)

    assert (right.status_code, right.headers["Location"]) == (302, "/")
    assert web.get("/").status_code == 200


def test_guessing_is_slow(web: FlaskClient, clock: Clock) -> None:
    """Five failures in a minute; then not even the right one counts, until the first is a minute old."""
    for _ in range(5):
        assert log_in(web, "guess").status_code == 403
    refused = log_in(web)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "61")
    assert log_in(web, environ_base={"REMOTE_ADDR": "10.0.0.9"}).status_code == 302
    clock.at += 60
    assert log_in(web).status_code == 302


def test_failures_are_remembered_for_a_bounded_number_of_addresses() -> None:
    """Who invents addresses fills no memory."""
    tries = Tries(Clock())
    for number in range(1_100):
        tries.failed(str(number))

    assert len(tries._failed) == 1_000


def test_a_cookie_is_for_this_site_alone(web: FlaskClient, scene: Scene) -> None:
    """No script reads it, no other site sends it; over https only where people come by https."""
    cookie = log_in(web).headers["Set-Cookie"]
    over_tls = changed(scene, https=True)

    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "Secure" in build(over_tls, None).test_client().get("/login").headers["Set-Cookie"]


def test_a_copied_cookie_is_worth_nothing_after_the_logout(web: FlaskClient) -> None:
    """And a forged one never was."""
    log_in(web)
    copied = web.get_cookie("fleet")
    assert copied is not None
    web.post("/logout", data={"csrf": csrf(web, "/")})
    assert web.get("/").status_code == 302
    web.set_cookie("fleet", copied.value)
    assert web.get("/").status_code == 302
    web.set_cookie("fleet", copied.value[:-1] + ("A" if copied.value[-1] != "A" else "B"))
    assert web.get("/").status_code == 302


def test_a_new_password_ends_every_session() -> None:
    """Cookies are signed with what is made of it; two dashboards of one password accept each other's."""
    assert session_key("a-long-password") == session_key("a-long-password")
    assert session_key("a-long-password") != session_key("a-long-passwore")
    ended = Ended()
    ended.end("a")
    assert ("a" in ended, "b" in ended) == (True, False)
    assert (same("a", "a"), same("a", "b"), same("", "a")) == (True, False, False)


# ---- what is shown ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, *DATA])
def test_every_page_works_under_the_read_only_account(web: FlaskClient, path: str) -> None:
    """Busy worker, dependent, failed, damaged and expired jobs, a worker that died: none of them is a failure."""
    log_in(web)
    answer = web.get(path)

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", [*PAGES, "/login", "/rq/0/view/job/nope"])
def test_nobodys_text_becomes_markup(web: FlaskClient, path: str) -> None:
    """On every page that the server makes; the browser's part is tested in tests/browser."""
    log_in(web)
    text = web.get(path).text

    assert "<img src=x" not in text
    assert "<script>document" not in text
    assert "49" not in re.findall(r"\{\{.*?\}\}|>49<", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert re.findall(r"\son\w+=\"|javascript:|\sstyle=\"", text.replace(EVIL, "")) == []


def test_the_fleet_page_says_how_the_fleet_stands(web: FlaskClient) -> None:
    """State, trading state, alarm, decisions of the day, acts, dead letters; hostile words as they were written."""
    log_in(web)
    found = web.get("/fleet.json").get_json()

    assert found["state"] == {"value": "running", "by": EVIL}
    assert found["trading"]["value"] == "ACTIVE"
    assert found["trading"]["reason"] == f"because {EVIL}"
    assert [(alarm["code"], alarm["subject"]) for alarm in found["alarms"]] == [("book_drift", EVIL)]
    assert (found["today"]["total"], found["today"]["complete"]) == (2, True)
    assert {row["outcome"]: row["count"] for row in found["today"]["rows"]} == {EVIL: 1, "executed": 1}
    assert found["book"]["equity"] == "100,000.00"
    assert found["dead"] == 1
    assert {"loss of the session", "open positions"} <= {limit["name"] for limit in found["limits"]}
    assert {lag["name"]: lag["waiting"] for lag in found["lag"]}["jobs: immediate"] == 4


def test_decisions_of_the_day_are_counted_once_each(web: FlaskClient, scene: Scene) -> None:
    """A look reads only what is new; a second dashboard counts for itself."""
    log_in(web)
    before = web.get("/fleet.json").get_json()["today"]["total"]
    client: Any = scene.admin.client
    name = client.xadd(
        scene.admin.keys.decisions(), {"id": "d", "symbol": "A", "outcome": "vetoed", "rule": "r", "at": ""}
    )
    totals = [web.get("/fleet.json").get_json()["today"]["total"] for _ in range(3)]
    client.xdel(scene.admin.keys.decisions(), name)

    assert totals == [before + 1] * 3


def test_a_busy_worker_and_its_job_are_shown(web: FlaskClient) -> None:
    """rq-dashboard alone answers 500 there; the worker that died is not among them."""
    log_in(web)
    workers = web.get("/rq/0/data/workers.json").get_json()["workers"]

    assert [(worker["name"], worker["current_job"]["job_id"]) for worker in workers] == [
        ("work-immediate-host-7", BUSY)
    ]


def test_a_job_that_waits_for_others_is_shown(web: FlaskClient) -> None:
    """Also when one of them is gone; rq-dashboard alone answers 500."""
    log_in(web)
    found = web.get(f"/rq/0/data/job/{DEPENDENT}.json").get_json()
    depends = dict(zip(found["depends_on"], found["depends_on_status"], strict=True))

    assert depends == {BUSY: "active", GONE: "expired"}
    assert found["description"] == EVIL


@pytest.mark.parametrize(
    "path",
    [f"/rq/0/view/job/{GONE}", f"/rq/0/data/job/{GONE}.json", "/rq/0/view/job/a%3Ab", "/rq/0/view/job/damaged-job"],
)
def test_a_job_that_is_gone_is_not_there(web: FlaskClient, path: str) -> None:
    """404, not a failure of ours: expired, an id that can be none, one that cannot be read."""
    log_in(web)

    assert web.get(f"/rq/0/{path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/rq/1/view/workers",
        "/rq/0/data/jobs/immediate/nothing/20/dsc/1.json",
        "/rq/0/data/jobs/immediate/queued/x/dsc/1.json",
        "/rq/0/data/jobs/immediate/queued/201/dsc/1.json",
        "/rq/0/data/jobs/immediate/queued/20/up/1.json",
        "/rq/0/data/jobs/immediate/queued/20/dsc/0.json",
        "/rq/0/data/jobs/immediate/queued/20/dsc/²2.json",
        "/nothing",
    ],
)
def test_what_cannot_be_is_not_there(web: FlaskClient, path: str) -> None:
    """Arguments that rq-dashboard would stumble over."""
    log_in(web)

    assert web.get(path).status_code == 404


def test_a_redis_that_does_not_answer_is_said(scene: Scene) -> None:
    """503, and nothing old is shown as if it were new."""
    gone = {"url": SecretStr("redis://127.0.0.1:1/0"), "retry_attempts": 0}
    settings = scene.shown.settings
    blind = Runtime(settings.model_copy(update={"redis": settings.redis.model_copy(update=gone)}))
    client = build(blind, None).test_client()
    log_in(client)

    assert [client.get(path).status_code for path in ("/", "/fleet.json", "/healthz")] == [503, 503, 503]
    assert client.get("/login").status_code == 200


# ---- what cannot be done -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ACTS)
def test_no_page_of_rq_dashboard_acts(web: FlaskClient, scene: Scene, path: str, method: str) -> None:
    """Requeue by GET included; logged in, with a good token, and still nothing."""
    log_in(web)
    before = scene.admin.queues.depths(), scene.admin.queues.failed_ids("immediate")
    answer = web.open(path, method=method, data={"csrf": csrf(web, "/")} if method == "POST" else None)

    assert answer.status_code in {404, 405}
    assert (scene.admin.queues.depths(), scene.admin.queues.failed_ids("immediate")) == before


def test_looking_at_everything_changes_nothing(web: FlaskClient, scene: Scene) -> None:
    """Every page and document, and the whole of Redis is as it was; nor was the account refused anything."""
    log_in(web)
    admin: Any = scene.admin.rq_client
    before = {key: admin.dump(key) for key in admin.scan_iter(count=1000)}
    for path in (*PAGES, *DATA):
        web.get(path)

    assert {key: admin.dump(key) for key in admin.scan_iter(count=1000)} == before
    assert [entry for entry in scene.admin.client.acl_log() if entry["username"] == "dashboard"] == []


def test_without_an_account_that_may_nothing_can_be_halted(web: FlaskClient, scene: Scene) -> None:
    """The page shows no button, and the act does not exist."""
    log_in(web)
    token = csrf(web, "/")

    assert "Halt" not in web.get("/").text
    assert web.post("/act", data={"csrf": token, "act": "halt", "why": "drill"}).status_code == 404
    assert scene.admin.control.trading_state() is TradingState.ACTIVE


def test_with_one_the_two_acts_that_make_less_happen_can_be_done(acting: FlaskClient, scene: Scene) -> None:
    """Halt and reduce, with a reason; resume is a command."""
    token = csrf(acting, "/")
    assert acting.post("/act", data={"csrf": token, "act": "halt", "why": " drill "}).status_code == 302
    halted = scene.admin.control.why()
    assert scene.admin.control.trading_state() is TradingState.HALTED
    assert acting.post("/act", data={"csrf": token, "act": "reduce", "why": "less"}).status_code == 302
    assert scene.admin.control.trading_state() is TradingState.REDUCING
    refused = [
        acting.post("/act", data={"csrf": token, "act": act, "why": why}).status_code
        for act, why in (("resume", "more"), ("active", "more"), ("halt", ""), ("halt", "  "), ("halt", "x" * 201))
    ]
    assert refused == [400] * 5
    assert scene.admin.control.trading_state() is TradingState.REDUCING
    scene.admin.control.set(TradingState.ACTIVE, "test", f"because {EVIL}", scene.admin.clock.now())
    assert halted is not None
    assert (halted.by, halted.reason) == ("dashboard 127.0.0.1", "drill")


@pytest.mark.parametrize("given", [{}, {"csrf": ""}, {"csrf": "x" * 32}])
@pytest.mark.parametrize("path", ["/act", "/logout", "/login"])
def test_a_form_without_its_token_does_nothing(
    acting: FlaskClient, scene: Scene, path: str, given: dict[str, str]
) -> None:
    """A form of another site has the cookie of nobody; and if it had, not this."""
    answer = acting.post(path, data={**given, "act": "halt", "why": "forged", "password": PASSWORD})

    assert answer.status_code == 400
    assert scene.admin.control.trading_state() is TradingState.ACTIVE
    assert acting.get("/").status_code == 200


def test_another_sessions_token_opens_no_form(acting: FlaskClient, scene: Scene) -> None:
    """It is of the session, not of the site."""
    other = build(scene.shown, scene.admin.control).test_client()
    log_in(other)

    assert acting.post("/act", data={"csrf": csrf(other, "/"), "act": "halt", "why": "x"}).status_code == 400


def test_a_large_body_is_refused(web: FlaskClient) -> None:
    """16 KiB are more than any form of ours."""
    assert web.post("/login", data={"csrf": csrf(web), "password": "x" * 20_000}).status_code == 413


# ---- the browser's guards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/login", "/", "/nothing", "/rq/", "/fleet.json", "/static/rq.js", "/healthz"])
def test_every_answer_has_the_guards_of_the_browser(web: FlaskClient, path: str) -> None:
    """Only scripts and styles of our own, in no frame, of no guessed type, kept by no cache."""
    log_in(web)
    with web.get(path) as answer:
        headers = answer.headers

    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert path.startswith("/static") or headers["Cache-Control"] == "no-store"


def test_without_a_password_it_does_not_start(scene: Scene) -> None:
    """Open by mistake is worse than closed."""
    with pytest.raises(ValueError, match=r"dashboard\.password is not set"):
        build(changed(scene, password=None), None)
