"""The recorded day's stories: what each invented company's price did, minute by minute, told in waypoints."""

from dataclasses import dataclass

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Story:
    """One symbol's two days.

    `price`: previous close in dollars. `before`, `today`: waypoints (minutes after the open, percent from the
    previous close) of the previous session and of the recorded one. `daily_range`: a usual day's high minus
    low, in percent. `volume`: shares in a quiet minute. `noise`: size of a minute's random step, in percent;
    `reversion`: share of the distance from the line that stays per minute. `period` minutes, `depth` percent:
    pullbacks; `lean` +1 rises slowly and falls fast, -1 the mirror, 0 no pullbacks. `wick`: percent. `pauses`:
    [from, to) minutes without trading today. `crowds`: (from, to, factor) on today's volume.
    """

    symbol: str
    company: str
    price: float
    before: Points
    today: Points
    daily_range: float = 1.0
    volume: int = 9_000
    noise: float = 0.14
    reversion: float = 0.8
    period: int = 60
    depth: float = 0.4
    lean: int = 1
    wick: float = 0.03
    pauses: tuple[tuple[int, int], ...] = ()
    crowds: tuple[tuple[int, int, float], ...] = ()
    seed: int = 1

    def trades_at(self, minute: int) -> bool:
        """Whether there is a bar at this minute of the recorded day."""
        return not any(start <= minute < end for start, end in self.pauses)

    @property
    def reopens(self) -> frozenset[int]:
        """Last minutes of each pause: the price the next bar opens at is the line's, not the last trade's."""
        return frozenset(end - 1 for _, end in self.pauses)

    def crowd(self, minute: int) -> float:
        """Factor on a minute's volume."""
        return next((factor for start, end, factor in self.crowds if start <= minute < end), 1.0)


INDEX = Story(
    "ODX",
    "Ostrander Domestic Index",
    5210.0,
    before=((0, -0.3), (390, 0.0)),
    today=(
        (0, 0.1),
        (40, 0.35),
        (75, 0.6),
        (120, 0.9),
        (148, 1.05),
        (215, 1.07),
        (250, 1.3),
        (330, 1.6),
        (352, 1.1),
        (390, 0.8),
    ),
    daily_range=0.7,
    volume=60_000,
    noise=0.008,
    depth=0.05,
    wick=0.005,
    crowds=((0, 14, 0.3), (14, 40, 1.3)),
)

