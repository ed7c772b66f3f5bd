"""What the fake gateway does with money: its rules, its customers, and what happens by itself later."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

from tests.support.fake_gateway.book import Book, Row
from tests.support.fake_gateway.faults import Faults

_FIELDS = {
    "charge": {"reference", "amount_minor", "currency", "method"},
    "refund": {"reference", "amount_minor", "currency", "parent"},
    "payout": {"reference", "amount_minor", "currency", "destination"},
}
_OPTIONAL = {"source", "expires_in_s"}


class DeclinedError(Exception):
    """A call that moves nothing; `code` says why."""

    def __init__(self, code: str, object_id: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.object_id = object_id


class ReusedReferenceError(Exception):
    """The reference was used for another call."""


@dataclass(frozen=True)
class Timing:
    """`settle_s`: how long what is pending takes. `late_s`: how late what is late is."""

    settle_s: float = 0.5
    late_s: float = 2.0
    key_window_s: float = 86_400.0


class Bank:
    """`changed` collects each version of an object that webhooks report; who reports it takes it off."""

    def __init__(self, book: Book, faults: Faults, timing: Timing, *, customers: bool) -> None:
        self._book = book
        self._faults = faults
        self._timing = timing
        self._customers = customers
        self.changed: list[Row] = []

    def call(self, kind: str, body: Row, now_ms: int) -> Row:
        """Carry out a call, once for each reference; raises DeclinedError or ReusedReferenceError.

        Within the key window the first answer counts, refusals included; past it, it is carried out again.
        """
        reference, asked = str(body.get("reference", "")), json.dumps([kind, body], sort_keys=True)
        with self._book.transaction():
            first = self._book.first_answer(reference, now_ms - round(self._timing.key_window_s * 1000))
            if first is None:
                found, code = self._carry_out(kind, body, now_ms)
                self._book.keep_answer(reference, now_ms, asked, found, code)
                first = {"asked": asked, "object": found, "code": code}
        if first["asked"] != asked:
            raise ReusedReferenceError
        if first["code"] is not None:
            raise DeclinedError(first["code"])
        return self._book.get(first["object"])

    def _carry_out(self, kind: str, body: Row, now_ms: int) -> tuple[str | None, str | None]:
        """The id of the object, or why there is none, or both."""
        try:
            _check(kind, body)
            return {"charge": self._charge, "refund": self._refund, "payout": self._payout}[kind](body, now_ms)[
                "id"
            ], None
        except DeclinedError as error:
            return error.object_id, error.code

    def postpone(self, kind: str, body: Row, now_ms: int) -> None:
        """Carry out a call late: its sender has long given up waiting."""
        self._book.schedule(now_ms + self._late_ms, "call", {"kind": kind, "body": body})

    def happen(self, now_ms: int) -> bool:
        """Have the next thing happen that is due; False if nothing is."""
        with self._book.transaction():
            what, body = self._book.next_due(now_ms) or ("", {})
            with contextlib.suppress(DeclinedError):  # it was decided meanwhile
                if what and what != "call":
                    getattr(self, f"_{what}_now")(body, now_ms)
        if what == "call":
            with contextlib.suppress(DeclinedError, ReusedReferenceError):  # nobody waits for the answer
                self.call(body["kind"], body["body"], now_ms)
        return bool(what)

    def pay(self, charge_id: str, amount_minor: int | None, now_ms: int) -> Row:
        """A customer pays a QR code, whatever became of it."""
        with self._book.transaction():
            return self._pay_now({"charge": charge_id, "amount_minor": amount_minor}, now_ms)

    def stray(self, amount_minor: int, currency: str, now_ms: int) -> Row:
        """Somebody pays us for nothing that we asked: by a code on paper."""
        with self._book.transaction():
            return self._stray_now({"amount_minor": amount_minor, "currency": currency}, now_ms)

    def dispute(self, parent_id: str, amount_minor: int | None, now_ms: int) -> Row:
        """A bank takes money back."""
        with self._book.transaction():
            return self._dispute_now({"parent": parent_id, "amount_minor": amount_minor}, now_ms)

    def decide(self, chargeback_id: str, *, won: bool, now_ms: int) -> Row:
        """A dispute ends."""
        with self._book.transaction():
            return self._decide_now({"object": chargeback_id, "won": won}, now_ms)

    @property
    def _settle_ms(self) -> int:
        return round(self._timing.settle_s * 1000)

    @property
    def _late_ms(self) -> int:
        return round(self._timing.late_s * 1000)

    def _charge(self, body: Row, now_ms: int) -> Row:
        reference = body["reference"]
        given = {name: body[name] for name in ("reference", "amount_minor", "currency")} | {"status": "pending"}
        if body["method"] != "card":
            return self._show_code(body, given, now_ms)
        row = self._note(self._book.add("charge", now_ms, given))
        if self._faults.strike("card_declined", reference):
            self._turn(row["id"], now_ms, "failed", reason="card_declined")
            raise DeclinedError("card_declined", row["id"])
        if self._faults.strike("card_pending", reference):
            status = "failed" if self._faults.strike("card_fails", reference) else "succeeded"
            self._book.schedule(now_ms + self._settle_ms, "turn", {"object": row["id"], "status": status})
            return row
        return self._turn(row["id"], now_ms, "succeeded")

    def _show_code(self, body: Row, given: Row, now_ms: int) -> Row:
        expires_at_ms = now_ms + body.get("expires_in_s", 900) * 1000
        qr = f"00020101{body['method'].upper()}-{body['reference']}-{body['amount_minor']}"
        row = self._note(self._book.add("charge", now_ms, {**given, "qr": qr, "expires_at_ms": expires_at_ms}))
        self._book.schedule(expires_at_ms, "expire", {"object": row["id"]})
        if self._customers:
            for at_ms, amount_minor in self._plan_of_customer(row, now_ms):
                self._book.schedule(at_ms, "pay", {"charge": row["id"], "amount_minor": amount_minor})
            if self._faults.strike("qr_stray", row["reference"]):
                given = {"amount_minor": 77, "currency": row["currency"]}
                self._book.schedule(now_ms + self._settle_ms, "stray", given)
        return row

    def _plan_of_customer(self, row: Row, now_ms: int) -> list[tuple[int, int]]:
        """When a customer pays how much."""
        reference, amount_minor, at_ms = row["reference"], row["amount_minor"], now_ms + self._settle_ms
        plans = {
            "qr_unpaid": [],
            "qr_paid_late": [(row["expires_at_ms"] + self._late_ms, amount_minor)],
            "qr_paid_twice": [(at_ms, amount_minor), (at_ms + self._settle_ms, amount_minor)],
            "qr_paid_in_part": [(at_ms, max(amount_minor // 2, 1))],
            "qr_paid_too_much": [(at_ms, amount_minor + amount_minor // 10 + 1)],
        }
        struck = (plan for name, plan in plans.items() if self._faults.strike(name, reference))
        return next(struck, [(at_ms, amount_minor)])

    def _refund(self, body: Row, now_ms: int) -> Row:
        parent = self._money_of(body["parent"])
        if parent["currency"] != body["currency"]:
            raise DeclinedError("another_currency")
        around = self._book.find("parent", parent["id"])
        if any(each["kind"] == "chargeback" and each["status"] != "won" for each in around):
            raise DeclinedError("disputed")
        alive = [each for each in around if each["kind"] == "refund" and each["status"] in ("pending", "succeeded")]
        if sum(each["amount_minor"] for each in alive) + body["amount_minor"] > parent["paid_minor"]:
            raise DeclinedError("above_the_charge")
        return self._later("refund", body, now_ms, {"parent": parent["id"]})

    def _payout(self, body: Row, now_ms: int) -> Row:
        return self._later("payout", body, now_ms, {})

    def _later(self, kind: str, body: Row, now_ms: int, more: Row) -> Row:
        """A refund or a payout: pending, then decided, then perhaps returned."""
        given = {name: body[name] for name in ("reference", "amount_minor", "currency")}
        row = self._note(self._book.add(kind, now_ms, {**given, **more, "status": "pending"}))
        fails = self._faults.strike(f"{kind}_fails", body["reference"])
        at_ms = now_ms + self._settle_ms
        turned = {"object": row["id"], "status": "failed" if fails else "succeeded"}
        if kind == "payout" and self._faults.strike("payout_in_part", body["reference"]):
            turned["amount_minor"] = max(1, body["amount_minor"] // 2)
        self._book.schedule(at_ms, "turn", turned)
        if not fails and self._faults.strike(f"{kind}_returned", body["reference"]):
            self._book.schedule(at_ms + self._settle_ms, "turn", {"object": row["id"], "status": "returned"})
        return row

    def _turn_now(self, body: Row, now_ms: int) -> None:
        status, amount_minor = body["status"], body.get("amount_minor")
        self._turn(body["object"], now_ms, status, reason=f"{status}_at_the_bank", amount_minor=amount_minor)

    def _expire_now(self, body: Row, now_ms: int) -> None:
        if self._book.get(body["object"])["status"] == "pending":
            self._turn(body["object"], now_ms, "expired")

    def _pay_now(self, body: Row, now_ms: int) -> Row:
        charge = self._book.get(body["charge"])
        if charge["qr"] is None:
            raise DeclinedError("no_code")
        amount_minor = body["amount_minor"] or charge["amount_minor"]
        row = self._stray_now(
            {"parent": charge["id"], "amount_minor": amount_minor, "currency": charge["currency"]}, now_ms
        )
        paid = sum(each["amount_minor"] for each in self._book.find("parent", charge["id"]))
        if charge["status"] == "pending" and paid >= charge["amount_minor"]:
            self._note(self._book.change(charge["id"], now_ms, {"status": "succeeded"}))
        return row

    def _stray_now(self, fields: Row, now_ms: int) -> Row:
        paid = {**fields, "paid_minor": fields["amount_minor"], "status": "succeeded"}
        row = self._note(self._book.add("payment", now_ms, paid))
        self._take_in(row, now_ms)
        return row

    def _dispute_now(self, body: Row, now_ms: int) -> Row:
        parent = self._money_of(body["parent"])
        amount_minor = min(body["amount_minor"] or parent["paid_minor"], parent["paid_minor"])
        fields = {"parent": parent["id"], "amount_minor": amount_minor, "currency": parent["currency"]}
        row = self._note(self._book.add("chargeback", now_ms, {**fields, "status": "open"}))
        self._book.move(row, -amount_minor)
        if "won" in body:
            self._book.schedule(now_ms + self._settle_ms, "decide", {"object": row["id"], "won": body["won"]})
        return row

    def _decide_now(self, body: Row, now_ms: int) -> Row:
        row = self._book.get(body["object"])
        if row["status"] != "open":
            raise DeclinedError("decided")
        return self._turn(row["id"], now_ms, "won" if body["won"] else "lost")

    def _turn(
        self, object_id: str, now_ms: int, status: str, reason: str | None = None, amount_minor: int | None = None
    ) -> Row:
        """The next status of an object, perhaps with another amount, and the money that moves with it."""
        fields: Row = {"status": status} | ({} if amount_minor is None else {"amount_minor": amount_minor})
        if status in ("failed", "returned"):
            fields["reason"] = reason
        before = self._book.get(object_id)
        if (before["kind"], status) == ("charge", "succeeded"):
            fields["paid_minor"] = before["amount_minor"]
        row = self._note(self._book.change(object_id, now_ms, fields))
        if (row["kind"], status) == ("charge", "succeeded"):
            self._take_in(row, now_ms)
        elif status == "succeeded":
            self._book.move(row, -row["amount_minor"])
        elif status in ("returned", "won"):
            self._book.move(row, row["amount_minor"])
        return row

    def _take_in(self, row: Row, now_ms: int) -> None:
        """Money has come; perhaps it is disputed later."""
        self._book.move(row, row["paid_minor"])
        if self._faults.strike("chargeback", row["id"]):
            won = self._faults.strike("chargeback_won", row["id"])
            self._book.schedule(
                now_ms + self._settle_ms, "dispute", {"parent": row["id"], "amount_minor": None, "won": won}
            )

    def _money_of(self, object_id: str) -> Row:
        try:
            parent = self._book.get(object_id)
        except KeyError:
            raise DeclinedError("no_such_parent") from None
        if parent["kind"] not in ("charge", "payment") or not parent["paid_minor"]:
            raise DeclinedError("nothing_was_paid")
        return parent

    def _note(self, row: Row) -> Row:
        self.changed.append(row)
        return row


def _check(kind: str, body: Row) -> None:
    """Refuse what has not the form."""
    amount_minor = body.get("amount_minor")
    if not _FIELDS[kind] <= set(body) <= _FIELDS[kind] | _OPTIONAL:
        raise DeclinedError("invalid")
    if not isinstance(amount_minor, int) or amount_minor < 1:
        raise DeclinedError("invalid")
