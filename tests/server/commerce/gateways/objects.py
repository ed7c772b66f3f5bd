"""Objects of a gateway, as tests need them."""

from __future__ import annotations

from typing import Any

from server.commerce.gateways.gateway_objects import WITH_PARENT, GatewayObject, ObjectKind, ObjectStatus


def make_object(kind: ObjectKind, status: ObjectStatus, **given: Any) -> GatewayObject:
    """An object of 1000 THB, paid if it is a charge that succeeded."""
    fields: dict[str, Any] = {
        "kind": kind,
        "id": "ob_1",
        "amount_minor": 1000,
        "paid_minor": 1000 if status is ObjectStatus.SUCCEEDED else 0,
        "currency": "THB",
        "status": status,
        "version": 1,
        "created_at_ms": 1,
        "changed_at_ms": 1,
        "reference": None if kind in (ObjectKind.PAYMENT, ObjectKind.CHARGEBACK) else "r_1",
        "parent": "ob_0" if kind in WITH_PARENT else None,
    }
    return GatewayObject(**{**fields, **given})
