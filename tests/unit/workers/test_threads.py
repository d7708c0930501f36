"""A process of ours has the threads it asked for, whatever machine it is on."""

import os
import subprocess
import sys

import pytest

TOLD = "import workers.wiring, pathlib; print(len(list(pathlib.Path('/proc/self/task').iterdir())))"


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_loading_everything_starts_no_thread() -> None:
    """A library that starts one for each core would fill a container's bound on a machine of 64."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS", "OMP", "GOTO"))}
    said = subprocess.run([sys.executable, "-c", TOLD], env=environ, capture_output=True, text=True, check=True)

    assert int(said.stdout) == 1
