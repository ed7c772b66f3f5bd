"""The chat without a screen: the open dialog, the names of people, what a typed line does."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol
from uuid import UUID

from protocol.bodies import MemberRemoved, TimelineEvent
from protocol.commands import Accept, Create, History, Numbered, Send
from protocol.dialog_types import DIALOG_TYPES, DialogType
from protocol.events import DialogState, TypingChanged
from protocol.limits import HISTORY_EVENTS_MAX, PAYLOAD_BYTES_MAX, TYPING_SHOWN_S
from tchat.actions import ConnectionState, Notification, Refused, StateChanged, Withheld
from tchat.encryption.notices import (
    BackupRefused,
    BackupRestored,
    ChangeNotBelieved,
    DeviceRemoved,
    DevicesDoubted,
    IdentityStarted,
    KeysNotTaken,
    MessagesMissing,
    NotReadBy,
    NotRecovered,
    Unreadable,
    VerificationStep,
    VerifiedElsewhere,
    ViewsDiffer,
)
from tchat.fold.view import DialogView
from tchat.shell import Client
from tchat.terminal.account import ApiError, PersonAnswer
from tchat.terminal.lines import Viewer, about, clean_line, title
from tchat.terminal.pages import recovery_page, text_page
from tchat.terminal.safeguards import Safeguards, Said, SignIns
from tchat.terminal.slash import YES, Situation, SlashError, command_of, done_text, help_text, parse, text_header

_TYPING_EVERY_S = TYPING_SHOWN_S / 2
_NAMES_PER_LOOK_UP = 20
_TOLD = (
    DeviceRemoved,
    KeysNotTaken,
    MessagesMissing,
    ChangeNotBelieved,
    ViewsDiffer,
    NotReadBy,
    NotRecovered,
    BackupRestored,
    BackupRefused,
)


class Directory(SignIns, Protocol):
    """Finds people, and knows the sign-ins of this one."""

    async def find(self, phone_number: str) -> PersonAnswer:
        """The person with exactly this number; raises ApiError."""

    async def person(self, principal: bytes) -> PersonAnswer:
        """A person with whom the account shares a dialog; raises ApiError."""


class Talk:
    """The chat of one person."""

    def __init__(self, client: Client, people: Directory, own_name: str) -> None:
        self.client = client
        self.current: bytes | None = None
        self._people = people
        self._own_name = own_name
        self._names: dict[bytes, str] = {}
        self._nameless: set[bytes] = set()
        self._typing: dict[tuple[bytes, bytes], float] = {}
        self._typed_at = 0.0
        self._safeguards = Safeguards(client, people, self.name_of)

    # for the screen

    def make_viewer(self) -> Viewer:
        """Who looks at the screen, and when."""
        return Viewer(self.client.me, self.name_of, _now_ms())

    def list_dialogs(self) -> list[DialogView]:
        """All dialogs, those with something unread first, then by title."""
        viewer = self.make_viewer()
        mine = [each for each in self.client.view.dialogs.values() if each.member or each.dialog == self.current]
        return sorted(mine, key=lambda each: (each.unread == 0, title(each, viewer).casefold(), each.dialog))

    @property
    def open_dialog(self) -> DialogView | None:
        """The open dialog, if it is known yet."""
        return self.client.view.dialogs.get(self.current) if self.current else None

    def name_of(self, principal: bytes) -> str:
        """The name of a principal; an unknown one is looked up later."""
        if name := self._names.get(principal):
            return name
        for dialog in self.client.view.dialogs.values():
            if name := dialog.name_of(principal):
                self._names[principal] = clean_line(name)
                return self._names[principal]
        if principal == self.client.me:
            return self._own_name
        self._nameless.add(principal)
        return f"somebody {principal.hex()[-4:]}"

    def about(self, dialog: DialogView) -> str:
        """A dialog in a few words."""
        return about(dialog) + self._safeguards.about(dialog)

    def writers_in(self, dialog: bytes) -> list[str]:
        """The names of those who are writing there."""
        now = time.monotonic()
        return [self.name_of(who) for (where, who), until in self._typing.items() if where == dialog and until > now]

    def pending(self) -> list[Numbered]:
        """The commands that are not sent to the open dialog yet."""
        return [each for each in self.client.pending() if getattr(each, "dialog", None) == self.current]

    async def look_up_names(self) -> bool:
        """Request the names that `name_of` did not know; returns whether there are new ones."""
        wanted = [self._nameless.pop() for _ in range(min(_NAMES_PER_LOOK_UP, len(self._nameless)))]
        for principal in wanted:
            try:
                self._names[principal] = clean_line((await self._people.person(principal)).display_name)
            except ApiError:
                self._names[principal] = f"somebody {principal.hex()[-4:]}"
        return bool(wanted)

    # events of the client

    def take(self, event: Notification) -> Said:
        """Take an event of the client and send receipts for it; returns what the person should see beside."""
        match event:
            case TypingChanged(dialog=dialog, principal=who, active=active):
                self._typing.pop((dialog, who), None)
                if active:
                    self._typing[dialog, who] = time.monotonic() + TYPING_SHOWN_S
            case TimelineEvent(dialog=dialog, author=who) | Unreadable(event=TimelineEvent(dialog=dialog, author=who)):
                self._typing.pop((dialog, who), None)
                self._received(dialog)
            case DialogState(dialog=dialog):
                self._received(dialog)
                self._open_first()
            case StateChanged():
                self._open_first()
            case _:
                pass
        return self._said_of(event)

    def _said_of(self, event: Notification) -> Said:
        """What of an event the person should read, beside what the transcript shows."""
        match event:
            case IdentityStarted(recovery_key=key):
                return recovery_page(key)
            case VerificationStep():
                return self._safeguards.take(event)
            case _:
                said = self._sentence_of(event)
                return None if said is None else clean_line(said)

    def _sentence_of(self, event: Notification) -> str | None:
        match event:
            case Refused(failed=failed):
                return failed.message
            case Withheld(reason=reason):
                return reason
            case DevicesDoubted() | VerifiedElsewhere():
                about_others = isinstance(event, VerifiedElsewhere) or not event.own
                return f"{self.name_of(event.principal)}: {event.sentence}" if about_others else event.sentence
            case TimelineEvent(author=who, body=MemberRemoved(member=self.client.me)):
                dialog = self.client.view.dialogs.get(event.dialog)
                where = "a group" if dialog is None else title(dialog, self.make_viewer())
                return f"{self.name_of(who)} removed you from {where}."
            case _ if isinstance(event, _TOLD):
                return event.sentence
            case _:
                return None

    def confirm_read(self) -> None:
        """Send the receipt that all of the open dialog was read."""
        dialog = self.open_dialog
        if dialog is not None and dialog.member and dialog.receipts[self.client.me].read < dialog.seq:
            self.client.send_receipt(dialog.dialog, delivered=dialog.seq, read=dialog.seq)

    def report_typing(self) -> None:
        """Report that the person is typing."""
        dialog = self.open_dialog
        now = time.monotonic()
        if dialog is not None and DIALOG_TYPES[dialog.type].typing and now - self._typed_at >= _TYPING_EVERY_S:
            self._typed_at = now
            self.client.send_typing(dialog.dialog)

    async def load_older(self) -> None:
        """Load a page of older events; raises ClientError."""
        dialog = self.open_dialog
        if dialog is not None and not dialog.complete:
            history = History(0, dialog.dialog, to_seq=dialog.loaded_from - 1, limit=HISTORY_EVENTS_MAX)
            await self.client.request(history)

    # lines that the person types

    def say(self, text: str) -> None:
        """Send a message to the open dialog; raises SlashError if there is none or the message is too long."""
        self._safeguards.withdraw()
        dialog = self._situation([]).dialog
        payload = text.encode()
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise SlashError(f"a message has at most {PAYLOAD_BYTES_MAX} bytes; this has {len(payload)}")
        self._typed_at = 0.0
        self.client.submit(Send(0, dialog.dialog, 0, payload, text_header(dialog)))

    async def do(self, line: str) -> Said:
        """Carry out a command, and return a sentence or a page for the person, if there is one.

        Raises SlashError, ApiError, ClientError.
        """
        if line != YES:
            self._safeguards.withdraw()
        typed = parse(line)
        if typed.name == "help":
            return text_page("Help", help_text())
        if typed.name in self._safeguards.commands:
            return await self._safeguards.do(typed, self._situation([]))
        command = command_of(typed, self._situation(await self._find(typed.phones)))
        if command is not None:
            acked = await self.client.perform(command)
            if isinstance(command, Create | Accept):
                self.current = acked.dialog
        return done_text(typed)

    async def _find(self, phones: Iterable[str]) -> list[bytes]:
        found = []
        for phone in phones:
            if not phone.startswith("+"):  # a bot has no number
                found.append(UUID(phone).bytes)
                continue
            person = await self._people.find(phone)
            self._names[person.principal.bytes] = clean_line(person.display_name)
            found.append(person.principal.bytes)
        return found

    def _situation(self, people: list[bytes]) -> Situation:
        return Situation(self.open_dialog, people, _now_ms())

    def _open_first(self) -> None:
        """Open the first conversation once caught up, if no dialog is open."""
        if self.current is None and self.client.state is ConnectionState.LIVE:
            others = [each.dialog for each in self.list_dialogs() if each.type is not DialogType.SELF]
            self.current = next(iter(others), None)

    def _received(self, dialog: bytes) -> None:
        known = self.client.view.dialogs.get(dialog)
        if known is not None and known.member and DIALOG_TYPES[known.type].receipts:
            self.client.send_receipt(dialog, delivered=known.seq)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
