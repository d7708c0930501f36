"""What a run shall do, and what it found."""

import json
from dataclasses import dataclass, field

from tests.chaos.points import Count, Point


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how hard. A run ends when every point reached was killed at and the counts are met, or at `max_s`.

    `strict`: a run that did not meet them fails.
    """

    seed: int
    min_s: float
    max_s: float
    legs: int = 0
    orders: int = 0  # at the venue
    at_limit: int = 0  # symbols
    strict: bool = False
    every_s: float = 0.25  # seconds between two deaths of one role
    again: float = 0.0  # chance of a death at a point that was killed before
    toxics: float = 0.0  # share of the venue's answers that are lies
    part: int = 0  # of `parts` fleets that share the work of a family of drills
    parts: int = 1


@dataclass
class Report:
    """What a run found."""

    seed: int
    seconds: float
    posts: int
    deliveries: int
    legs: dict[str, int]
    orders: int
    asked: int
    kills: int
    lives: int
    at_limit: list[str]
    rules: dict[str, int] = field(default_factory=dict)
    points: dict[Point, Count] = field(default_factory=dict)
    untested: list[str] = field(default_factory=list)
    short_of: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def proves(self, *, sabotaged: bool = False) -> bool:
        """Whether the run shows what it shall: nothing broken, untested or too little; of a sabotage, that it tells."""
        return bool(self.broken) if sabotaged else not (self.broken or self.untested or self.short_of)

    def json(self) -> str:
        """For a program; points as text."""
        facts = {name: value for name, value in vars(self).items() if name != "points"}
        points = [{**_named(point), "reached": c.reached, "killed": c.killed} for point, c in self.points.items()]
        return json.dumps(facts | {"points": points}, indent=1)


def _named(point: Point) -> dict[str, str]:
    return {"role": point.role, "caller": point.caller, "call": point.call, "phase": point.phase}


def short_of(plan: Plan, legs: int, orders: int, at_limit: int) -> list[str]:
    """What a strict run had too little of to prove anything."""
    counts = (("legs", legs, plan.legs), ("orders", orders, plan.orders), ("symbols at limit", at_limit, plan.at_limit))
    return (
        []
        if not plan.strict
        else [f"{found} {name}; valid: >= {wanted}" for name, found, wanted in counts if found < wanted]
    )
