"""The shipped alerts in Prometheus itself: its own checks, its unit tests of rules, and a server that fires them."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml

from config.watch import MetricsSettings
from tests import warm
from tests.conftest import free_port
from tests.integration.test_metrics import FULL, fleet_registry
from workers.adapters.metrics_http import serve
from workers.liveness import Liveness

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "docker" / "prometheus" / "alerts.yml"
PROMTOOL, PROMETHEUS = shutil.which("promtool") or "", shutil.which("prometheus") or ""
NEEDED = pytest.mark.skipif(
    not (PROMTOOL and PROMETHEUS),
    reason="prometheus is missing. Debian/Ubuntu: sudo apt-get install prometheus",
)


def promtool(*words: str) -> str:
    """What it says; it ends well."""
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_alert_has_unit_tests_at_its_limit() -> None:
    """One that must fire and one that must not, for each; `promtool test rules` runs them."""
    told = yaml.safe_load((ROOT / "tests" / "data" / "alerts.test.yml").read_text("utf-8"))
    asked = [one for group in told["tests"] for one in group["alert_rule_test"]]
    names = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]}

    assert {one["alertname"] for one in asked if one.get("exp_alerts")} == names
    assert {one["alertname"] for one in asked if not one.get("exp_alerts")} == names


@NEEDED
def test_prometheus_takes_the_shipped_files_and_fires_each_alert_at_its_limit() -> None:
    """Rules and configuration are valid; the unit tests of the rules hold."""
    assert "6 rules found" in promtool("check", "rules", str(ALERTS))
    assert "SUCCESS" in promtool("check", "config", str(ALERTS.with_name("prometheus.yml")))
    assert "SUCCESS" in promtool("test", "rules", str(ROOT / "tests" / "data" / "alerts.test.yml"))


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[int]:
    """The port of a server with the shipped rules that scrapes a watcher's page twice a second."""
    page, port = free_port(), free_port()
    standing = replace(FULL, open_alarms=("halted", "day_lock"))
    serve(MetricsSettings(port=page), fleet_registry(standing), Liveness(60))
    shipped = yaml.safe_load(ALERTS.with_name("prometheus.yml").read_text("utf-8"))
    shipped["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    shipped["rule_files"] = [str(ALERTS)]
    shipped["scrape_configs"] = [{"job_name": "fleet-watch", "static_configs": [{"targets": [f"127.0.0.1:{page}"]}]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(shipped), "utf-8")
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [PROMETHEUS, *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    yield port
    server.kill()
    server.wait()


def firing(port: int) -> dict[str, str]:
    """Alerts that fire, by the code of their alarm, with the page that says what to do."""
    conversation = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        conversation.request("GET", "/api/v1/alerts")
        alerts = json.loads(conversation.getresponse().read())["data"]["alerts"]
    except (OSError, ValueError):
        return {}
    finally:
        conversation.close()
    return {one["labels"].get("code", ""): one["annotations"]["runbook"] for one in alerts if one["state"] == "firing"}


@NEEDED
def test_an_open_alarm_fires_in_a_real_prometheus(prometheus: int) -> None:
    """What a watcher exports is what the rules ask for; each alert names its page of the runbook."""
    expected = {code: f"docs/runbook.md#{code}" for code in ("halted", "day_lock")}

    warm.until(lambda: firing(prometheus) == expected, 240)
