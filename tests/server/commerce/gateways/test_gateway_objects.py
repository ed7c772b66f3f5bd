"""An object that no gateway may speak of is no object."""

from __future__ import annotations

import re

import msgspec
import pytest

from protocol.commerce.currencies import AMOUNT_MINOR_MAX
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind, ObjectStatus
from tests.server.commerce.gateways.objects import make_object

K, S = ObjectKind, ObjectStatus


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": "won"}, "a charge is never won"),
        ({"currency": "XXX"}, "unknown currency"),
        ({"kind": "refund"}, "has a parent"),
        ({"amount_minor": 0}, ">= 1"),
        ({"amount_minor": AMOUNT_MINOR_MAX + 1}, "<="),
        ({"amount_minor": 10.5}, "int"),
        ({"paid_minor": -1}, ">= 0"),
        ({"version": 0}, ">= 1"),
        ({"id": ""}, "length"),
        ({"reference": "r" * 256}, "length"),
    ],
)
def test_what_no_gateway_may_say_is_not_decoded(changes: dict[str, object], why: str) -> None:
    fields = msgspec.to_builtins(make_object(K.CHARGE, S.PENDING))
    msgspec.convert(fields, GatewayObject)
    with pytest.raises(msgspec.ValidationError, match=re.escape(why)):
        msgspec.json.decode(msgspec.json.encode({**fields, **changes}), type=GatewayObject)
