"""The stores of identity, and people who sign in, for the suites of the stores."""

from __future__ import annotations

from typing import Any

import asyncpg

from protocol import ids
from protocol.kinds import DAY_MS
from storage.identity_rows import (
    ExternalSignIn,
    NewDevice,
    NewProfile,
    OpenedSignIn,
    PendingCode,
    PhoneRow,
    RefreshedSignIn,
    SignInTerms,
)
from storage.postgres.accounts import AccountStore
from storage.postgres.people import PeopleStore
from storage.postgres.service_accounts import ServiceAccountStore
from storage.postgres.sign_ins import SignInStore
from storage.postgres.webhooks import WebhookStore

NOW = 1_800_000_000_000
DAY = DAY_MS
GRACE = 30 * DAY
TENANT = 1


class IdentityStores:
    """All of them over one pool."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self.sign_ins = SignInStore(pool)
        self.people = PeopleStore(pool)
        self.service_accounts = ServiceAccountStore(pool)
        self.accounts = AccountStore(pool)
        self.webhooks = WebhookStore(pool)


def phone(number: str, tenant_salt: bytes = b"") -> PhoneRow:
    return PhoneRow(hash=b"hash " + number.encode() + tenant_salt, key="k1", box=b"box", country="TH")


def device(own: bytes | None = None) -> NewDevice:
    return NewDevice(own or ids.new_id(), ids.new_id(), "web", "1.0", "Nok's laptop", "203.0.113.7")


async def put_code(
    stores: IdentityStores,
    phone_hash: bytes,
    *,
    code: bytes = b"right",
    attempts: int = 3,
    network: str = "203.0.113.7",
    expires_at_ms: int = NOW + 1,
) -> bytes:
    """Store a code that this network requested; returns its id."""
    pending = PendingCode(ids.new_id(), network, code)
    await stores.sign_ins.put_code(TENANT, phone_hash, pending, attempts=attempts, expires_at_ms=expires_at_ms)
    return pending.code_id


async def guess(
    stores: IdentityStores,
    phone_hash: bytes,
    *,
    now: int = NOW,
    tenant: int = TENANT,
    network: str = "203.0.113.7",
    code_id: bytes | None = None,
) -> bytes | None:
    """Spend a guess at a number's code; returns the code."""
    found = await stores.sign_ins.spend_attempt(now, tenant, phone_hash, network=network, code_id=code_id)
    return None if found is None else found.hash


async def sign_in(
    stores: IdentityStores,
    number: str = "+66800000001",
    *,
    name: str | None = "Nok",
    now: int = NOW,
    on: bytes | None = None,
    code_id: bytes | None = None,
    refresh: bytes | None = None,
    sign_in: bytes | None = None,
) -> OpenedSignIn:
    """Sign in with a fresh code, or with that of the given id."""
    row = phone(number)
    if code_id is None:
        code_id = await put_code(stores, row.hash, attempts=5, expires_at_ms=now + 300_000)
    return await stores.sign_ins.sign_in_by_code(
        now,
        TENANT,
        row,
        code_id,
        NewProfile(name, "th", "Asia/Bangkok"),
        device=device(on),
        sign_in=sign_in or ids.new_id(),
        refresh_hash=refresh or ids.new_id(),
        terms=SignInTerms(expires_at_ms=now + 30 * DAY, sign_ins_max=5, deleted_before_ms=now - GRACE),
    )


async def sign_in_by_issuer(
    stores: IdentityStores, external: str, on: bytes, *, issued: int = NOW, now: int = NOW, tenant: int = TENANT
) -> ExternalSignIn:
    return await stores.sign_ins.sign_in_by_issuer(
        now,
        tenant,
        external,
        issued,
        NewProfile("", "en", "UTC"),
        sign_in=ids.new_id(),
        device=on,
        address="",
        terms=SignInTerms(expires_at_ms=now + 30 * DAY, sign_ins_max=5, deleted_before_ms=now - GRACE),
    )


async def refresh(stores: IdentityStores, token: bytes, successor: bytes, now: int = NOW) -> RefreshedSignIn:
    return await stores.sign_ins.refresh(
        now, token, successor, address="203.0.113.9", expires_at_ms=now + 30 * DAY, grace_ms=60_000
    )


async def audit(pool: asyncpg.Pool[Any], subject: bytes) -> list[str]:
    rows = await pool.fetch("SELECT action FROM audit WHERE subject_id = $1 ORDER BY audit_id", subject)
    return [row["action"] for row in rows]


async def purge(stores: IdentityStores, now: int) -> int:
    """Purge until nothing is left; how many people were erased."""
    people, more = 0, True
    while more:
        step, more = await stores.people.purge(
            now,
            deleted_before_ms=now - GRACE,
            ended_before_ms=now - 30 * DAY,
            audit_before_ms=now - 365 * DAY,
            limit=10,
        )
        people += step
    return people
