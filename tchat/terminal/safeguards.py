"""What a person does about keys, devices and reports.

Invariant: what cannot be undone is done by /yes alone, typed right after the question, and once.
"""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from protocol.dialog_types import DialogType, Mode
from protocol.limits import REPORT_REASON_CHARS_MAX
from tchat.actions import RefusedError
from tchat.crypto.recovery import RecoveryError
from tchat.encryption.encrypting import Encryption
from tchat.encryption.notices import Standing, VerificationStep
from tchat.fold.view import DialogView
from tchat.shell import Client
from tchat.terminal.account import SignInAnswer
from tchat.terminal.comparing import Comparing
from tchat.terminal.lines import text_of
from tchat.terminal.pages import OwnDevice, Page, devices_page, list_own_devices, question_page, recovery_page
from tchat.terminal.slash import Situation, Slash, SlashError

_QUOTED_CHARS_MAX = 60
_LISTED_PEOPLE_MAX = 50

Said = str | Page | None
"""What a person reads once a command is done."""


class SignIns(Protocol):
    """The sign-ins of this person at the server."""

    async def sign_ins(self) -> list[SignInAnswer]:
        """Those that are live; raises ApiError."""

    async def end_sign_in(self, sign_in: UUID) -> None:
        """Sign a device out; raises ApiError."""


