"""The digest of a request: of what was asked, not of how it was written."""

from __future__ import annotations

import msgspec

from server.commerce.asker import Asker, KeyedRequest
from server.commerce.step_keys import StepKeys

KEYS = StepKeys(bytes(32))
ASKED = KeyedRequest(Asker(tenant=1, principal=bytes(16)), "k")


class Order(msgspec.Struct, kw_only=True):
    """What was asked."""

    amount: int
    note: str | None = None


class LaterOrder(Order, kw_only=True):
    """The same of a later version."""

    colour: str = "red"
    parts: list[Order] = []


def test_a_field_that_is_appended_changes_no_digest_of_before() -> None:
    assert KEYS.make(ASKED, "order", Order(amount=1)) == KEYS.make(ASKED, "order", LaterOrder(amount=1, colour="red"))
    assert KEYS.make(ASKED, "order", Order(amount=1)) != KEYS.make(ASKED, "order", LaterOrder(amount=1, colour="blue"))


def test_each_field_counts_and_so_does_what_is_done() -> None:
    first = KEYS.make(ASKED, "order", LaterOrder(amount=1, parts=[Order(amount=2)]))
    others = [
        KEYS.make(ASKED, "order", LaterOrder(amount=1, parts=[Order(amount=3)])),
        KEYS.make(ASKED, "order", LaterOrder(amount=2, parts=[Order(amount=2)])),
        KEYS.make(ASKED, "refund", LaterOrder(amount=1, parts=[Order(amount=2)])),
        StepKeys(bytes(31) + b"x").make(ASKED, "order", LaterOrder(amount=1, parts=[Order(amount=2)])),
    ]
    assert first.body not in {other.body for other in others}
    assert {other.key_id for other in others} == {first.key_id}


def test_a_key_belongs_to_its_tenant_and_caller() -> None:
    callers = [Asker(tenant=1, principal=bytes(16)), Asker(tenant=2, principal=bytes(16))]
    callers.append(Asker(tenant=1, principal=b"x" * 16))
    assert len({KEYS.make(KeyedRequest(each, "k"), "order").key_id for each in callers}) == 3
