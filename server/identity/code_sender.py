"""How a one-time code reaches a person: one Protocol, and the sender for development."""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from server.startup import StartupError

_log = logging.getLogger(__name__)


class CodeSender(Protocol):
    """Sends codes. Whoever writes one: keep no code, and give up within the time of an HTTP request."""

    async def send(self, phone_number: str, code: str) -> None:
        """Send it; raises `CodeNotSentError` when it surely or probably did not go out."""
        ...


class CodeNotSentError(Exception):
    """The code could not be sent; trying again later may help."""


class LogCodeSender(CodeSender):
    """Writes codes to the server's log, so that a first conversation needs no operator of text messages."""

    def __init__(self, mode: Literal["development", "production"]) -> None:
        """Raises StartupError in production, where whoever reads the log could sign in as anybody."""
        if mode != "development":
            raise StartupError(
                'identity.code_sender = "log" shows every sign-in code to whoever reads the log and is refused in '
                "production: configure a sender."
            )

    async def send(self, phone_number: str, code: str) -> None:
        """See `CodeSender`."""
        _log.warning("sign-in code for %s: %s (shown because this is a development server)", phone_number, code)
