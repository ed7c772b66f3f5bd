"""Puts identity together: `make_identity(config)` gives the node's factory of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from server.api.app import create_api
from server.api.parts import ApiParts
from server.clock import Clock
from server.config.settings import Config
from server.gateway.http_connection import ASGIApp
from server.identity.code_sender import CodeSender, make_sender
from server.identity.external_issuers import IssuerTokens
from server.identity.jwks import DocumentFetcher
from server.identity.key_files import load_signing_keys, load_vault
from server.identity.limits import MemoryLimits
from server.identity.ports import Appender, SessionsControl
from server.identity.profiles import Profiles
from server.identity.purge import Purge
from server.identity.self_dialogs import SelfDialogs
from server.identity.service_accounts import ServiceAccounts
from server.identity.sign_in import OWN_TENANT, SignInFlow
from server.identity.signing_keys import SigningKeys
from server.identity.tokens import Claims, Tokens
from server.identity.vault import Vault
from storage.identity import IdentityStore
from storage.postgres.identity import PostgresIdentity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    IdentityFactory = Callable[["asyncpg.Pool[Any]", Clock, Appender, SessionsControl], Awaitable["Identity"]]


class Identity:
    """Who people are, on this node: tokens for the gateway, the HTTP app, and the work done by the clock."""

    def __init__(
        self,
        config: Config,
        store: IdentityStore,
        clock: Clock,
        *,
        appender: Appender,
        sessions: SessionsControl,
        sender: CodeSender | None,
        signing_keys: SigningKeys,
        vault: Vault,
    ) -> None:
        """Raises StartupError when the configuration cannot be used."""
        settings, rates = config.identity, config.limits
        self._fetch = DocumentFetcher()
        self._store = store
        self._tenants = sorted({OWN_TENANT, *(issuer.tenant for issuer in settings.issuers)})
        self._purge = Purge(store, clock, settings)
        limits = MemoryLimits(clock)
        self_dialogs = SelfDialogs(appender)
        self.tokens = Tokens(
            signing_keys,
            clock,
            issuer=settings.issuer,
            audience=settings.audience,
            ttl_s=settings.access_token_ttl_s,
            foreign=IssuerTokens(
                store,
                clock,
                settings=settings,
                rates=rates,
                limits=limits,
                fetch=self._fetch,
                sessions=sessions,
                self_dialogs=self_dialogs,
            ),
        )
        self.desk = SignInFlow(
            store,
            clock,
            settings=settings,
            rates=rates,
            limits=limits,
            vault=vault,
            tokens=self.tokens,
            sender=sender,
            sessions=sessions,
            self_dialogs=self_dialogs,
        )
        self.profiles = Profiles(
            store,
            clock,
            settings=settings,
            rates=rates,
            limits=limits,
            vault=vault,
            sessions=sessions,
            self_dialogs=self_dialogs,
        )
        self.services = ServiceAccounts(store, clock, rates=rates, limits=limits, appender=appender)
        self.app: ASGIApp = create_api(
            ApiParts(
                store=store,
                clock=clock,
                tokens=self.tokens,
                desk=self.desk,
                profiles=self.profiles,
                services=self.services,
                limits=limits,
                settings=settings,
                rates=rates,
            ),
            body_bytes_max=config.gateway.http_body_bytes_max,
        )

    async def start(self) -> None:
        """What must be in the database before anybody signs in."""
        await self._store.add_tenants(self._tenants)

    async def sign_out(self, claims: Claims) -> None:
        """End the sign-in of these claims, and close its sockets."""
        await self.desk.end(claims.principal, claims.sign_in)

    async def run(self) -> None:
        """Whatever is done by the clock, for ever."""
        try:
            await self._purge.run()
        finally:
            await self._fetch.aclose()


def make_identity(config: Config) -> IdentityFactory:
    """How a node gets its identity. Raises StartupError at once when keys are missing or cannot be used."""
    signing_keys, vault = load_signing_keys(config), load_vault(config)
    sender = make_sender(config)

    async def make(pool: asyncpg.Pool[Any], clock: Clock, appender: Appender, sessions: SessionsControl) -> Identity:
        identity = Identity(
            config,
            PostgresIdentity(pool),
            clock,
            appender=appender,
            sessions=sessions,
            sender=sender,
            signing_keys=signing_keys,
            vault=vault,
        )
        await identity.start()
        return identity

    return make
