"""Which commands about payments may be passed on to commerce, and which were: a repeated one is passed on again."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from storage.postgres.pool import Pool, translate_errors
from storage.rows import PrincipalType, VerdictCode

_PERSON_DEVICE = f"""
SELECT k.ed25519 FROM principals p
LEFT JOIN device_keys k ON k.device_id = $2 AND k.principal_id = p.principal_id AND k.keys IS NOT NULL
WHERE p.principal_id = $1 AND p.type = {PrincipalType.PERSON}
"""
_DEVICE_KEY = "SELECT ed25519 FROM device_keys WHERE device_id = $1 AND keys IS NOT NULL"


class PaymentCall(msgspec.Struct, frozen=True):
    """A command about a payment, under the number `n` of its author's device in a dialog.

    `what` is 16 bytes that differ for what it does and whom it is about. `people_only`: bots and businesses may not.
    `parties`: of a payment that begins, those beside its author, all different; else none.
    """

    author: bytes
    device: bytes
    dialog: bytes
    n: int
    what: bytes
    people_only: bool
    parties: Collection[bytes] = ()


class PersonDevice(msgspec.Struct, frozen=True):
    """A device of a person, and the public key with which it signs, if it has one."""

    ed25519: bytes | None


class PaymentCalls:
    """The commands that were passed on, over a pool. Each raises StorageUnavailableError when it cannot answer now."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def judge(self, now_ms: int, call: PaymentCall) -> VerdictCode:
        """OK, or why it may not be passed on. It is noted: a repeated call is answered the same.

        NOT_FOUND: the author is no member, or the dialog is deleted. NOT_MEMBER: another party is none. ROLE_REQUIRED,
        BLOCKED, SUSPENDED: as for a message. CONFLICT: the number was used for something else.
        """
        async with translate_errors():
            code = await self._pool.fetchval(
                "SELECT judge_payment($1, $2, $3, $4, $5, $6, $7, $8)",
                now_ms,
                call.author,
                call.device,
                call.dialog,
                call.n,
                call.what,
                call.people_only,
                list(call.parties),
            )
        return VerdictCode(code)

    async def read_device_key(self, device: bytes) -> bytes | None:
        """The public key (Ed25519) with which a device signs; None if it has uploaded none, or is signed out."""
        async with translate_errors():
            key: bytes | None = await self._pool.fetchval(_DEVICE_KEY, device)
        return key

    async def read_person_device(self, principal: bytes, device: bytes) -> PersonDevice | None:
        """A device of this principal, who is a person; None for others."""
        async with translate_errors():
            row = await self._pool.fetchrow(_PERSON_DEVICE, principal, device)
        return None if row is None else PersonDevice(row[0])
