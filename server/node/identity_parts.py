"""Puts identity and the HTTP API of a node together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from server.api.app import create_api
from server.api.edge import Edge
from server.api.parts import ApiParts
from server.clock import Clock
from server.config.settings import Config
from server.gateway.http_connection import ASGIApp
from server.identity.accounts import Accounts
from server.identity.claims import Claims
from server.identity.code_sender import CodeSender, make_sender
from server.identity.codes import OneTimeCodes
from server.identity.context import OWN_TENANT, IdentityContext
from server.identity.ended_access import EndedAccess
from server.identity.external_issuers import ExternalIssuers
from server.identity.jwks import DocumentFetcher
from server.identity.key_files import load_signing_keys, load_vault
from server.identity.ports import Appender, SessionsControl
from server.identity.profiles import Profiles
from server.identity.purge import Purge
from server.identity.self_dialogs import SelfDialogs
from server.identity.service_accounts import ServiceAccounts
from server.identity.sign_in import SignInFlow
from server.identity.signing_keys import SigningKeys
from server.identity.tokens import Tokens
from server.identity.vault import Vault
from server.payments.commerce_tokens import CommerceTokens, PersonTokens
from server.payments.paying import Paying
from server.webhooks.attempts import WebhookDelivery
from server.webhooks.endpoints import Webhooks
from server.webhooks.posting import Poster
from storage.identity_rows import WhoMayAdd
from storage.postgres.accounts import AccountStore
from storage.postgres.payment_calls import PaymentCalls
from storage.postgres.people import PeopleStore
from storage.postgres.pool import Pool
from storage.postgres.service_accounts import ServiceAccountStore
from storage.postgres.sign_ins import SignInStore
from storage.postgres.timelines import PostgresTimelines
from storage.postgres.webhooks import WebhookStore
from storage.rates import RateLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySecrets:
    """The keys, and the sender of one-time codes: None where nobody signs in by phone number."""

    signing_keys: SigningKeys
    vault: Vault
    sender: CodeSender | None

    @classmethod
    def load(cls, config: Config) -> IdentitySecrets:
        """Those of the configuration; raises StartupError when they are missing or cannot be used."""
        return cls(signing_keys=load_signing_keys(config), vault=load_vault(config), sender=make_sender(config))


class NodeIdentity:
    """Identity on this node: tokens for the sessions, the HTTP API, and periodic work."""

    def __init__(
        self,
        config: Config,
        secrets: IdentitySecrets,
        pool: Pool,
        clock: Clock,
        *,
        appender: Appender,
        sessions: SessionsControl,
        limiter: RateLimiter,
    ) -> None:
        settings, rates = config.identity, config.limits
        context = IdentityContext(
            clock=clock,
            settings=settings,
            rates=rates,
            limiter=limiter,
            vault=secrets.vault,
            sessions=sessions,
            self_dialogs=SelfDialogs(appender),
        )
        sign_ins = SignInStore(pool)
        self.people = PeopleStore(pool)
        self._tenants = sorted({OWN_TENANT, *(issuer.tenant for issuer in settings.issuers)})
        self._who_may_add = settings.who_may_add
        self._dialogs_per_person_max = rates.dialogs_per_person_max
        self._purge = Purge(self.people, clock, settings)
        self._ended_access = EndedAccess(sign_ins, sessions) if config.cluster.redis_urls else None
        self._fetch = DocumentFetcher()
        webhooks = WebhookStore(pool)
        self._poster = Poster(private=config.webhooks.private_addresses)
        self.webhooks = WebhookDelivery(webhooks, PostgresTimelines(pool), secrets.vault, self._poster, clock)
        self.tokens = Tokens(
            secrets.signing_keys,
            clock,
            issuer=settings.issuer,
            audience=settings.audience,
            ttl_s=settings.access_token_ttl_s,
            external_issuers=ExternalIssuers(sign_ins, self._fetch, context),
        )
        commerce_tokens, calls = CommerceTokens(secrets.signing_keys, clock), PaymentCalls(pool)
        self.paying = Paying(config, commerce_tokens, secrets.vault, calls, limiter=limiter, clock=clock)
        self.sign_in_flow = SignInFlow(sign_ins, self.tokens, OneTimeCodes(sign_ins, secrets.sender, context), context)
        self.profiles = Profiles(self.people, context)
        api = create_api(
            ApiParts(
                tokens=self.tokens,
                sign_in_flow=self.sign_in_flow,
                profiles=self.profiles,
                service_accounts=ServiceAccounts(
                    ServiceAccountStore(pool), clock, rates=rates, limiter=limiter, appender=appender
                ),
                accounts=Accounts(AccountStore(pool), self.tokens, context),
                webhooks=Webhooks(webhooks, secrets.vault, clock, private=config.webhooks.private_addresses),
                person_tokens=PersonTokens(config, commerce_tokens, calls, limiter),
                settings=settings,
            ),
            body_bytes_max=config.gateway.http_body_bytes_max,
        )
        self.app: ASGIApp = Edge(api, limiter, requests_per_address_per_s=rates.requests_per_address_per_s)

    async def start(self) -> None:
        """Write what the database needs before the first sign-in."""
        await self.people.add_tenants(self._tenants)
        await self.people.set_consent(WhoMayAdd[self._who_may_add.upper()], self._dialogs_per_person_max)
        if self._ended_access is not None:
            await self._ended_access.begin()

    async def sign_out(self, claims: Claims) -> None:
        """End the sign-in of these claims, and close its sessions."""
        await self.sign_in_flow.end(claims.principal, claims.sign_in)

    async def run(self) -> None:
        """Do the periodic work of every node, until cancelled."""
        try:
            if self._ended_access is None:
                await asyncio.Event().wait()
            else:
                await self._ended_access.run()
        finally:
            await self._fetch.aclose()
            await self._poster.aclose()
            await self.paying.aclose()

    async def purge(self) -> None:
        """Erase what has reached its age, until cancelled: one node does it."""
        await self._purge.run()

    def count_webhooks(self) -> dict[str, int]:
        """Requests to webhooks by what became of them, and how many were paused, since this node's start."""
        return {"sent": self.webhooks.sent, "failed": self.webhooks.failed, "paused": self.webhooks.paused}

    async def post_events(self) -> None:
        """Post the events of bots to their webhooks, until cancelled: one node does it."""
        await self.webhooks.run()


async def make_identity(
    config: Config,
    secrets: IdentitySecrets,
    pool: Pool,
    clock: Clock,
    *,
    appender: Appender,
    sessions: SessionsControl,
    limiter: RateLimiter,
) -> NodeIdentity:
    """A node's identity, ready for the first sign-in."""
    identity = NodeIdentity(config, secrets, pool, clock, appender=appender, sessions=sessions, limiter=limiter)
    await identity.start()
    return identity
