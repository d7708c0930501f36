"""Metrics of the whole fleet, from the watcher's last look: a scrape asks Redis nothing."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.models import OrchestratorState, TradingState
from workers.alarm_codes import CODES
from workers.measures import REGISTRY
from workers.standing import QueueStanding, Standing
from workers.watch import Watcher

RQ_LABELS = ["name", "queues"]


class FleetCollector(Collector):
    """Turns a `Standing` into metrics; `rq_*` are named as rq-exporter names them. None before the first look."""

    def __init__(self, latest: Callable[[], Standing | None], failures: Callable[[], int]) -> None:
        self._latest = latest
        self._failures = failures

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every metric of the last look."""
        now = self._latest()
        yield _gauge("fleet_watch_failures", "calls to watch.url that failed in a row", self._failures())
        if now is None:
            return
        yield _gauge("fleet_watch_turn_timestamp_seconds", "when the fleet was looked at last", now.at.timestamp())
        yield from _work(now)
        yield from _ends(now.tally)
        yield from _rq(now)
        yield from _money(now)
        yield from _server(now)


def export(watcher: Watcher, registry: CollectorRegistry = REGISTRY) -> None:
    """Let `/metrics` of this process show the fleet."""
    registry.register(FleetCollector(lambda: watcher.latest, lambda: watcher.teller.failures))


def _work(now: Standing) -> Iterator[Metric]:
    yield _gauge("fleet_stream_lag_messages", "messages that wait for a router", now.stream.waiting)
    yield _gauge("fleet_stream_lag_seconds", "age of the oldest of them", now.stream.oldest_s)
    if now.message_age_s is not None:
        yield _gauge("fleet_last_message_age_seconds", "since a message was accepted last", now.message_age_s)
    yield _gauge("fleet_lists_lag_votes", "votes that wait for their drain", now.lists.waiting)
    yield _gauge("fleet_lists_lag_seconds", "age of the oldest of them", now.lists.oldest_s)
    yield _gauge("fleet_lists_symbols", "symbols with votes that wait", now.symbols_waiting)
    yield _gauge("fleet_claims", "claims that are not decided", now.claims)
    yield _gauge("fleet_claims_overdue", "claims two leases old", now.claims_overdue)
    yield _gauge("fleet_followups", "jobs that wait for a busy symbol", now.followups)
    yield _gauge("fleet_held", "signals that wait for an open", now.held)
    yield _gauge("fleet_dead_letters", "entries of the stream of dead letters", now.dead)
    yield _labelled("fleet_queue_lag_seconds", "age of the first job in a queue", "queue", _oldest(now.queues))
    counts = {role: float(len(ages)) for role, ages in now.processes.items()}
    yield _labelled("fleet_processes", "processes with a known sign of life", "role", counts)
    youngest = {role: ages[0] for role, ages in now.processes.items()}
    yield _labelled("fleet_heartbeat_age_seconds", "age of a role's youngest sign of life", "role", youngest)
    yield _states("fleet_state", "1 for the state the fleet is in", OrchestratorState, now.state)
    yield _states("fleet_trading_state", "1 for the trading state", TradingState, now.trading)
    names = [name.split(":", maxsplit=1)[0] for name in now.open_alarms]
    yield _labelled("fleet_alarm_open", "open alarms", "code", {code: float(names.count(code)) for code in CODES})
    yield _gauge("fleet_alarms_untold", "alarms taken to be told and not told yet", now.untold)


def _ends(tally: Mapping[str, int]) -> Iterator[Metric]:
    yield CounterMetricFamily("fleet_messages_accepted", "messages that were accepted", value=tally.get("accepted", 0))
    yield CounterMetricFamily("fleet_legs", "legs that were opened", value=tally.get("legs", 0))
    yield CounterMetricFamily("fleet_orders", "orders that were sent", value=tally.get("orders", 0))
    for prefix, name, words, label in (
        ("refused:", "fleet_posts_refused", "posts that cannot be used", "reason"),
        ("dead:", "fleet_work_given_up", "work that was given up", "reason"),
        ("leg:", "fleet_leg_outcomes", "legs by their end", "outcome"),
        ("decision:", "fleet_decision_outcomes", "decisions by their end", "outcome"),
    ):
        family = CounterMetricFamily(name, words, labels=[label])
        for counter, value in sorted(tally.items()):
            if counter.startswith(prefix):
                family.add_metric([counter.removeprefix(prefix)], value)
        yield family
    rules = CounterMetricFamily(
        "fleet_rule_outcomes", "decisions by the rule that ended them", labels=["outcome", "rule"]
    )
    for counter, value in sorted(tally.items()):
        if counter.startswith("rule:"):
            rules.add_metric(counter.removeprefix("rule:").split(":", maxsplit=1), value)
    yield rules


def _rq(now: Standing) -> Iterator[Metric]:
    """By the names and labels of rq-exporter, so that its dashboards work."""
    jobs = GaugeMetricFamily("rq_jobs", "RQ jobs by status", labels=["queue", "status"])
    for queue, standing in now.queues.items():
        for status, count in standing.jobs.items():
            jobs.add_metric([queue, status], count)
    workers = GaugeMetricFamily("rq_workers", "RQ workers", labels=["name", "state", "queues"])
    good = CounterMetricFamily("rq_job_successful", "RQ successful job count", labels=RQ_LABELS)
    bad = CounterMetricFamily("rq_job_failed", "RQ failed job count", labels=RQ_LABELS)
    seconds = CounterMetricFamily("rq_working_seconds", "RQ total working time", labels=RQ_LABELS)
    for one in now.workers:
        workers.add_metric([one.name, one.state, one.queue], 1)
        good.add_metric([one.name, one.queue], one.successful)
        bad.add_metric([one.name, one.queue], one.failed)
        seconds.add_metric([one.name, one.queue], one.working_s)
    yield from (jobs, workers, good, bad, seconds)


def _money(now: Standing) -> Iterator[Metric]:
    yield _labelled("fleet_limit_used_ratio", "share of a limit in use, 1 = reached", "limit", now.limits)
    yield _gauge("fleet_positions", "symbols held", now.positions)
    if now.equity_usd is not None:
        yield _gauge("fleet_equity_usd", "equity of our book at its marks", now.equity_usd)
    yield _gauge("fleet_breaker_open", "1 while the venue gets no entries", float(now.breaker != "closed"))
    yield _gauge("fleet_breaker_failures", "recent failed calls to the venue", now.breaker_failures)
    if now.compared_age_s is not None:
        yield _gauge("fleet_reconcile_age_seconds", "since the books were compared", now.compared_age_s)


def _server(now: Standing) -> Iterator[Metric]:
    yield _gauge("fleet_redis_memory_bytes", "memory Redis uses", now.redis.memory_bytes)
    yield _gauge("fleet_redis_memory_limit_bytes", "its maxmemory, else the machine's", now.redis.memory_limit_bytes)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _labelled(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _states(name: str, words: str, kind: type[OrchestratorState | TradingState], now: object) -> Metric:
    return _labelled(name, words, "state", {str(one.value): float(one is now) for one in kind})


def _oldest(queues: Mapping[str, QueueStanding]) -> dict[str, float]:
    return {name: queue.lag.oldest_s for name, queue in queues.items()}
