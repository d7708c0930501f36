"""The web application: a login, the fleet page, rq-dashboard. Nothing changes by GET; nobody's text becomes HTML."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import redis
import structlog
from flask import Flask, Response, abort, jsonify, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from rq.exceptions import NoSuchJobError
from werkzeug.exceptions import HTTPException

from pipeline.errors import FleetError
from pipeline.models import TradingState
from workers.adapters.control_redis import RedisControl
from workers.dashboard import rq_pages
from workers.dashboard.facts import Today, facts
from workers.dashboard.login import Ended, Tries, same, session_key, token
from workers.wiring import Runtime

MOST_BODY_BYTES: Final = 16_384
REASON_CHARACTERS: Final = 200
ACTS: Final = {"halt": TradingState.HALTED, "reduce": TradingState.REDUCING}
OPEN: Final = frozenset({"login", "static", "health"})
POSTS: Final = frozenset({"login", "logout", "act"})
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Door:
    """What decides who is let in."""

    password: str
    tries: Tries
    ended: Ended


def build(fleet: Runtime, control: RedisControl | None, monotonic: Callable[[], float] = time.monotonic) -> Flask:
    """The application over this fleet; `control` writes the trading state, None = the page only shows.

    Raises ValueError without `dashboard.password`.
    """
    settings = fleet.settings.dashboard
    if settings.password is None:
        raise ValueError("dashboard.password is not set; valid: at least 12 characters")
    password = settings.password.get_secret_value()
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=session_key(password),
        SESSION_COOKIE_NAME="fleet",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=settings.https,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=settings.session_s),
        MAX_CONTENT_LENGTH=MOST_BODY_BYTES,
        MAX_FORM_MEMORY_SIZE=MOST_BODY_BYTES,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.jinja_env.globals.update(csrf=_csrf, may_act=control is not None, refresh_ms=settings.refresh_s * 1000)
    door = Door(password, Tries(monotonic), Ended())
    _guard(app, door)
    _add_login(app, door)
    _add_fleet(app, fleet, control)
    _add_failures(app)
    rq_pages.mount(app, fleet.rq_client)
    return app


# ---- guards --------------------------------------------------------------------------------------------------


def _guard(app: Flask, door: Door) -> None:
    """What holds for every request: who may ask, by which method, from which form."""

    @app.before_request
    def only_the_known() -> ResponseReturnValue | None:
        """A page of rq-dashboard that acts does not exist; others want a login, and every POST a token of its form."""
        endpoint = request.endpoint or ""
        if endpoint.startswith("rq_dashboard.") and not rq_pages.is_shown(endpoint, request.view_args or {}):
            abort(404)
        if request.method not in {"GET", "HEAD"} and (request.method != "POST" or endpoint not in POSTS):
            abort(405)
        if endpoint and endpoint not in OPEN and not _is_known(door):
            return _ask_to_log_in()
        if request.method == "POST" and not same(request.form.get("csrf", ""), session.get("csrf", token())):
            abort(400, "This form is too old. Load the page again.")
        return None

    @app.after_request
    def safe(response: Response) -> Response:
        """The browser's own guards, on every answer."""
        response.headers.update(HEADERS)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        return response


def _is_known(door: Door) -> bool:
    return bool(session.get("known")) and session.get("name", "") not in door.ended


def _ask_to_log_in() -> ResponseReturnValue:
    if request.path.endswith(".json"):
        return jsonify(error="login"), 401
    return redirect(url_for("login"))


def _csrf() -> str:
    """This session's token against forged forms."""
    return str(session.setdefault("csrf", token()))


# ---- login -----------------------------------------------------------------------------------------------------


def _add_login(app: Flask, door: Door) -> None:
    @app.route("/login", methods=["GET", "POST"])
    def login() -> ResponseReturnValue:
        """The form, and who passes it."""
        if request.method == "GET":
            return render_template("login.html", wrong=False)
        address = request.remote_addr or ""
        if wait := door.tries.wait_s(address):
            return render_template("login.html", wait=int(wait) + 1), 429, {"Retry-After": str(int(wait) + 1)}
        if not same(request.form.get("password", ""), door.password):
            door.tries.failed(address)
            log.warning("login.refused", address=address)
            return render_template("login.html", wrong=True), 403
        door.tries.succeeded(address)
        session.clear()
        session.permanent = True
        session.update(known=True, name=token(), csrf=token())
        log.info("login.accepted", address=address)
        return redirect(url_for("home"))

    @app.post("/logout")
    def logout() -> ResponseReturnValue:
        """The session is over, also for a copy of its cookie."""
        door.ended.end(session["name"])
        session.clear()
        return redirect(url_for("login"))


# ---- the fleet ---------------------------------------------------------------------------------------------------


def _add_fleet(app: Flask, fleet: Runtime, control: RedisControl | None) -> None:
    today = Today(fleet)

    def document() -> dict[str, Any]:
        return facts(fleet, today, fleet.clock.now())

    @app.get("/")
    def home() -> ResponseReturnValue:
        """The fleet page."""
        return render_template("fleet.html", fleet=document())

    @app.get("/fleet.json")
    def fleet_json() -> ResponseReturnValue:
        """The same for scripts: one document."""
        return jsonify(document())

    @app.get("/fleet.part")
    def fleet_part() -> ResponseReturnValue:
        """The changing part of the fleet page, for its refresh."""
        return render_template("parts.html", fleet=document())

    @app.get("/healthz")
    def health() -> ResponseReturnValue:
        """200 while Redis answers, for the container's healthcheck."""
        fleet.client.ping()
        return "ok\n", 200, {"Content-Type": "text/plain; charset=utf-8"}

    @app.post("/act")
    def act() -> ResponseReturnValue:
        """Halt or reduce, with a reason: the two acts that only make less happen."""
        if control is None:
            abort(404)
        state, why = ACTS.get(request.form.get("act", "")), request.form.get("why", "").strip()
        if state is None or not 0 < len(why) <= REASON_CHARACTERS:
            abort(400, f"An act needs a reason of 1 to {REASON_CHARACTERS} characters.")
        control.set(state, f"dashboard {request.remote_addr}", why, fleet.clock.now())
        log.warning("control.changed", state=state.value, by=request.remote_addr)
        return redirect(url_for("home"))


# ---- failures ----------------------------------------------------------------------------------------------------


def _add_failures(app: Flask) -> None:
    def say(code: int, words: str) -> ResponseReturnValue:
        if request.path.endswith(".json"):
            return jsonify(error=words), code
        return render_template("failure.html", code=code, words=words), code

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> ResponseReturnValue:
        """What is not there or not allowed."""
        return say(error.code or 500, error.description or "")

    @app.errorhandler(NoSuchJobError)
    @app.errorhandler(LookupError)
    def gone(_: Exception) -> ResponseReturnValue:
        """A job that expired, a page that never was."""
        return say(404, "It is not there, or not any more: finished jobs are kept for an hour, failed ones for a day.")

    @app.errorhandler(redis.RedisError)
    @app.errorhandler(FleetError)
    def unknown(error: Exception) -> ResponseReturnValue:
        """Redis does not answer: nothing is known, and nothing old is shown as if it were."""
        log.warning("dashboard.blinded", error=type(error).__name__)
        return say(503, f"Redis does not answer ({type(error).__name__}).")
