"""`python -m workers.health ROLE`: exit 0 while this machine's process of that role turns, for healthchecks.

A process that hangs, is stopped or cannot reach Redis does no turn, and the answer is 1 after 30 s. Asks the file of
`FLEET_DATA_DIR` that the process touches (`adapters.pulse`), so it costs no settings, no account and no connection.
"""

import os
import sys
from pathlib import Path

from workers.adapters.pulse import is_fresh


def main(role: str) -> int:
    """The exit code: 0 alive, 1 not."""
    return 0 if is_fresh(Path(os.environ.get("FLEET_DATA_DIR", ".fleet")), role) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
