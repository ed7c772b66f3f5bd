"""What people do: one talker per device, choosing by its own dice among everything that the protocol offers."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from protocol.bodies import Settings, TimelineEvent
from protocol.commands import (
    Add,
    Block,
    ChangeSettings,
    Create,
    Delete,
    Demote,
    Edit,
    History,
    Leave,
    Mute,
    Numbered,
    Promote,
    React,
    Remove,
    Roster,
    Send,
    Unblock,
)
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.kinds import Kind
from tchat.actions import ClientError, StoppedError
from tchat.fold.view import DialogView
from tchat.shell import Client
from tests.adversity.restart_devices import Device

UNSETTLED_MAX = 15
"""Commands that a device has under way before it waits."""
_WEIGHTS = {
    "send": 620,
    "edit": 60,
    "react": 100,
    "delete": 25,
    "receipt": 60,
    "typing": 30,
    "page": 20,
    "roster": 10,
    "add": 25,
    "remove": 12,
    "promote": 8,
    "demote": 8,
    "settings": 8,
    "leave": 4,
    "mute": 6,
    "block": 6,
    "create": 2,
}
_REACTIONS = (b"+1", b"heart", b"")


@dataclass
class Quota:
    """Messages that are still to be sent, by whomever."""

    left: int = 0

    def take(self) -> None:
        self.left -= 1

    def give_back(self) -> None:
        """One of them came to nothing."""
        self.left += 1


@dataclass
class Cast:
    """Everybody there is, and what they may talk about."""

    people: list[bytes] = field(default_factory=list)
    public: list[bytes] = field(default_factory=list)


class Talker:
    """The person behind one device."""

    def __init__(self, device: Device, cast: Cast, quota: Quota, rng: random.Random) -> None:
        self.device = device
        self.done: Counter[str] = Counter()
        self._cast = cast
        self._quota = quota
        self._rng = rng
        self._numbers = itertools.count(1)
        self._choices: dict[str, Callable[[], Numbered | None]] = {
            "send": self._send,
            "edit": self._edit,
            "react": self._react,
            "delete": self._delete,
            "receipt": self._receipt,
            "typing": self._typing,
            "add": self._add,
            "remove": self._remove,
            "promote": self._promote,
            "demote": self._demote,
            "settings": self._settings,
            "leave": self._leave,
            "mute": self._mute,
            "block": self._block,
            "create": self._create,
        }

    async def talk(self) -> None:
        """Until the quota is used up, through every life of the device; a device that signed out stops."""
        while self._quota.left > 0:
            client = await self.device.alive()
            try:
                await client.wait_until(self._may_go_on)
                await self._do_something(client)
            except StoppedError:
                if client is self.device.client and not self.device.between_lives:
                    return
            # Everybody gets a turn, and the loop its own.
            await asyncio.sleep(0)

    def _may_go_on(self) -> bool:
        known = any(dialog.member for dialog in self.device.client.view.dialogs.values())
        return self._quota.left <= 0 or (known and self.device.ledger.unsettled < UNSETTLED_MAX)

    async def _do_something(self, client: Client) -> None:
        if self._quota.left <= 0:
            return
        (choice,) = self._rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        if choice in ("page", "roster"):
            await self._read(client, choice)
            return
        command = self._choices[choice]()
        if command is not None:
            self.done[choice] += 1
            self.device.submit(command)
            if isinstance(command, Send):
                self._quota.take()

    async def _read(self, client: Client, choice: str) -> None:
        dialog = self._dialog()
        if dialog is None:
            return
        first = self._rng.randint(1, max(1, dialog.seq))
        ask = History(0, dialog.dialog, first) if choice == "page" else Roster(0, dialog.dialog)
        try:
            await client.request(ask)
        except StoppedError:
            raise
        except ClientError:
            self.done["read refused"] += 1

    # where and about what

    @property
    def _me(self) -> bytes:
        return self.device.principal

    def _dialogs(self, *types: DialogType) -> list[DialogView]:
        dialogs = self.device.client.view.dialogs.values()
        return [one for one in dialogs if one.member and (not types or one.type in types)]

    def _dialog(self) -> DialogView | None:
        dialogs = [one for one in self._dialogs() if one.type is not DialogType.SELF]
        return self._rng.choice(dialogs) if dialogs else None

    def _writable(self) -> DialogView | None:
        dialogs = [
            one for one in self._dialogs() if not DIALOG_TYPES[one.type].admins_only_write or one.role is Role.ADMIN
        ]
        return self._rng.choice(dialogs) if dialogs else None

    def _ruled(self) -> DialogView | None:
        """A dialog whose roster may change; mostly one where this person is an admin."""
        dialogs = self._dialogs(DialogType.GROUP, DialogType.CHANNEL)
        if self._rng.random() < 0.9:
            dialogs = [one for one in dialogs if one.role is Role.ADMIN]
        return self._rng.choice(dialogs) if dialogs else None

    def _message(self, dialog: DialogView | None, *, own: bool) -> TimelineEvent | None:
        if dialog is None:
            return None
        recent = self.device.witness.recent.get(dialog.dialog, ())
        of_interest = [event for event in recent if not own or event.author == self._me]
        return self._rng.choice(of_interest) if of_interest else None

    def _text(self) -> bytes:
        """Never said before."""
        filler = self._rng.choice((0, 0, 40, 300, 300, 5000))
        return f"{self.device.name} {next(self._numbers)} ".encode().ljust(filler, b".")

    # what

    def _send(self) -> Numbered | None:
        dialog = self._writable()
        if dialog is None:
            return None
        header = self.device.client.make_header(dialog.dialog)
        if self._rng.random() < 0.1 and (target := self._message(dialog, own=False)) is not None:
            header = msgspec.structs.replace(header, reply_to=target.seq)
        kind = Kind.SIGNAL if self._rng.random() < 0.1 else Kind.MESSAGE
        return Send(0, dialog.dialog, 0, self._text(), header, kind)

    def _edit(self) -> Numbered | None:
        dialog = self._writable()
        target = self._message(dialog, own=self._rng.random() < 0.95)
        if dialog is None or target is None:
            return None
        return Edit(0, dialog.dialog, 0, target.seq, self._text(), self.device.client.make_header(dialog.dialog))

    def _react(self) -> Numbered | None:
        dialog = self._writable()
        target = self._message(dialog, own=False)
        if dialog is None or target is None:
            return None
        return React(0, dialog.dialog, 0, target.seq, self._rng.choice(_REACTIONS))

    def _delete(self) -> Numbered | None:
        dialog = self._dialog()
        target = self._message(dialog, own=self._rng.random() < 0.8)
        return None if dialog is None or target is None else Delete(0, dialog.dialog, 0, target.seq)

    def _receipt(self) -> None:
        dialog = self._dialog()
        if dialog is not None:
            read = self._rng.randint(0, dialog.seq)
            self.device.client.send_receipt(dialog.dialog, delivered=dialog.seq, read=read)

    def _typing(self) -> None:
        dialog = self._dialog()
        if dialog is not None:
            self.device.client.send_typing(dialog.dialog, active=self._rng.random() < 0.5)

    def _add(self) -> Numbered | None:
        """Bring somebody in; or oneself, where that is allowed."""
        if self._rng.random() < 0.3:
            outside = [one for one in self._cast.public if one not in {held.dialog for held in self._dialogs()}]
            return Add(0, self._rng.choice(outside), 0, [self._me]) if outside else None
        dialog = self._ruled()
        if dialog is None:
            return None
        absent = [who for who in self._cast.people if who not in (dialog.members or {})]
        return Add(0, dialog.dialog, 0, [self._rng.choice(absent)]) if absent else None

    def _other_member(self, dialog: DialogView | None) -> bytes | None:
        if dialog is None:
            return None
        others = [who for who in (dialog.members or {}) if who != self._me]
        return self._rng.choice(others) if others else None

    def _remove(self) -> Numbered | None:
        dialog = self._ruled()
        other = self._other_member(dialog)
        return None if dialog is None or other is None else Remove(0, dialog.dialog, 0, other)

    def _promote(self) -> Numbered | None:
        dialog = self._ruled()
        other = self._other_member(dialog)
        return None if dialog is None or other is None else Promote(0, dialog.dialog, 0, other)

    def _demote(self) -> Numbered | None:
        dialog = self._ruled()
        other = self._other_member(dialog)
        return None if dialog is None or other is None else Demote(0, dialog.dialog, 0, other)

    def _settings(self) -> Numbered | None:
        dialog = self._ruled()
        if dialog is None:
            return None
        settings = msgspec.structs.replace(dialog.settings, allow_media=self._rng.random() < 0.5)
        return ChangeSettings(0, dialog.dialog, 0, self._text().decode()[:40], "about", "", settings)

    def _leave(self) -> Numbered | None:
        dialogs = [one for one in self._dialogs(DialogType.GROUP, DialogType.CHANNEL) if one.member_count > 2]
        return Leave(0, self._rng.choice(dialogs).dialog, 0) if dialogs else None

    def _mute(self) -> Numbered | None:
        dialog = self._dialog()
        return None if dialog is None else Mute(0, dialog.dialog, 0, self._rng.choice((0, 10**13)))

    def _block(self) -> Numbered | None:
        """Block somebody; but first let those in again who are blocked."""
        blocked = sorted(self.device.client.view.blocked)
        if blocked:
            return Unblock(0, self._rng.choice(blocked), 0)
        return Block(0, self._rng.choice([who for who in self._cast.people if who != self._me]), 0)

    def _create(self) -> Numbered | None:
        others = [who for who in self._cast.people if who != self._me]
        kind = self._rng.choice((DialogType.GROUP, DialogType.GROUP, DialogType.CHANNEL, DialogType.DIRECT))
        members = self._rng.sample(others, 1 if kind is DialogType.DIRECT else 3)
        name = "" if kind is DialogType.DIRECT else "made on the way"
        mode = Mode.OPEN if kind is DialogType.CHANNEL else self._rng.choice((Mode.OPEN, Mode.SEALED))
        return Create(0, 0, kind, members, name, mode, settings=Settings())
