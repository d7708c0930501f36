"""A trace told for people: stage by stage, with the numbers each one saw."""

from collections.abc import Iterator
from typing import Any

from workers.plain import plain

Document = dict[str, Any]


def tell(found: Document) -> str:
    """The whole trace of `workers.trace.trace` as text, in the order things happened."""
    return "\n".join(plain(line) for line in _tell(found))


def _tell(found: Document) -> Iterator[str]:
    yield f"trace of {found['id']}"
    if found["message"]:
        yield from _message(found["message"])
    for leg, fields in found["legs"].items():
        yield f"leg {leg}: {_end(fields)}"
    for decision_id, decision in found["decisions"].items():
        yield f"decision {decision_id}: {_end(decision['outcome'])}"
        for document in decision["story"]:
            yield from _document(document)
        for order in decision["orders"]:
            yield from _order(order)


def _message(body: Document) -> Iterator[str]:
    post, mood, tickers = body["message"], body["sentiment"], body["tickers"]
    yield f"  post      {post['created_at']} by {post['author']} ({post['source']}), known {post['received_at']}"
    yield f"            {post['text']}"
    yield (
        f"  analyzer  {mood['label']}, score {mood['score']:+.3f}, confidence {mood['confidence']:.4f}"
        f" ({mood['model']}); symbols {', '.join(tickers['symbols']) or 'none'}, primary {tickers['primary'] or 'none'}"
        f", {tickers['cashtags']} cashtags{', spam: ' + body['spam'] if body.get('spam') else ''}"
    )


def _document(document: Document) -> Iterator[str]:
    yield f"  at {document['at']}: {document['status']} (settings {document.get('settings', 'unknown')})"
    if aggregate := document.get("aggregate"):
        yield (
            f"    consensus {aggregate['bullish']} bullish, {aggregate['bearish']} bearish,"
            f" {aggregate['neutral']} neutral of {aggregate['total']}; strength {aggregate['strength']:.3f},"
            f" mean confidence {aggregate['mean_confidence']:.3f}"
        )
        if document.get("recommendation"):
            yield f"              votes {', '.join(aggregate['message_ids'])}"
    recommendation = document.get("recommendation")
    yield from _validation(document.get("validation") or (recommendation or {}).get("validation"))
    if recommendation:
        yield from _score(recommendation)
    if reservation := document.get("reservation"):
        yield from _reservation(reservation)
    if gate := document.get("gate"):
        yield from _gate(gate)
    if execution := document.get("execution_result"):
        asked = f"{execution['side']} {execution['quantity']} as {execution['client_order_id']}"
        yield f"    executor  {asked}: {_report(execution)}"
    if refusal := document.get("refusal"):
        seen = f"observed {refusal['observed']}, limit {refusal['limit']}"
        yield f"    ended by  {refusal['stage']}: {refusal['rule']}, {seen}"


def _validation(validation: Document | None) -> Iterator[str]:
    if not validation:
        return
    yield f"    validator {validation['status']}{' (' + validation['error'] + ')' if validation['error'] else ''}"
    if reading := validation["indicators"]:
        yield (
            f"              RSI {reading['rsi']:.2f}, ADX {reading['adx']:.2f}, ATR {reading['atr']:.4f},"
            f" MACD {reading['macd']:.4f}/{reading['macd_signal']:.4f}, histogram {reading['macd_histogram']:+.4f}"
            f" {reading['histogram_trend']}, stochastic {reading['stochastic_k']:.1f}/{reading['stochastic_d']:.1f},"
            f" divergence {reading['divergence'] or 'none'}"
        )
    for kind, word in (("vetoes", "veto"), ("warnings", "warning")):
        for one in validation[kind]:
            yield f"              {word} {one['rule']}: {one['observed']} ({one['limit']})"


def _score(recommendation: Document) -> Iterator[str]:
    parts, signal = recommendation["components"], recommendation["signal"]
    yield (
        f"    signal    {signal['direction']} {signal['symbol']} ({signal['kind']}), score {signal['score']:+.3f},"
        f" confidence {signal['confidence']:.4f}, decided {signal['decided_at']}, expires {signal['expires_at']}"
    )
    tier = f"{recommendation['tier']}, size x {recommendation['size_factor']}"
    yield f"    scorer    {recommendation['score']:.3f} = {tier}"
    yield f"              {', '.join(f'{name} {value:.4g}' for name, value in parts.items())}"
    quote, levels = recommendation["quote"], recommendation["levels"]
    yield (
        f"    levels    {quote['source']} {quote['price']} of {quote['at']}; stop {levels['stop']}"
        f" (distance {levels['stop_distance']}), target {levels['target']} (distance {levels['target_distance']})"
    )


def _reservation(reservation: Document) -> Iterator[str]:
    act = "closes" if reservation["reduce_only"] else "opens"
    yield (
        f"    risk      {act}: {reservation['side']} {reservation['quantity']} at {reservation['price']}"
        f" = {reservation['notional']} USD"
    )
    yield f"              {', '.join(f'{name} {value}' for name, value in reservation['sizing'].items())}"


def _gate(gate: Document) -> Iterator[str]:
    yield f"    gate      {'open' if gate['open'] else 'closed'}, size x {gate['factor']}"
    words = {True: "passed", False: "FAILED", None: "off"}
    for one in gate["checks"]:
        yield f"              {one['name']} {words[one['passed']]}: {one['observed']} ({one['limit']})"


def _report(execution: Document) -> str:
    if execution["error"]:
        return str(execution["error"])
    report = execution["report"]
    return f"{report['status']} {report['reason']}".strip() if report else "no answer yet"


def _order(order: Document) -> Iterator[str]:
    intent, venue = order["intent"], order["venue"]
    sent = intent.get("order", {})
    yield f"  order {order['client_order_id']}: intent {intent.get('state')}"
    if sent:
        levels = sent["levels"]
        yield (
            f"    asked     {sent['side']} {sent['quantity']} {sent['symbol']}, reference {levels['reference']},"
            f" stop {levels['stop']}, target {levels['target']}, good until {sent['good_until']}"
        )
    report = intent.get("report")
    if not report:
        yield f"    venue     {'has it' if venue else 'never heard of it'}"
        return
    yield f"    venue     {report['status']} {report['reason']}; stop {report['stop']}, target {report['target']}"
    for fill in report["fills"]:
        what = f"{fill['side']} {fill['quantity']} at {fill['price']}, fee {fill['fee']}"
        yield f"    fill      {fill['at']} {fill['role']}: {what}"


def _end(fields: Document) -> str:
    why = f" by {fields['stage']} {fields['rule']}: observed {fields['observed']}, limit {fields['limit']}"
    when = f" at {fields['at']}" if "at" in fields else ""
    return f"{fields.get('state', 'unknown')}{why if fields.get('rule') else ''}{when}"
