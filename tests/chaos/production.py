"""The fleet of a run: its processes and its settings, which are those of production for a market of short sessions."""

from decimal import Decimal
from typing import Final

from tests.chaos.promises import Limits

CASH: Final = Decimal(1_000_000)
LIMITS: Final = Limits(
    position=Decimal("0.02"),
    gross=Decimal("0.6"),
    open_positions=32,
    same_side_s=5,
    per_symbol_per_minute=12,
    per_minute=1000,
)
ROLES: Final = {
    "collect": 1,
    "route": 2,
    "schedule": 1,
    "work-immediate": 2,
    "work-consensus": 1,
    "work-maintenance": 1,
    "watch": 1,
}
#: What an operator would set for bars of 8 s, sessions of 24 s and a machine that may be busy with other things;
#: delivery and retention stay as shipped.
SETTINGS: Final = {
    "FLEET_PROFILE": "paper",
    "FLEET_GATE__GATE_QUEUE": "true",
    "FLEET_SCORER__TIME_CLOSED": "1.0",
    "FLEET_RISK__MAX_QUOTE_AGE_S": "40",
    "FLEET_RISK__RISK_PER_TRADE": "0.05",
    "FLEET_RISK__MAX_ORDER_USD": "1000000",
    "FLEET_RISK__MAX_POSITION": str(LIMITS.position),
    "FLEET_RISK__MAX_GROSS_EXPOSURE": str(LIMITS.gross),
    "FLEET_RISK__MAX_OPEN_POSITIONS": str(LIMITS.open_positions),
    "FLEET_RISK__SAME_SIDE_WINDOW_S": str(LIMITS.same_side_s),
    "FLEET_RISK__MAX_PER_SYMBOL_PER_MINUTE": str(LIMITS.per_symbol_per_minute),
    "FLEET_RISK__MAX_PER_MINUTE": str(LIMITS.per_minute),
    "FLEET_RISK__MAX_SESSION_LOSS": "0.2",
    "FLEET_RISK__MAX_WEEK_LOSS": "0.5",
    "FLEET_RISK__MAX_ENTRIES_PER_HOUR_AFTER_LOSS": "100000",
    "FLEET_ORCHESTRATOR__BATCH_INTERVAL_SECONDS": "2",
    "FLEET_ROUTER__MAX_AGE_URGENT_S": "120",
    "FLEET_EXECUTOR__STOP_GRACE_S": "2",
    "FLEET_SCHEDULE__SETTLE_INTERVAL_S": "1",
    "FLEET_SCHEDULE__JANITOR_INTERVAL_S": "2",
    "FLEET_SCHEDULE__RECONCILE_INTERVAL_S": "3",
    "FLEET_SCHEDULE__RESERVATION_BOUND_S": "15",
    "FLEET_SCHEDULE__BUSY_DELAY_S": "1",
    "FLEET_WORKERS__CLAIM_LEASE_S": "8",
    "FLEET_WORKERS__JOB_TIMEOUT_S": "20",
    "FLEET_PAPER__STARTING_CASH": str(CASH),
    "FLEET_WATCH__INTERVAL_S": "0.5",
    "FLEET_WATCH__CALL_S": "1",
    "FLEET_LOG__LEVEL": "warning",
}
