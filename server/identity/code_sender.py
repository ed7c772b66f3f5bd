"""How a one-time code reaches a person: the Protocol of senders, the sender for development, and loading another.

To use your own sender, set `identity.code_sender = "package.module:name"`: it names a callable without arguments that
returns a `CodeSender`. The sender reads its own configuration and secrets.
"""

from __future__ import annotations

import importlib
import logging
from typing import Protocol

from server.config.settings import Config
from server.startup_error import StartupError

_log = logging.getLogger(__name__)


class CodeSender(Protocol):
    """Sends codes. An implementation stores no code, and gives up within the time of an HTTP request."""

    async def send(self, phone_number: str, code: str) -> None:
        """Send it; raises `CodeNotSentError` when it was not sent, or probably not."""
        ...


class CodeNotSentError(Exception):
    """The code could not be sent; a later try may succeed."""


class LogCodeSender(CodeSender):
    """Writes codes to the server's log, so that a first conversation needs no SMS provider.

    For development only: loading the configuration refuses it in production.
    """

    async def send(self, phone_number: str, code: str) -> None:
        _log.warning("sign-in code for %s: %s (shown because this is a development server)", phone_number, code)


def make_sender(config: Config) -> CodeSender | None:
    """The configured sender; None where nobody signs in by phone number. Raises StartupError."""
    name = config.identity.code_sender
    if name == "none":
        return None
    if name == "log":
        return LogCodeSender()
    module, _, attribute = name.partition(":")
    try:
        sender: CodeSender = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise StartupError(
            f"identity.code_sender: {name!r} cannot be used as package.module:name ({error})."
        ) from error
    return sender
