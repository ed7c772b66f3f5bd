"""The actions of the client core for its shell, the notifications for the app, and the errors.

ClientError
├── RefusedError            the server refused a numbered command for good, or a request
├── GivenUpError            the app gave a numbered command up
├── RequestLostError        the connection was lost before the answer to a request that is not repeated
├── TooManyRequestsError    too many requests await their answers
├── TokenUnavailableError   the token source has no access token now
└── StoppedError            the client stopped and does not reconnect
    ├── SignInRequiredError     only a new sign-in helps
    ├── ReplacedError           another connection of this device took over
    ├── ClientFaultError        client and server do not agree about the protocol
    └── StoreIsBehindError      the store is an older copy, and has commands that may have been sent
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocol.bodies import TimelineEvent
from protocol.close_codes import Advice
from protocol.command_rules import Command
from protocol.events import DialogState, MissedChanges, PresenceChanged, ReceiptChanged, TypingChanged
from protocol.replies import Acked, Failed, Reply
from tchat.encryption.notices import Notice


class ClientError(Exception):
    """The base of every error of the client."""


class RefusedError(ClientError):
    """The server refused a command; `failed` says why and what to do."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"{failed.code}: {failed.message}")
        self.failed = failed

    @property
    def temporary(self) -> bool:
        """Whether a retry may succeed. Only requests fail like that: the client repeats numbered commands itself."""
        return self.failed.temporary


class GivenUpError(ClientError):
    """The app gave a numbered command up before the server accepted it."""


class RequestLostError(ClientError):
    """The outcome is unknown, and the client does not repeat it."""


class TooManyRequestsError(ClientError):
    """Wait for answers before the next request."""


class TokenUnavailableError(ClientError):
    """Raised by a token source that has no access token now; the client asks again after a back-off."""


class StoppedError(ClientError):
    """The client stopped for good. `code` is the close code that caused it, if one did."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class SignInRequiredError(StoppedError):
    """The sign-in ended, or the server refused too many of its tokens in a row."""


class ReplacedError(StoppedError):
    """The same device connected elsewhere: the newest wins."""


class ClientFaultError(StoppedError):
    """A fault that a retry repeats."""


class StoreIsBehindError(StoppedError):
    """The store is an older copy of this device's.

    `retire(n_max, generation)` of the store begins new keys; show the person the commands that it returns. Then connect
    again, and confirm the device on another one.
    """

    def __init__(self, reason: str, n_max: int, generation: int) -> None:
        super().__init__(reason)
        self.n_max, self.generation = n_max, generation


STOPPED_BY: dict[Advice, type[StoppedError]] = {
    Advice.SIGN_IN: SignInRequiredError,
    Advice.STOP: ReplacedError,
    Advice.FIX: ClientFaultError,
}


class ConnectionState(enum.Enum):
    """The state of the connection, as a person should see it."""

    WAITING = "waiting to reconnect"
    CONNECTING = "connecting"
    CATCHING_UP = "catching up"
    LIVE = "live"
    STOPPED = "stopped"


# Actions for the shell.


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
    """Close the websocket, then call `disconnected`."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not connect again; raise this error in everything that waits."""

    error: StoppedError


# Notifications for the app.


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state of the connection changed."""

    state: ConnectionState


@dataclass(frozen=True, slots=True)
class IdentityKnown:
    """The server confirmed the principal and device of the access token."""

    principal: bytes
    device: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """The server cannot resume from the position: drop the state of all dialogs; a window of each follows."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A numbered command is durable."""

    n: int
    acked: Acked


@dataclass(frozen=True, slots=True)
class Refused:
    """A numbered command was refused for good and removed from the outbox."""

    n: int
    command: Command
    failed: Failed


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A command was refused with `number_passed`, so it is not stored; it continues under the new number `n`."""

    old: int
    n: int


@dataclass(frozen=True, slots=True)
class Withheld:
    """A command, and what comes after it in its dialog, is not sealed until a person does what `reason` says."""

    n: int
    reason: str


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
    | MissedChanges
    | StateChanged
    | IdentityKnown
    | Reset
    | Sent
    | Refused
    | Renumbered
    | Withheld
    | Answered
    | Notice
)


@dataclass(frozen=True, slots=True)
class Emit:
    """Pass a notification to the app."""

    event: Notification


Action = SendBytes | Connect | CloseConnection | Stop | Emit
