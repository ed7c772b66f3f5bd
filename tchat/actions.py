"""What the client core asks of its shell, what it tells the app, and how it fails.

ClientError
├── RefusedError            the server refused a command for good, or a request
├── RequestLostError        the connection went before a request that cannot be repeated was answered
├── TooManyRequestsError    too many requests await their answer
└── StoppedError            the client stopped, and will not reconnect
    ├── SignInRequiredError     only a new sign-in helps
    ├── ReplacedError           another connection of this device took over
    └── ClientFaultError        client and server do not understand each other
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocol.bodies import TimelineEvent
from protocol.close_codes import Advice
from protocol.commands import Command
from protocol.errors import ErrorCode
from protocol.events import DialogState, PresenceChanged, ReceiptChanged, TypingChanged
from protocol.replies import Acked, Failed, Reply


class ClientError(Exception):
    """What every failure of the client starts with."""


class RefusedError(ClientError):
    """The server refused a command; `failed` says why and what to do."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"{failed.code}: {failed.message}")
        self.failed = failed

    @property
    def temporary(self) -> bool:
        """Whether the same may succeed later; only requests are given up for that, sends are repeated."""
        return is_temporary(self.failed)


class RequestLostError(ClientError):
    """Nobody knows whether it was done; it is not repeated by itself."""


class TooManyRequestsError(ClientError):
    """Wait for answers before asking more."""


class StoppedError(ClientError):
    """The client stopped for good. `code` is the close code that said so, where one did."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class SignInRequiredError(StoppedError):
    """The sign-in ended or its token is refused again and again."""


class ReplacedError(StoppedError):
    """The same device connected elsewhere: the newest wins."""


class ClientFaultError(StoppedError):
    """A fault that a retry does not cure."""


STOPPED_BY: dict[Advice, type[StoppedError]] = {
    Advice.SIGN_IN: SignInRequiredError,
    Advice.STOP: ReplacedError,
    Advice.FIX: ClientFaultError,
}


class ConnectionState(enum.Enum):
    """What a person should know about the connection."""

    WAITING = "waiting to reconnect"
    CONNECTING = "connecting"
    CATCHING_UP = "catching up"
    LIVE = "live"
    STOPPED = "stopped"


# What the shell is to do.


@dataclass(frozen=True, slots=True)
class SendBytes:
    """Write one websocket message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect after `delay_s`, with an access token that is new if `fresh_token`; then call `connected`."""

    delay_s: float
    fresh_token: bool


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close the websocket, and call `disconnected` when it is."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not connect again: raise this to whoever waits for anything."""

    error: StoppedError


# What the app learns.


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The connection is something else now."""

    state: ConnectionState


@dataclass(frozen=True, slots=True)
class IdentityKnown:
    """The server said who one is."""

    principal: bytes
    device: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """The server could not continue from what is held: forget all dialogs; a window of each follows."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A numbered command is durable."""

    n: int
    acked: Acked


@dataclass(frozen=True, slots=True)
class Refused:
    """A numbered command was refused for good; it is not in the outbox any more."""

    n: int
    command: Command
    failed: Failed


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A command whose number was passed over goes on under a new one."""

    old: int
    n: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The reply to a request; None when it was lost with the connection."""

    request: int
    reply: Reply | None


Notification = (
    TimelineEvent
    | DialogState
    | ReceiptChanged
    | TypingChanged
    | PresenceChanged
    | StateChanged
    | IdentityKnown
    | Reset
    | Sent
    | Refused
    | Renumbered
    | Answered
)


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the app."""

    event: Notification


Action = SendBytes | Connect | CloseConnection | Stop | Emit


def is_temporary(failed: Failed) -> bool:
    """Whether the same command, sent again, may succeed. Codes of a newer server count as definite."""
    try:
        return ErrorCode(failed.code).temporary
    except ValueError:
        return False
