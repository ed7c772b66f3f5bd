"""The first admin of a deployment: made by an operator, who holds the database and the keys."""

from __future__ import annotations

from server.clock import SystemClock
from server.config.settings import Config
from server.identity.context import OWN_TENANT
from server.identity.key_files import load_vault
from server.identity.phone_numbers import read_phone_number
from server.refusals import RequestRefusedError
from server.startup_error import StartupError
from storage.postgres.people import PeopleStore
from storage.postgres.pool import open_pool
from storage.unavailable import StorageUnavailableError


async def make_admin(config: Config, url: str, phone_number: str) -> bytes:
    """Make the active person of this number an admin; returns the principal. Raises StartupError."""
    vault = load_vault(config)
    try:
        number = read_phone_number(phone_number, config.identity.countries)
        pool = await open_pool(url, size=1, statement_timeout_s=config.storage.statement_timeout_s)
        try:
            principal = await PeopleStore(pool).grant_admin(
                SystemClock().wall_ms(), OWN_TENANT, vault.hash_phone(OWN_TENANT, number.e164)
            )
        finally:
            await pool.close()
    except RequestRefusedError as error:
        raise StartupError(f"{phone_number} cannot be made an admin: {error.detail}.") from error
    except StorageUnavailableError as error:
        raise StartupError(f"The database cannot be used ({error}): run `tchat doctor`.") from error
    if principal is None:
        raise StartupError(f"Nobody signed up with {phone_number}: an admin is a person, so sign up first.")
    return principal
