"""`IdentityStore` on PostgreSQL: its three parts over one pool."""

from __future__ import annotations

from storage.identity import IdentityStore
from storage.postgres.people import PostgresPeople
from storage.postgres.service_accounts import PostgresServicePrincipals
from storage.postgres.sign_ins import PostgresSignIns


class PostgresIdentity(PostgresSignIns, PostgresPeople, PostgresServicePrincipals, IdentityStore):
    """See `storage.identity.IdentityStore`."""