STORIES = (
    Story(
        "ZELK",
        "Zelkova Semiconductor",
        184.0,
        before=((0, -0.7), (250, -0.6), (390, 0.0)),
        today=((0, 0.9), (60, 1.8), (150, 3.6), (240, 4.6), (330, 6.2), (352, 5.2), (390, 4.9)),
        daily_range=0.9,
    ),
    Story(
        "OLVN",
        "Olvane Energy",
        92.0,
        before=((0, 0.7), (250, 0.6), (390, 0.0)),
        today=((0, -0.8), (60, -1.7), (150, -3.4), (240, -4.4), (330, -5.8), (390, -6.4)),
        daily_range=0.9,
        lean=-1,
    ),
    Story(
        "NMBO",
        "Nimbo Cloud",
        127.0,
        before=((0, -0.4), (390, 0.0)),
        today=((0, 0.5), (70, 1.9), (96, 2.3), (125, 0.2), (200, -0.4), (390, -1.0)),
        daily_range=0.7,
    ),
    Story(
        "GRPL",
        "Grapple Logistics",
        76.0,
        before=((0, -0.5), (390, 0.0)),
        today=((0, 0.2), (130, 2.0), (175, 2.4), (260, 0.9), (390, -0.6)),
        daily_range=1.1,
    ),
    Story(
        "WYVN",
        "Wyvern Air",
        58.0,
        before=((0, 0.6), (390, 0.0)),
        today=((0, -0.3), (110, -2.2), (140, -2.5), (165, 0.3), (280, 1.6), (390, 2.4)),
        daily_range=0.9,
        lean=-1,
    ),
    Story(
        "QUNL",
        "Quinel Pharma",
        33.0,
        before=((0, 0.9), (390, 0.0)),
        today=((0, -1.0), (140, -3.6), (270, -5.0), (390, -7.0)),
        daily_range=1.6,
        lean=-1,
        noise=0.08,
        depth=0.5,
    ),
    Story(
        "BRZK",
        "Brezka Robotics",
        211.0,
        before=((0, 0.1), (390, 0.0)),
        today=((0, 0.2), (80, 0.1), (100, 1.1), (160, 0.9), (180, 1.9), (270, 1.6), (288, 2.6), (390, 2.5)),
        daily_range=1.2,
        noise=0.035,
        depth=0.1,
    ),
    Story(
        "YARO",
        "Yarrow Foods",
        64.0,
        before=((0, 0.0), (390, 0.0)),
        today=((0, 0.0), (390, 0.1)),
        daily_range=0.5,
        noise=0.09,
        reversion=0.5,
        depth=0.0,
    ),
    Story(
        "TVRN",
        "Tavern & Oak Brewing",
        48.0,
        before=((0, -0.4), (390, 0.0)),
        today=((0, 0.3), (40, 1.6), (75, 1.9), (110, 2.1), (200, 1.0), (260, 2.4), (300, 2.7), (390, 1.5)),
        daily_range=1.2,
        depth=0.5,
        period=30,
    ),
    Story(
        "FYRO",
        "Fyro Batteries",
        27.0,
        before=((0, -1.0), (390, 0.0)),
        today=(
            (0, 0.5),
            (42, 2.6),
            (43, 2.6),
            (48, 11.2),
            (110, 12.8),
            (210, 14.6),
            (214, 14.6),
            (220, 24.0),
            (390, 19.0),
        ),
        daily_range=2.4,
        noise=0.12,
        depth=0.8,
        wick=0.05,
        pauses=((43, 48), (214, 220)),
        crowds=((48, 70, 6.0), (220, 240, 5.0)),
    ),
    Story(
        "DRFT",
        "Driftwood Retail",
        71.0,
        before=((0, 0.5), (390, 0.0)),
        today=((0, -0.4), (300, -4.4), (390, -4.4)),
        daily_range=1.1,
        lean=-1,
        pauses=((300, 390),),
    ),
    Story(
        "AVNK",
        "Avenko Health",
        24.0,
        before=(),
        today=((0, 8.0), (75, 8.0), (100, 14.0), (150, 11.0), (390, 16.0)),
        daily_range=4.0,
        noise=0.3,
        depth=1.0,
        pauses=((0, 75),),
    ),
    Story(
        "KLDR",
        "Kaldera Mining",
        19.0,
        before=((0, 0.4), (390, 0.0)),
        today=((0, 0.0), (390, 1.0)),
    ),
    Story(
        "RVSK",
        "Revska Software",
        143.0,
        before=((0, -0.5), (390, 0.0)),
        today=((0, 0.3), (180, 0.6), (300, 2.9), (329, 3.4), (345, -18.0), (390, -20.0)),
        daily_range=1.0,
        pauses=((329, 345),),
        crowds=((345, 390, 8.0),),
    ),
    Story(
        "LXMN",
        "Laxman Financial",
        102.0,
        before=((0, -0.3), (390, 0.0)),
        today=((0, 0.1), (120, 1.0), (240, 1.9), (330, 2.5), (390, 1.8)),
        daily_range=0.6,
    ),
    Story(
        "TRQE",
        "Torque Motors",
        89.0,
        before=((0, 0.4), (390, 0.0)),
        today=((0, -0.2), (120, -1.1), (240, -2.2), (390, -3.1)),
        daily_range=1.4,
        lean=-1,
        pauses=((321, 390),),
    ),
)