class Safeguards:
    """The part of the chat that is about keys; `name_of` names people."""

    def __init__(self, client: Client, sign_ins: SignIns, name_of: Callable[[bytes], str]) -> None:
        self._client = client
        self._sign_ins = sign_ins
        self._name_of = name_of
        self._comparing = Comparing()
        self._question: Callable[[], Awaitable[str]] | None = None
        self._done_by: dict[str, Callable[[Slash, Situation], Awaitable[Said]]] = {
            "verify": self._verify,
            "qr": self._verify,
            "scan": self._scan,
            "safety": self._safety,
            "same": self._answer,
            "differ": self._answer,
            "agree": self._agree,
            "recover": self._recover,
            "recovery-key": self._recovery_key,
            "new-identity": self._new_identity,
            "devices": self._devices,
            "remove-device": self._remove_device,
            "report": self._report,
            "yes": self._yes,
        }

    @property
    def commands(self) -> frozenset[str]:
        """The names of the commands that are carried out here."""
        return frozenset(self._done_by)

    @property
    def _encryption(self) -> Encryption:
        return self._client.encryption

    def take(self, step: VerificationStep) -> Said:
        """A step of a verification; what the person reads."""
        own = step.principal == self._client.me
        name = "Another device of yours" if own else self._name_of(step.principal)
        return self._comparing.take(step, name, self._encryption.verifying, own=own)

    def withdraw(self) -> None:
        """The person types another line than /yes."""
        self._question = None

    async def do(self, typed: Slash, at: Situation) -> Said:
        """Carry out a command; raises SlashError, ApiError, ClientError."""
        if self._encryption.standing is Standing.UNKNOWN:
            raise SlashError("the server has not said yet which devices you have: try again when this is live")
        return await self._done_by[typed.name](typed, at)

    async def _yes(self, _typed: Slash, _at: Situation) -> Said:
        question, self._question = self._question, None
        if question is None:
            raise SlashError("nothing waits for a yes")
        return await question()

    def _ask(self, question: str, then: Callable[[], Awaitable[str]]) -> Page:
        self._question = then
        return question_page(question)

    def about(self, dialog: DialogView) -> str:
        """What is said of a dialog beside its members: whether its other person is verified."""
        if dialog.type is not DialogType.DIRECT or self._encryption.standing is Standing.UNKNOWN:
            return ""
        people = self._encryption.people
        for each in dialog.members or ():
            pin = people.pin_of(each)
            if each != dialog.me and pin is not None:
                return ", another identity" if people.is_held(each) else ", verified" if pin.verified else ""
        return ""

    # comparing

    async def _verify(self, typed: Slash, at: Situation) -> Said:
        who, dialog = (self._client.me, None) if self._is_about_own_devices(at) else (at.other, at.key)
        return self._comparing.verify(who, dialog, self._encryption.verifying, code=typed.name == "qr")

    def _is_about_own_devices(self, at: Situation) -> bool:
        """Whether keys are compared with an own device: a new device has nobody else, and a request of one waits."""
        here = at.open_dialog
        if self._encryption.standing is Standing.UNVERIFIED or here is None or here.type is DialogType.SELF:
            return True
        if here.type is DialogType.DIRECT and self._comparing.has_asked(at.other):
            return False
        return self._comparing.has_asked(self._client.me)

    async def _scan(self, typed: Slash, _at: Situation) -> Said:
        self._comparing.scan(typed.text, self._encryption.verifying)
        return None

    async def _safety(self, _typed: Slash, at: Situation) -> Said:
        pin = self._encryption.people.pin_of(at.other)
        verified = pin is not None and pin.verified and not self._encryption.people.is_held(at.other)
        name = self._name_of(at.other)
        return self._comparing.number(at.other, name, self._encryption.verifying, verified=verified)

    async def _answer(self, typed: Slash, _at: Situation) -> Said:
        return self._comparing.answer(self._encryption.verifying, same=typed.name == "same")

    async def _agree(self, _typed: Slash, at: Situation) -> Said:
        self._encryption.agree_to_members(at.key)
        for each in at.dialog.members or ():
            self._encryption.agree_to_identity(each)
        return "You agree to who is here now: what waited is sent, if nothing else is wrong."

    # the identity

    async def _recover(self, typed: Slash, _at: Situation) -> Said:
        try:
            self._encryption.recover(typed.text)
        except RecoveryError as error:
            raise SlashError(str(error)) from error
        return None

    async def _recovery_key(self, _typed: Slash, _at: Situation) -> Said:
        if (key := self._encryption.recovery_key) is None:
            raise SlashError("this device does not have it yet: confirm it on another device of yours (/verify)")
        return recovery_page(key)

    async def _new_identity(self, _typed: Slash, _at: Situation) -> Said:
        async def begin() -> str:
            self._encryption.start_new_identity()
            return "You begin anew: your other devices have to be confirmed again (/verify)."

        if self._encryption.standing is not Standing.LISTED:
            await begin()
            return None
        return self._ask(
            "This device is one of yours and needs no new identity. With one, your other devices are yours no more,"
            " and others see it.",
            begin,
        )

    # devices

    async def _devices(self, _typed: Slash, at: Situation) -> Said:
        people, members = self._encryption.people, at.open_dialog.members if at.open_dialog is not None else ()
        others = [each for each in members or () if each != self._client.me][:_LISTED_PEOPLE_MAX]
        named = [(self._name_of(each), people.pin_of(each)) for each in others]
        return devices_page(self._encryption.device, await self._own_devices(), named)

    async def _own_devices(self) -> list[OwnDevice]:
        pin = self._encryption.people.pin_of(self._client.me)
        return list_own_devices(pin, await self._sign_ins.sign_ins())

    async def _remove_device(self, typed: Slash, _at: Situation) -> Said:
        found = next((one for one in await self._own_devices() if one.name == typed.text), None)
        if found is None:
            raise SlashError(f"no device of yours is called {typed.text}: /devices lists them")
        if found.device == self._encryption.device:
            raise SlashError("that is this device: remove it on another one of yours")
        if found.at_ms is not None and self._encryption.people.identity is None:
            raise SlashError("this device does not have the keys of your identity: confirm it first (/verify)")
        return self._ask(
            f"This signs {found.name} out, and gives it no keys of what is written from then on. What it has read, it"
            " keeps.",
            lambda: self._remove(found),
        )

    async def _remove(self, gone: OwnDevice) -> str:
        """Take it out of the log, which signs it out; one that is in no log is signed out."""
        if gone.at_ms is not None:
            self._encryption.remove_device(gone.device)
            return f"{gone.name} is being removed."
        assert gone.sign_in is not None, "what is in no log is listed because it is signed in"
        await self._sign_ins.end_sign_in(gone.sign_in.sign_in)
        return f"{gone.name} is signed out."

    # reports

    async def _report(self, typed: Slash, at: Situation) -> Said:
        message = at.dialog.message(typed.seq)
        if at.dialog.mode is not Mode.SEALED:
            raise SlashError("only encrypted messages are reported here; others the moderators can read themselves")
        if message is None or message.posted is None or message.unreadable is not None:
            raise SlashError(f"there is no text of a message {typed.seq} here to report")
        if message.author == self._client.me:
            raise SlashError("that is your own message")
        if len(typed.text) > REPORT_REASON_CHARS_MAX:
            raise SlashError(f"a reason has at most {REPORT_REASON_CHARS_MAX} characters")
        dialog, seq, content = at.key, message.edit_seq or message.seq, message.payload
        quoted = textwrap.shorten(text_of(content), _QUOTED_CHARS_MAX)

        async def report() -> str:
            try:
                await self._client.report(dialog, seq, content, typed.text)
            except LookupError as error:
                raise SlashError("this device has not opened that message: report it on another one") from error
            except RefusedError as error:
                raise SlashError(error.failed.message) from error
            return f"Message {typed.seq} is reported: the moderators can read it, and who wrote it."

        return self._ask(
            f"This shows the moderators that {self._name_of(message.author)} wrote “{quoted}”, and that you report it."
            " It cannot be taken back.",
            report,
        )
