"""The handlers of a bot, what they are given, and which one an event is for."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from protocol.bodies import Body, Posted, TimelineEvent
from protocol.commands import Edit, Numbered, React, Send
from protocol.kinds import Kind
from tchat.once import event_key
from tchat.shell import Client

B = TypeVar("B", bound=Body)


class Context(Generic[B]):
    """One event that a handler handles, and what the handler does about it.

    A handler runs at least once for each event: again when it failed, or when the bot crashed meanwhile. What it does
    through its context happens once nevertheless: in a later run the first call is the first call of the run before,
    and so on, and what was made by then stays as it was. So a handler makes its calls in the same order each time.
    """

    def __init__(self, client: Client, event: TimelineEvent, body: B) -> None:
        self.client = client
        self.event = event
        self.body = body
        self._calls = 0

    @property
    def dialog(self) -> bytes:
        """The dialog of the event."""
        return self.event.dialog

    @property
    def author(self) -> bytes:
        """The principal whose event it is."""
        return self.event.author

    async def perform(self, command: Numbered) -> int:
        """Perform a command once; returns the number of its event when it is durable. `RefusedError` if refused."""
        key = event_key(self.event.dialog, self.event.seq, self._calls)
        self._calls += 1
        return await self.client.perform_once(key, command)

    async def send(self, text: str | bytes, dialog: bytes | None = None) -> int:
        """Send a message to the dialog of the event, or to another one; returns its number there."""
        to = dialog or self.dialog
        return await self.perform(Send(0, to, 0, as_payload(text), self.client.make_header(to)))

    async def edit(self, seq: int, text: str | bytes) -> int:
        """Replace a message that the bot has sent to this dialog."""
        header = self.client.make_header(self.dialog)
        return await self.perform(Edit(0, self.dialog, 0, seq, as_payload(text), header))


class MessageContext(Context[Posted]):
    """A message of somebody else. `arguments` is what follows the name of a command."""

    arguments = ""

    @property
    def text(self) -> str:
        """The message as text."""
        return self.body.payload.decode(errors="replace")

    async def reply(self, text: str | bytes) -> int:
        """Answer the message in its dialog; returns the number of the answer."""
        header = self.client.make_header(self.dialog, reply_to=self.event.seq)
        return await self.perform(Send(0, self.dialog, 0, as_payload(text), header))

    async def react(self, reaction: str) -> int:
        """React to the message, in place of an earlier reaction; an empty one withdraws it."""
        header = self.client.make_header(self.dialog)
        return await self.perform(React(0, self.dialog, 0, self.event.seq, reaction.encode(), header))


MessageHandler = Callable[[MessageContext], Awaitable[None]]
Handler = Callable[[Context[B]], Awaitable[None]]


class Handlers:
    """At most one handler takes an event: that of its command, else that of messages, else that of its body."""

    def __init__(self) -> None:
        self.commands: dict[str, MessageHandler] = {}
        self.message: MessageHandler | None = None
        self.bodies: dict[type[Body], Handler[Any]] = {}

    def find(self, client: Client, event: TimelineEvent) -> Callable[[], Awaitable[None]] | None:
        """What handles an event, each call from its beginning; None if nothing does. Own events are not handled."""
        if event.author == client.me:
            return None
        if isinstance(event.body, Posted) and event.body.kind is Kind.MESSAGE:
            text = event.body.payload.decode(errors="replace")
            name, _, arguments = text.removeprefix("/").partition(" ")
            on_command = self.commands.get(name.casefold()) if text.startswith("/") else None
            if (on_message := on_command or self.message) is not None:
                return lambda: on_message(_message(client, event, arguments.strip() if on_command else ""))
        if (on_body := self.bodies.get(type(event.body))) is not None:
            return lambda: on_body(Context(client, event, event.body))
        return None


def named_key(name: str) -> bytes:
    """The key of a command that is not about an event, by a name of the app."""
    return hashlib.sha256(name.encode()).digest()[:16]


def as_payload(text: str | bytes) -> bytes:
    """A text as a message carries it."""
    return text.encode() if isinstance(text, str) else text


def _message(client: Client, event: TimelineEvent, arguments: str) -> MessageContext:
    assert isinstance(event.body, Posted)
    message = MessageContext(client, event, event.body)
    message.arguments = arguments
    return message
