#!/usr/bin/env python3
"""Writes orders.jsonl, a day of synthetic orders, and decisions.jsonl, what should become of them.

The decisions are worked out here with Python's decimals and by the rules in the documentation of the limits, so that
the muscle is tested against a second program and not against itself.
"""
import json
import random
from decimal import Decimal

rng = random.Random(20240311)
ACCOUNTS = ["ALDER", "BIRCH", "CEDAR", "DOGWOOD", "ELM"]
PRICES = {"ABC": 41.2, "DEF": 118.75, "GHI": 9.3, "JKL": 402.5, "MNO": 0.8125, "PQR": 73.4}
LIMITS = dict(quantity=5000, value=Decimal(250_000), position=8000, gross=Decimal(2_000_000), band=500)


def orders():
    lines, ids = [], []
    for number in range(1, 441):
        symbol = rng.choice(list(PRICES))
        PRICES[symbol] = max(0.05, PRICES[symbol] * (1 + rng.gauss(0, 0.004)))
        price = round(PRICES[symbol], 4 if PRICES[symbol] < 1 else 2)
        quantity = rng.choice([1, 10, 50, 100, 100, 200, 250, 500, 1000, 1500])
        event = rng.random()
        if event < 0.03:
            quantity = rng.choice([6000, 20000, 1_000_000])
        elif event < 0.06:
            price = round(price * rng.choice([0.5, 0.9, 1.1, 10]), 2)
        order = dict(
            id=f"O-{number:04}",
            account=rng.choice(ACCOUNTS),
            symbol=symbol,
            side=rng.choice(["buy", "buy", "sell"]),
            quantity=quantity,
            price=price,
        )
        if event > 0.985 and ids:
            order["id"] = rng.choice(ids)
        ids.append(order["id"])
        line = json.dumps(order)
        if 0.06 <= event < 0.075:
            line = rng.choice([
                line[: len(line) // 2],
                line.replace('"buy"', '"hold"').replace('"sell"', '"hold"'),
                line.replace('"quantity": ', '"quantity": -'),
                line.replace('"price"', '"cost"'),
            ])
        lines.append(line)
    return lines


def number(value):
    """As the muscle prints money: a JSON float."""
    return float(value)


def decide(lines):
    seen, last, gross, held = set(), {}, {}, {}
    for line in lines:
        try:
            order = json.loads(line, parse_float=Decimal, parse_int=Decimal)
            assert set(order) == {"id", "account", "symbol", "side", "quantity", "price"}
            assert order["side"] in ("buy", "sell") and order["quantity"] >= 0
        except (ValueError, AssertionError):
            yield dict(id="", accepted=False, reasons=[dict(rule="malformed", text="")])
            continue
        account, symbol = order["account"], order["symbol"]
        quantity, price = int(order["quantity"]), order["price"]
        before = held.get((account, symbol), 0)
        after = before + quantity if order["side"] == "buy" else before - quantity
        value = price * quantity
        total = gross.get(account, Decimal(0)) + value
        reasons = []
        if order["id"] in seen:
            reasons.append(dict(rule="duplicate"))
        if quantity > LIMITS["quantity"]:
            reasons.append(dict(rule="order-quantity", quantity=quantity, limit=LIMITS["quantity"]))
        if value > LIMITS["value"]:
            reasons.append(dict(rule="order-value", value=number(value), limit=number(LIMITS["value"])))
        if abs(after) > LIMITS["position"]:
            reasons.append(dict(rule="position", position=after, limit=LIMITS["position"]))
        if total > LIMITS["gross"]:
            reasons.append(dict(rule="gross-value", value=number(total), limit=number(LIMITS["gross"])))
        if symbol in last:
            distance = int(abs(price - last[symbol]) * 10_000 / last[symbol])
            if distance > LIMITS["band"]:
                reasons.append(dict(rule="price-band", distance_bps=distance, limit=LIMITS["band"]))
        decision = dict(id=order["id"], accepted=not reasons)
        if reasons:
            decision["reasons"] = reasons
        else:
            seen.add(order["id"])
            last[symbol] = price
            gross[account] = total
            held[(account, symbol)] = after
        decision["position"] = held.get((account, symbol), 0)
        yield decision


if __name__ == "__main__":
    lines = orders()
    with open("orders.jsonl", "w") as out:
        out.writelines(line + "\n" for line in lines)
    with open("decisions.jsonl", "w") as out:
        out.writelines(json.dumps(decision) + "\n" for decision in decide(lines))
