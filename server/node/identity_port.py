"""What a node needs of identity."""

from __future__ import annotations

from typing import Protocol

from server.gateway.http_connection import ASGIApp
from server.identity.claims import Claims
from server.identity.tokens import Tokens
from server.payments.paying import Paying


class Identity(Protocol):
    """Who people are: what the node needs of it."""

    @property
    def tokens(self) -> Tokens:
        """Issues and verifies access tokens."""

    @property
    def paying(self) -> Paying:
        """Passes commands about payments on to commerce, with tokens signed by the same keys."""

    @property
    def app(self) -> ASGIApp:
        """The HTTP API."""

    async def sign_out(self, claims: Claims) -> None:
        """End the sign-in of these claims."""

    async def run(self) -> None:
        """Do the periodic work of every node, until cancelled."""

    def count_webhooks(self) -> dict[str, int]:
        """Requests to webhooks by what became of them, and how many were paused, since this node's start."""

    async def post_events(self) -> None:
        """Post the events of bots to their webhooks, until cancelled: one node does it."""

    async def purge(self) -> None:
        """Erase what has reached its age, until cancelled: one node does it."""
