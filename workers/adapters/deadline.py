"""The end of a job's time."""

from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty


class OutOfTimeError(BaseException):
    """A job passed its time-out. No Exception: no stage may take it for a failure of its own and trade on."""


class FirmTimeout(UnixSignalDeathPenalty):
    """RQ's alarm; for a job it raises what only the worker catches."""

    def handle_death_penalty(self, signum: int, frame: object) -> None:
        """The alarm rang."""
        if self._exception is JobTimeoutException:
            raise OutOfTimeError(f"the job passed its time-out of {self._timeout} s")
        super().handle_death_penalty(signum, frame)  # type: ignore[no-untyped-call]
