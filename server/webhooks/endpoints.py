"""The webhooks of bots, as their owners set and see them."""

from __future__ import annotations

import base64

from protocol.errors import ErrorCode
from server.clock import Clock
from server.identity.vault import Vault
from server.refusals import RequestRefusedError
from server.webhooks.posting import SECRET_PREFIX, check_url
from storage.postgres.webhooks import WebhookState, WebhookStore


class Webhooks:
    """Sets, shows and ends webhooks. `private`: they may go to any address, also without TLS."""

    def __init__(self, store: WebhookStore, vault: Vault, clock: Clock, *, private: bool) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._private = private

    async def set(self, principal: bytes, url: str) -> str:
        """Post the events of a bot here from now on; returns the secret that signs. Raises RequestRefusedError."""
        if wrong := check_url(url, private=self._private):
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"url: {wrong}")
        return secret_of(self._vault, principal, await self._store.set(self._clock.wall_ms(), principal, url))

    async def read(self, principal: bytes) -> WebhookState:
        """What became of it; raises RequestRefusedError."""
        state = await self._store.read(principal)
        if state is None:
            raise _none()
        return state

    async def resume(self, principal: bytes) -> None:
        """Go on after a pause, with what came meanwhile; raises RequestRefusedError."""
        if not await self._store.resume(principal):
            raise _none()

    async def remove(self, principal: bytes) -> None:
        """Post nothing more."""
        await self._store.remove(principal)


def secret_of(vault: Vault, principal: bytes, secret_no: int) -> str:
    """The secret of a webhook, as its owner gets it."""
    return SECRET_PREFIX + base64.b64encode(vault.derive_webhook_secret(principal, secret_no)).decode("ascii")


def _none() -> RequestRefusedError:
    return RequestRefusedError(ErrorCode.PRINCIPAL_NOT_FOUND, "this bot has no webhook")
