"""How long `fleet run` takes until every process is ready, and what an idle fleet costs.

`python -m tests.benchmarks.bench_idle [--rounds N] [--quick]` prints a markdown table.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from config.settings import load_settings
from tests.benchmarks.figures import Figure
from tests.benchmarks.market import DEMO
from tests.benchmarks.plan import Plan, alone
from tests.benchmarks.processes import ROOT, await_ready, processor_seconds, running

SETTLED_S: Final = 5.0
IDLE_S: Final = 20.0


def rounds(plan: Plan) -> Iterator[Figure]:
    """A fleet of the paper profile that follows a file to which nothing is written."""
    imported = importing()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "posts.jsonl"
        source.touch()
        bars, daily, vix = DEMO / "bars", DEMO / "daily", DEMO / "vix.csv"
        variables = {"SOURCE__PATH": source, "MARKET__BARS_DIR": bars, "MARKET__DAILY_BARS_DIR": daily}
        variables |= {"MARKET__VIX_CSV": vix, "DATA_DIR": Path(folder) / "data"}
        began = time.perf_counter()
        with running("run", **{f"FLEET_{name}": str(value) for name, value in variables.items()}) as process:
            await_ready(process, Path(folder) / "data", "fleet", expected()).close()
            ready = time.perf_counter() - began
            yield Figure("fleet", "fleet run ready, s", ready, {"importing the code once": ready / imported})
            time.sleep(SETTLED_S)
            spent, since = processor_seconds(process.pid), time.perf_counter()
            time.sleep(IDLE_S / 10 if plan.quick else IDLE_S)
            share = (processor_seconds(process.pid) - spent) / (time.perf_counter() - since)
            yield Figure("fleet", "idle fleet, % of a core", 100 * share)


def expected() -> int:
    """RQ workers of a fleet with the settings as they are shipped."""
    workers = load_settings("paper", environ={}).workers
    return workers.immediate + workers.consensus + workers.maintenance


def importing() -> float:
    """Seconds until an interpreter has imported what every process imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import workers.wiring"], cwd=ROOT, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    alone(__doc__, rounds)
