"""Every Redis key of the fleet: its name, type, writer, reader and life. Nowhere else is a key spelled.

All values are JSON text or plain hashes that `redis-cli` shows as they are. Money in counters is integer
micro-dollars (1 USD = 1,000,000). Business windows are zsets scored by event time in milliseconds.
"""

from dataclasses import dataclass
from datetime import datetime

MESSAGE_TTL_S = 7 * 86_400
OUTCOME_TTL_S = 7 * 86_400
CLOSING_TTL_S = 60  # a closing order that no decision stands behind and that nobody sent
WINDOW_TTL_S = 2 * 86_400
HEARTBEAT_TTL_S = 30
LEDGER_TTL_S = 400 * 86_400
FILLS_TTL_S = 90 * 86_400  # a fill may be told again while its order is known: far less
DEAD_MAXLEN = 100_000
DEAD_CLAIM_TTL_S = 86_400
EXECUTION_TTL_S = 30 * 86_400
HISTORY_MAXLEN = 10_000


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix ("fleet" live; a replay has its own)."""

    prefix: str = "fleet"

    # ---- control ----

    def state(self) -> str:
        """String JSON {v, state, at, by}: STOPPED/RUNNING/STOPPING. Writer: cli, schedule. Reader: all. No TTL."""
        return f"{self.prefix}:state"

    def control(self) -> str:
        """Hash {trading_state, by, reason, at}. Writer: cli, settlement. Reader: risk, executor. No TTL."""
        return f"{self.prefix}:control"

    def control_history(self) -> str:
        """Stream {act, what, by, reason, at}: every control act. Writer: the control scripts. Bound 10,000."""
        return f"{self.prefix}:control-history"

    def alarms(self) -> str:
        """Stream {code, subject, detail, at}: alarms when first raised. Writer: all. Reader: status. Bound 10,000."""
        return f"{self.prefix}:alarms"

    def open_alarms(self) -> str:
        """Hash code -> JSON {detail, at}: alarms that are still true. Writer: all. Reader: status. A field per code."""
        return f"{self.prefix}:open-alarms"

    def environment(self) -> str:
        """String JSON {v, profile}: what this namespace is for. Writer: start-up. Reader: start-up. No TTL."""
        return f"{self.prefix}:environment"

    def deny(self, kind: str) -> str:
        """Hash name -> JSON {by, reason, at}; kind: symbol, author, source. Writer: cli. Reader: route, risk."""
        return f"{self.prefix}:deny:{kind}"

    def heartbeat(self, process: str) -> str:
        """String JSON {v, at, host, pid, role, done}. Writer: that process. Reader: status, schedule. TTL 30 s."""
        return f"{self.prefix}:heartbeat:{process}"

    def heartbeats(self) -> str:
        """Zset process name -> its last heartbeat (ms). Writer: each process. Reader: schedule, status. Pruned."""
        return f"{self.prefix}:heartbeats"

    def tally(self) -> str:
        """Hash counter -> integer (accepted, legs, leg:x, decision:x, rule:x:rule). Writer: the scripts that record."""
        return f"{self.prefix}:tally"

    # ---- messages ----

    def analyzed(self) -> str:
        """Stream {id}: accepted messages to be routed. Writer: collect. Reader: route (group). Emptied by XDEL."""
        return f"{self.prefix}:analyzed"

    def message(self, message_id: str) -> str:
        """String JSON AnalyzedMessage. Writer: collect. Reader: route, work, trace. TTL 7 days."""
        return f"{self.prefix}:message:{message_id}"

    def source(self, name: str) -> str:
        """Hash: a source's high-water mark. Writer and reader: collect. No TTL, one per source."""
        return f"{self.prefix}:source:{name}"

    def dead(self) -> str:
        """Stream {stage, reason, detail, raw}: what could not be used. Writer: all. Reader: cli. Bound 100,000."""
        return f"{self.prefix}:dead"

    def seen_texts(self) -> str:
        """Zset fingerprint -> last event time (ms). Writer and reader: route. Pruned after the 24 h window."""
        return f"{self.prefix}:seen:texts"

    def seen_owners(self) -> str:
        """Hash fingerprint -> message id that came first. Writer and reader: route. Pruned with seen:texts."""
        return f"{self.prefix}:seen:owners"

    # ---- batch ----

    def batch(self, symbol: str) -> str:
        """List of votes (JSON) waiting for the next drain. Writer: route. Reader: schedule's drain."""
        return f"{self.prefix}:batch:{symbol}"

    def batches(self) -> str:
        """Zset symbol -> oldest arrival (ms). Writer: route, drain. Reader: drain."""
        return f"{self.prefix}:batches"

    def claim(self, claim_id: str) -> str:
        """List: the votes of one claim, immutable. Writer: drain (RENAMENX). Reader: consensus job. Deleted by it."""
        return f"{self.prefix}:claim:{claim_id}"

    def claims(self) -> str:
        """Zset claim id -> deadline (ms, Redis TIME). Writer: drain, janitor, consensus job. Reader: janitor."""
        return f"{self.prefix}:claims"

    def claim_sequence(self) -> str:
        """Hash symbol -> number of its last claim. Writer: drain. One field per symbol."""
        return f"{self.prefix}:claim-sequence"

    def recent(self, symbol: str) -> str:
        """Zset vote (JSON) scored by its time (ms): look-back and confluence. Writer: route. TTL 2 days."""
        return f"{self.prefix}:recent:{symbol}"

    def used(self, symbol: str) -> str:
        """Zset message id scored by the decision's time (ms): votes no later decision counts. TTL 2 days."""
        return f"{self.prefix}:used:{symbol}"

    def followups(self) -> str:
        """Zset job (JSON) scored by due time (ms): what met a busy symbol. Writer: work. Reader: schedule."""
        return f"{self.prefix}:followups"

    # ---- outcomes ----

    def outcome(self, leg_or_decision_id: str) -> str:
        """Hash {state, stage, rule, observed, limit, at, decision, urgent}: a leg's or decision's end. TTL 7 days.

        A vote that waits has its state alone.
        """
        return f"{self.prefix}:outcome:{leg_or_decision_id}"

    def decision(self, decision_id: str) -> str:
        """List of JSON: what a decision saw each time it was decided. Writer: work. Reader: trace. TTL 7 days."""
        return f"{self.prefix}:decision:{decision_id}"

    def decision_legs(self, decision_id: str) -> str:
        """Set of leg ids that share the decision's outcome. Writer: work. Reader: the outcome script. TTL 7 days."""
        return f"{self.prefix}:decision-legs:{decision_id}"

    def decisions(self) -> str:
        """Stream {id, symbol, outcome, rule, at}: one a final decision. Writer: the outcome script. Bound 1,000,000."""
        return f"{self.prefix}:decisions"

    def strikes(self, job_id: str) -> str:
        """String counter: starts of a job that did not end. Writer: work. TTL 1 day."""
        return f"{self.prefix}:strikes:{job_id}"

    def dead_work(self) -> str:
        """Hash leg or claim id -> JSON of what three strikes ended. Writer: work, cli. Reader: cli. Pruned: 1 day."""
        return f"{self.prefix}:dead-work"

    def dead_claim(self, claim_id: str) -> str:
        """List: the votes of a claim that was given up. Writer: work. Reader: a requeue. TTL 1 day."""
        return f"{self.prefix}:dead-claim:{claim_id}"

    def leases(self, queue: str) -> str:
        """Zset job:execution, or job while only taken -> its lease's end (ms, Redis TIME). Writer: work, schedule."""
        return f"{self.prefix}:leases:{queue}"

    def lease_look(self) -> str:
        """String: when leases were last looked at (ms, Redis TIME). Writer and reader: the take-over. No TTL."""
        return f"{self.prefix}:lease-look"

    # ---- money ----

    def account(self) -> str:
        """Hash {cash_micro, last_loss_ms}: our own book's cash. Writer: ledger. Reader: risk. No TTL."""
        return f"{self.prefix}:account"

    def positions(self) -> str:
        """Hash symbol -> JSON position with its cost. Writer: ledger. Reader: risk. No TTL."""
        return f"{self.prefix}:positions"

    def marks(self) -> str:
        """Hash symbol -> price (micro-dollars) a held position is valued at. Writer and reader: ledger. No TTL."""
        return f"{self.prefix}:marks"

    def reservations(self) -> str:
        """Hash decision id -> JSON reservation. Writer and reader: ledger. Emptied when intents are definite."""
        return f"{self.prefix}:reservations"

    def held(self) -> str:
        """Zset decision id scored by due open (ms). Writer: ledger. Reader: schedule, ledger."""
        return f"{self.prefix}:held"

    def held_signals(self) -> str:
        """Hash decision id -> JSON signal. Writer and reader: ledger. Emptied with `held`."""
        return f"{self.prefix}:held-signals"

    def risk(self, session: str) -> str:
        """Hash {start_equity_micro, realised_micro, worst_micro} of a session or week. Writer: ledger. TTL 400 days."""
        return f"{self.prefix}:risk:{session}"

    def entries(self, symbol: str = "") -> str:
        """Zset side:decision id scored by as_of (ms): order rates, all or per symbol. Writer: ledger. TTL 2 days."""
        return f"{self.prefix}:entries:{symbol}" if symbol else f"{self.prefix}:entries"

    def fills(self, client_order_id: str) -> str:
        """Hash fill id -> JSON booked fill of that order. Writer, reader: ledger. TTL 90 days after the last."""
        return f"{self.prefix}:fills:{client_order_id}"

    def filled(self) -> str:
        """Zset client order id -> Redis TIME (ms) of its last fill. Writer, reader: ledger. Pruned after 90 days."""
        return f"{self.prefix}:filled"

    def intent(self, client_order_id: str) -> str:
        """Hash {state, order, report, ...}. Writer: executor, settlement. Reader: trace. TTL as NEW, after DONE."""
        return f"{self.prefix}:intent:{client_order_id}"

    def execution(self, decision_id: str) -> str:
        """Hash {id, intent, sent}: newest run of a decision, its order, its order once sent. Writer: executor. TTL."""
        return f"{self.prefix}:execution:{decision_id}"

    def open_intents(self) -> str:
        """Set of client order ids sent, not DONE and acknowledged. Writer: executor, settlement. Reader: settlement."""
        return f"{self.prefix}:open-intents"

    def truth(self) -> str:
        """Hash {epoch, at_ms, server}: last comparison with the broker. Writer: reconcile, start. Reader: ledger."""
        return f"{self.prefix}:truth"

    def breaker(self) -> str:
        """Hash {opened_ms, trial_ms}: the venue gets no entries. Writer: executor, broker. Reader: status. No TTL."""
        return f"{self.prefix}:breaker"

    def breaker_failures(self) -> str:
        """Zset moment -> Redis TIME (ms) of failed calls to the venue. Writer: broker. TTL: the breaker's window."""
        return f"{self.prefix}:breaker:failures"

    # ---- the paper venue (another outside system that happens to live in the same Redis) ----

    def paper_account(self) -> str:
        """Hash {cash_micro}: the venue's account. Writer: paper broker."""
        return f"{self.prefix}:paper:account"

    def paper_order(self, client_order_id: str) -> str:
        """String JSON: one bracket at the venue. Writer: paper broker. TTL 7 days once closed."""
        return f"{self.prefix}:paper:order:{client_order_id}"

    def paper_open(self) -> str:
        """Set of client order ids with something working. Writer: paper broker."""
        return f"{self.prefix}:paper:open"

    def paper_positions(self) -> str:
        """Hash symbol -> JSON position at the venue. Writer: paper broker."""
        return f"{self.prefix}:paper:positions"

    def paper_marks(self) -> str:
        """Hash symbol -> last price (micro-dollars) of a position at the venue. Writer: paper broker."""
        return f"{self.prefix}:paper:marks"


def to_ms(at: datetime) -> int:
    """An aware moment as epoch milliseconds, the score of every event-time zset."""
    return round(at.timestamp() * 1000)
