"""How many mutants the tests notice, by file: `python -m tests.tools.mutation [python|lua]`, both by default.

Python is mutated by mutmut (`[tool.mutmut]` in pyproject.toml names files and tests), Lua by `tests.tools.lua_mutants`.
The exit code is 1 when some file is below `LEAST`.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.tools import lua_mutants
from tests.tools.lua_mutants import KILLED, SURVIVED, say

LEAST = 85  # per cent of all mutants of a file
WORK = Path("mutants")
TIMEOUT, NO_TESTS, SUSPICIOUS = "timeout", "no tests", "suspicious"
FATES = (KILLED, TIMEOUT, SURVIVED, NO_TESTS, SUSPICIOUS)

# mutmut's exit codes of a mutant's test run; any other code is suspicious.
EXIT_CODES = {
    **dict.fromkeys((1, 3), KILLED),
    0: SURVIVED,
    **dict.fromkeys((5, 33), NO_TESTS),
    **dict.fromkeys((-24, 24, 36, 152, 255), TIMEOUT),
}


def python_fates() -> dict[str, Counter[str]]:
    """Mutate afresh and count fates by file; the survivors are named. Raises CalledProcessError when mutmut fails."""
    shutil.rmtree(WORK, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "mutmut", "run"], check=True)
    return {str(meta.relative_to(WORK).with_suffix("")): _counted(meta) for meta in sorted(WORK.rglob("*.meta"))}


def _counted(meta: Path) -> Counter[str]:
    fates = {name: EXIT_CODES.get(code, SUSPICIOUS) for name, code in _exit_codes(meta).items()}
    for name, fate in fates.items():
        if fate not in {KILLED, TIMEOUT}:
            say(f"{fate}: {name}   (python -m mutmut show {name})")
    return Counter(fates.values())


def _exit_codes(meta: Path) -> dict[str, int]:
    codes: dict[str, int] = json.loads(meta.read_text())["exit_code_by_key"]
    return codes


def lua_fates() -> dict[str, Counter[str]]:
    """The same for the Lua of each module."""
    return {f"{module.replace('.', '/')}.py": lua_mutants.judge(module) for module in lua_mutants.TESTS}


def score(fates: Counter[str]) -> float:
    """Per cent of the mutants that were killed or ran into the time-out; 100 without any."""
    return 100 * (fates[KILLED] + fates[TIMEOUT]) / fates.total() if fates else 100.0


def table(found: dict[str, Counter[str]]) -> str:
    """One line a file, its fates and its score."""
    rows = [f"{'file':<40}{'mutants':>9}" + "".join(f"{fate:>12}" for fate in FATES) + f"{'score':>9}"]
    for name, fates in found.items():
        counts = "".join(f"{fates[fate]:>12}" for fate in FATES)
        rows.append(f"{name:<40}{fates.total():>9}{counts}{score(fates):>7.1f} %")
    return "\n".join(rows)


def main(wanted: list[str]) -> int:
    """Mutate, print the table, answer the exit code."""
    found: dict[str, Counter[str]] = {}
    if "python" in wanted:
        found |= python_fates()
    if "lua" in wanted:
        found |= lua_fates()
    say(f"\n{table(found)}")
    low = [name for name, fates in found.items() if score(fates) < LEAST]
    if low:
        say(f"below {LEAST} %: {', '.join(low)}")
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["python", "lua"]))
