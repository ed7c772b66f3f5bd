"""The fake gateway's HTTP: `/v1/` for merchants, `/customers/` and `/admin/` for tests, `/book` for auditors.

POST /v1/charges | /v1/refunds | /v1/payouts     201 object, 402 or 422 {"code"}, 409 the reference was another call's
GET  /v1/objects?id= | reference= | since_ms=&until_ms=&page=      200 {"objects", "next_page", "now_ms"}
POST /customers/pay {"charge", "amount_minor"?}          a QR code is paid
POST /customers/dispute {"parent", "amount_minor"?}      a bank takes money back
POST /customers/decide {"object", "won"}                 a dispute ends
POST /admin/faults {name: chance}                        these faults from now on, and no others
POST /admin/advance {"by_s"}                             its clock goes forward, and what is due happens
GET  /book                                               every object, sums by currency, faults felt, webhooks
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import time
from collections import Counter

from tests.support.fake_gateway.bank import Bank, DeclinedError, ReusedReferenceError
from tests.support.fake_gateway.book import Book, Row, as_wire
from tests.support.fake_gateway.faults import Faults
from tests.support.fake_gateway.http_server import Asked, NoReply, Reply
from tests.support.fake_gateway.webhook_sender import WebhookSender

PAGE_MAX = 50
_KINDS = {"/v1/charges": "charge", "/v1/refunds": "refund", "/v1/payouts": "payout"}
_TICK_S = 0.02


class Front:
    """Requests in, replies out; what changes is reported by webhooks."""

    def __init__(self, book: Book, bank: Bank, faults: Faults, sender: WebhookSender, api_key: str) -> None:
        self._book = book
        self._bank = bank
        self._faults = faults
        self._sender = sender
        self._api_key = api_key
        self._calls: Counter[str] = Counter()
        self._reads = itertools.count()

    async def run(self) -> None:
        """Have happen what is due, until cancelled."""
        while True:
            self._happen()
            await asyncio.sleep(_TICK_S)

    async def answer(self, asked: Asked) -> Reply | NoReply:
        """Answer one request."""
        try:
            reply = self._route(asked)
        except (KeyError, ValueError) as error:
            reply = Reply(404, {"code": f"not_found: {error}"})
        self._report()
        return reply

    def _route(self, asked: Asked) -> Reply | NoReply:
        if asked.path.startswith("/v1/"):
            if not hmac.compare_digest(asked.headers.get("authorization", ""), f"Bearer {self._api_key}"):
                return Reply(401, {"code": "wrong_key"})
            return self._read(asked.query) if asked.method == "GET" else self._call(_KINDS[asked.path], asked.body)
        if asked.path == "/book":
            audit = self._book.audit()
            audit["objects"] = [as_wire(row) for row in audit["objects"]]
            return Reply(200, {**audit, "felt": self._faults.felt, "webhooks": self._sender.counts})
        _, folder, name = asked.path.split("/")
        return Reply(200, self._order(folder, name, asked.body))

    def _order(self, folder: str, name: str, body: Row) -> Row:
        """What a customer, a bank or an operator does."""
        match folder, name:
            case "customers", "pay":
                return as_wire(self._bank.pay(body["charge"], body.get("amount_minor"), self._now_ms))
            case "customers", "stray":
                return as_wire(self._bank.stray(body["amount_minor"], body["currency"], self._now_ms))
            case "customers", "dispute":
                return as_wire(self._bank.dispute(body["parent"], body.get("amount_minor"), self._now_ms))
            case "customers", "decide":
                return as_wire(self._bank.decide(body["object"], won=body["won"], now_ms=self._now_ms))
            case "admin", "faults":
                self._faults.set(body)
            case "admin", "advance":
                self._book.shift(round(body["by_s"] * 1000))
                self._happen()
            case _:
                raise KeyError(name)
        return {"now_ms": self._now_ms}

    def _call(self, kind: str, body: Row) -> Reply | NoReply:
        """A call that moves money, with what can go wrong around it."""
        reference = str(body.get("reference"))
        self._calls[reference] += 1
        about = f"{reference}/{self._calls[reference]}"
        if self._faults.strike("call_limited", about):
            return Reply(429, {"code": "too_many"}, {"retry-after": "2"})
        if self._faults.strike("call_lost", about):
            return NoReply.CUT
        if self._faults.strike("call_late", about):
            self._bank.postpone(kind, body, self._now_ms)
            return NoReply.CUT
        reply = self._carry_out(kind, body)
        for fault, instead in (
            ("call_cut", NoReply.CUT),
            ("call_times_out", NoReply.HANG),
            ("call_500", Reply(500, {})),
        ):
            if self._faults.strike(fault, about):
                return instead
        return reply

    def _carry_out(self, kind: str, body: Row) -> Reply:
        try:
            return Reply(201, as_wire(self._bank.call(kind, body, self._now_ms)))
        except ReusedReferenceError:
            return Reply(409, {"code": "reference_reused"})
        except DeclinedError as error:
            return Reply(402 if error.code == "card_declined" else 422, {"code": error.code})

    def _read(self, query: dict[str, str]) -> Reply:
        if self._faults.strike("read_500", str(next(self._reads))):
            return Reply(500, {})
        for column in ("id", "reference"):
            if column in query:
                return Reply(200, {"objects": [as_wire(row) for row in self._book.find(column, query[column])]})
        after_ms, _, number = query.get("page", "0.0").partition(".")
        window = int(query["since_ms"]), int(query["until_ms"]), (int(after_ms), int(number))
        rows = self._book.changed(*window, PAGE_MAX)
        more = f"{rows[-1]['changed_at_ms']}.{rows[-1]['number']}" if len(rows) == PAGE_MAX else None
        return Reply(200, {"objects": [as_wire(row) for row in rows], "next_page": more, "now_ms": self._now_ms})

    @property
    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._book.shift_ms

    def _happen(self) -> None:
        while self._bank.happen(self._now_ms):
            pass
        self._report()

    def _report(self) -> None:
        changed, self._bank.changed = self._bank.changed, []
        for row in changed:
            self._sender.report(row)
