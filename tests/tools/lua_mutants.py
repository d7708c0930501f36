"""Mutants of the Lua that guards money: one operator, number, word or line changed, and who notices.

`python -m tests.tools.lua_mutants [MODULE ...]`: the contract tests run once on the real server, then once for each
mutant, only those that ran its script. A test that fails, or takes a minute, kills the mutant.
"""

import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
from redis.commands.core import Script

TESTS = {
    "workers.adapters.ledger_scripts": (
        *("ledger", "ledger_rules", "ledger_races"),
        *("execution", "control", "settlement", "reconcile", "truth", "forgotten"),
    ),
    "workers.adapters.intents_redis": (
        "intents",
        "intents_in_full",
        "execution",
        "settlement",
        "reconcile",
        "truth",
        "forgotten",
    ),
    "workers.adapters.backlog_redis": ("backlog", "backlog_in_full"),
    "workers.adapters.route_script": ("backlog", "backlog_in_full", "route_script"),
}
KILLED, SURVIVED = "killed", "survived"

WORD = re.compile(r"""'[^']*'|"[^"]*\"""")
COMMAND = re.compile(r"redis\.call\($")
OPERATOR = re.compile(r"==|~=|<=|>=|<|>|\band\b|\bor\b|\bnot |(?<= )[-+*](?= )|(?<![\w)\] ] )-(?=\w)")
OTHER = {
    "==": "~=",
    "~=": "==",
    "<=": "<",
    ">=": ">",
    "<": "<=",
    ">": ">=",
    "and": "or",
    "or": "and",
    "+": "-",
    "-": "+",
    "*": "/",
    "not ": "",
}
NUMBER = re.compile(r"(?<![\w.#])\d+(?![\w.])")
STATEMENT = re.compile(r"\s*(redis\.call\(.*\)|if .* then .* end|[\w.\[\]]+ = .*[^,{(])$")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed part of the Lua: where, the line before and after ('' = dropped), and the part before and after."""

    script: str
    line: int
    was: str
    now: str
    part: str
    changed: str


def parts(module: str) -> dict[str, str]:
    """The Lua of a module by constant, what several scripts share only under its own name (`_NAME`)."""
    whole = {name: text for name, text in vars(import_module(module)).items() if _is_lua(name, text)}
    shared = [text for name, text in whole.items() if name.startswith("_")]
    return {name: _without(text, shared) for name, text in whole.items()}


def _is_lua(name: str, value: object) -> bool:
    return name.isupper() and isinstance(value, str) and "redis.call" in value


def _without(text: str, shared: list[str]) -> str:
    for one in shared:
        text = text if text == one else text.replace(one, "")
    return text


def mutants(script: str, part: str) -> Iterator[Mutant]:
    """Every mutant of a part, line by line: the statement dropped, then its operators, numbers and words changed."""
    lines = part.splitlines()
    for number, line in enumerate(lines):
        for changed in _changes(line):
            text = "\n".join([*lines[:number], changed, *lines[number + 1 :], ""])
            yield Mutant(script, number, line.strip(), changed.strip(), part, text)


def _changes(line: str) -> Iterator[str]:
    bare = WORD.sub(lambda word: "'" + "_" * (len(word[0]) - 2) + "'", line)
    if STATEMENT.fullmatch(bare) and bare.count("(") == bare.count(")"):
        yield ""
    for found in OPERATOR.finditer(bare):
        unary = found[0] == "-" and bare[found.end()] != " "
        yield _with(line, found, "" if unary else OTHER[found[0]])
    for found in NUMBER.finditer(bare):
        no = found[0] == "1" and line[: found.start()].endswith("return ")  # to the caller, 2 is as true as 1
        yield _with(line, found, "0" if no else str(int(found[0]) + 1))
    for found in WORD.finditer(line):
        if COMMAND.search(line[: found.start()]) is None:
            yield _with(line, found, f"{found[0][0]}X{found[0][1:]}")


def _with(line: str, found: re.Match[str], new: str) -> str:
    return line[: found.start()] + new + line[found.end() :]


class Judge:
    """A pytest plugin that runs the collected tests once as they are, and then some of them for each mutant."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.fates: Counter[str] = Counter()
        self._failed = False
        self._tests: dict[str, list[pytest.Item]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notice a failure."""
        self._failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge every mutant. Raises RuntimeError when a test fails without any."""
        self._first = session.items[0]
        self._learn(session.items)
        every = [mutant for script, part in parts(self.module).items() for mutant in mutants(script, part)]
        for mutant in every:
            self.fates[fate := self._fate(mutant)] += 1
            if fate == SURVIVED:
                say(f"survived: {self.module} {mutant.script}, line {mutant.line}")
                say(f"    {mutant.was}\n    {mutant.now or '(dropped)'}")
            say(f"{self.module} {self.fates.total()} of {len(every)}", end="\r")
        return True

    def _learn(self, items: Sequence[pytest.Item]) -> None:
        """Run every test once, and keep by script which tests ran it, the quick ones first."""
        ran: set[str] = set()
        call = Script.__call__

        def noted(script: Script, *args: Any, **facts: Any) -> Any:
            ran.add(str(script.script))
            return call(script, *args, **facts)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Script, "__call__", noted)
            for item, after in zip(items, [*items[1:], self._first], strict=True):
                ran.clear()
                self._run(item, after)
                for text in ran:
                    self._tests[text].append(item)
        if self._failed:
            raise RuntimeError(f"the contract tests of {self.module} fail without any mutant")

    def _run(self, item: pytest.Item, after: pytest.Item) -> None:
        """One test. What it shares with the one `after` it stays: the session's server always."""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)

    def _fate(self, mutant: Mutant) -> str:
        """What a process of its own comes to that knows only the mutant."""
        tests = {item: None for text, items in self._tests.items() if mutant.part in text for item in items}
        child = os.fork()
        if child == 0:
            os._exit(self._red(mutant, list(tests)))
        _, status = os.waitpid(child, 0)
        return KILLED if status else SURVIVED

    def _red(self, mutant: Mutant, tests: Sequence[pytest.Item]) -> bool:
        """Whether one of the tests fails with the mutant."""
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        place = import_module(self.module)
        for name, text in list(vars(place).items()):
            if _is_lua(name, text):
                setattr(place, name, text.replace(mutant.part, mutant.changed))
        for item, after in zip(tests, [*tests[1:], self._first], strict=True):
            self._run(item, after)
            if self._failed:
                return True
        return False


def judge(module: str) -> Counter[str]:
    """How many mutants of the module's Lua were killed and how many survived; the survivors are shown."""
    files = [f"tests/contracts/test_{name}.py" for name in TESTS[module]]
    plugin = Judge(module)
    code = pytest.main(
        ["-q", "-s", "-p", "no:cacheprovider", "-o", "timeout=60", "-k", "not memory", *files], plugins=[plugin]
    )
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"the mutants of {module} could not be judged: pytest ended with {code}")
    return plugin.fates


def say(words: str, end: str = "\n") -> None:
    """One line of progress; `end` of a carriage return is written over by the next."""
    sys.stdout.write(f"{words}{end}")
    sys.stdout.flush()


if __name__ == "__main__":
    for one in sys.argv[1:] or list(TESTS):
        say(f"{one}: {dict(judge(one))}")
