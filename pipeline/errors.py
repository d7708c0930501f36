"""Failures, one root. A refusal is never one of these: refusals are values (`models.Refusal`)."""


class FleetError(Exception):
    """Root of every failure of ours; its message names the parameter, the value and the valid range."""


class InvalidInputError(FleetError):
    """A fact from outside cannot be used: raised by parsers, caught at the edge, kept as a dead letter.

    `reason` is a stable, short code for counting (for example `not_json`, `score_not_finite`).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MarketDataError(FleetError):
    """Bars or quotes could not be read or make no sense; the stage that asked decides what follows."""


class TransientError(FleetError):
    """Something outside did not answer; the same call may work later. Processes back off and go on."""


class BrokerError(FleetError):
    """The broker gave no definite answer: the order's fate is unknown until it is looked up."""


class SettingsError(FleetError):
    """The settings cannot be used; the process stops at start with exit code 2."""


class LedgerConflictError(FleetError):
    """The book changed between reading and writing; read again and repeat."""


class SymbolBusyError(FleetError):
    """The symbol may not be traded just now (another decision holds it); the signal is tried again until it expires."""


class TakenOverError(SymbolBusyError):
    """A newer run of the same decision acts for it; this one sent nothing and looks again later how it ended."""


class UnreconciledError(SymbolBusyError):
    """The broker's book was not compared with ours lately; the signal is tried again until it expires."""


class AccountUnknownError(FleetError):
    """Our book has no account yet: the first reconciliation with the venue opens it."""


class RefusedError(FleetError):
    """What was asked for is not allowed here; the command ends with exit code 3."""
