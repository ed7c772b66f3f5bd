"""`IdentityStore` on PostgreSQL: its three parts over one pool."""

from __future__ import annotations

from storage.identity import IdentityStore
from storage.people_postgres import PostgresPeople
from storage.services_postgres import PostgresServicePrincipals
from storage.sign_ins_postgres import PostgresSignIns


class PostgresIdentity(PostgresSignIns, PostgresPeople, PostgresServicePrincipals, IdentityStore):
    """See `storage.identity.IdentityStore`."""
