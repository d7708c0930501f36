"""One thing of each family in one fleet, for every test run: a killed server, lost jobs, a poison."""

from tests.chaos.outages import Outages
from tests.chaos.poison import KILLS, Poison
from tests.chaos.takeover import TakeOver
from workers.adapters.rq_factory import IMMEDIATE, MAINTENANCE


class Sample(Outages, Poison, TakeOver):
    """As the families do it, once."""

    def _act(self) -> None:
        lost = {"running, worker and horse killed": [self._lose(IMMEDIATE, "begun")]}
        self._await_all(lost | {"housekeeping, the only worker dead": [self._lose(MAINTENANCE, "taken")]})
        self._through_one("killed, restarted with its file", self._killed, 1.0)
        self._urgent(KILLS)
        self._count_strikes()


ShortSample = Sample
