"""How a one-time code reaches a person: one Protocol, the sender for development, and how to plug in another.

A sender of one's own is whatever `identity.code_sender = "package.module:name"` names: a callable without arguments
that returns a `CodeSender`. It takes its own configuration and secrets from where it likes.
"""

from __future__ import annotations

import importlib
import logging
from typing import Literal, Protocol

from server.config.settings import Config
from server.node.startup import StartupError

_log = logging.getLogger(__name__)


class CodeSender(Protocol):
    """Sends codes. Whoever writes one: keep no code, and give up within the time of an HTTP request."""

    async def send(self, phone_number: str, code: str) -> None:
        """Send it; raises `CodeNotSentError` when it surely or probably did not go out."""
        ...


class CodeNotSentError(Exception):
    """The code could not be sent; trying again later may help."""


class LogCodeSender(CodeSender):
    """FlushTurn codes to the server's log, so that a first conversation needs no operator of text messages."""

    def __init__(self, mode: Literal["development", "production"]) -> None:
        """Raises StartupError in production, where whoever reads the log could sign in as anybody."""
        if mode != "development":
            raise StartupError(
                'identity.code_sender = "log" shows every sign-in code to whoever reads the log and is refused in '
                'production: name a sender of yours, or "none" where other issuers sign people in.'
            )

    async def send(self, phone_number: str, code: str) -> None:
        """See `CodeSender`."""
        _log.warning("sign-in code for %s: %s (shown because this is a development server)", phone_number, code)


def make_sender(config: Config) -> CodeSender | None:
    """The sender that is configured, None where nobody signs in by phone number; raises StartupError."""
    name = config.identity.code_sender
    if name == "none":
        return None
    if name == "log":
        return LogCodeSender(config.server.mode)
    module, _, attribute = name.partition(":")
    try:
        sender: CodeSender = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise StartupError(
            f"identity.code_sender: {name!r} cannot be used as package.module:name ({error})."
        ) from error
    return sender
