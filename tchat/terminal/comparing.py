"""Comparing keys in the terminal: symbols or a code with another device, a safety number with a contact.

Invariant: /same and /differ are about what was shown last. It is one thing at a time, and each answer names it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocol.canonical import CanonicalError, from_base64
from tchat.crypto.qr import BadCodeError, QrCode
from tchat.crypto.verification import Phase
from tchat.encryption.notices import VerificationStep
from tchat.encryption.verifying import Verifying
from tchat.terminal.pages import Page, code_page, compare_page, number_page, symbols_page
from tchat.terminal.slash import SlashError

_ENDED = frozenset({Phase.DONE, Phase.CANCELLED})
_ANSWERED = frozenset({Phase.COMPARING, Phase.SCANNED})
_ASKS = "wants to compare keys. If you are in touch with them now: /verify in your dialog with them. Else: /differ."
_OWN_DEVICE_ASKS = (
    "wants to be confirmed. If that is you: /verify. If not, somebody else has signed in as you: /differ, and look at"
    " /devices."
)
_NOTHING = "nothing is compared now: /verify, /qr or /safety begins"


@dataclass(frozen=True, slots=True)
class _Number:
    """A safety number that is shown: whose, and the master key of theirs that is in it."""

    principal: bytes
    name: str
    master: bytes


class Comparing:
    """The verification that the person has gone into, the newest request of each other person, and what is typed."""

    def __init__(self) -> None:
        self._asked: str | None = None
        self._current: str | None = None
        self._step: VerificationStep | None = None
        """The last one of the current verification."""
        self._wants_code = False
        """The current one is to begin with a code of this device."""
        self._number: _Number | None = None
        self._requests: dict[bytes, str] = {}

    def take(self, step: VerificationStep, name: str, verifying: Verifying, *, own: bool = False) -> str | Page | None:
        """A step of a verification with `name`, which may be an own device; what the person reads."""
        if step.transaction == self._current:
            self._step = step
        elif step.phase is Phase.ASKED:
            self._requests.pop(step.principal, None)
            self._requests[step.principal] = step.transaction
        elif step.transaction == self._requests.get(step.principal):
            del self._requests[step.principal]
        if step.phase is Phase.ASKED:
            return f"{name} {_OWN_DEVICE_ASKS if own else _ASKS}"
        if step.phase is Phase.CANCELLED:
            return f"{name}: {step.sentence}"
        if step.phase is Phase.DONE:
            return f"{name} is verified."
        page = self._page_of(step, name, verifying) if step.transaction == self._current else None
        return None if page is None else replace(page, about=step.transaction)

    def _page_of(self, step: VerificationStep, name: str, verifying: Verifying) -> Page | None:
        """What is shown while the current verification goes on."""
        match step.phase:
            case Phase.READY:
                return self._ready(step, name, verifying)
            case Phase.COMPARING if step.symbols is not None:
                self._number = None
                return symbols_page(name, step.symbols)
            case Phase.SCANNED:
                self._number = None
                return compare_page(f"{name} has read the code. If it is said to be right there: /same. Else: /differ.")
            case Phase.CONFIRMED if step.symbols is None:
                return compare_page(f"{name}: the code is right. Now type /same there.")
            case Phase.CONFIRMED:
                return compare_page(f"{name} has to say so, too.")
            case _:
                return None

    def _ready(self, step: VerificationStep, name: str, verifying: Verifying) -> Page | None:
        """Show the code, if the person wants one and the other device can scan it; else who has asked begins."""
        if self._wants_code and step.code is not None:
            return code_page(name, step.code)
        if step.transaction != self._asked:
            return compare_page(f"{name} is ready. Wait for symbols, or type /scan and the code that is shown there.")
        verifying.compare_symbols(step.transaction)
        return None

    def has_asked(self, principal: bytes) -> bool:
        """Whether a request of this person waits."""
        return principal in self._requests

    def verify(
        self, principal: bytes, dialog: bytes | None, verifying: Verifying, *, code: bool = False
    ) -> Page | None:
        """Accept what this person asked, or ask their devices; `dialog` is one with them, None for one's own.

        With `code` this device shows one, and compares symbols only if the other one cannot scan it.
        """
        self._number, self._wants_code = None, code
        if (asked := self._requests.pop(principal, None)) is not None:
            self._current, self._step = asked, None
            verifying.accept(asked)
            return None
        self._asked = self._current = verifying.ask(principal, dialog)
        self._step = None
        if self._asked is None and dialog is None:
            raise SlashError("you have no other device to compare with: /recover KEY, or /new-identity without a key")
        if self._asked is None:
            raise SlashError("they have no device that can compare keys")
        asked_whom = "Your other devices were asked: type /verify on one of them"
        if dialog is not None:
            asked_whom = "Their devices were asked: they type /verify in their dialog with you"
        return replace(compare_page(f"{asked_whom}. This goes on here by itself."), about=self._asked)

    def scan(self, text: str, verifying: Verifying) -> None:
        """The text of the code that the other device shows; raises SlashError if it is none of this comparison."""
        try:
            code = QrCode.decode(from_base64("".join(text.split())))
        except (CanonicalError, BadCodeError) as error:
            raise SlashError("that is not the whole text of a code: paste all of it") from error
        if self._step is None or self._step.phase is not Phase.READY:
            raise SlashError("no comparison waits for a code: type /verify here and /qr there")
        if code.transaction != self._step.transaction:
            raise SlashError("that is the code of another comparison: take the one that is shown there now")
        self._number = None
        verifying.scan(code.transaction, code)

    def number(self, principal: bytes, name: str, verifying: Verifying, *, verified: bool) -> Page:
        """The safety number with a contact; raises SlashError if one of the two identities is not known."""
        if (found := verifying.number_with(principal)) is None:
            raise SlashError("there is no safety number yet: confirm this device first (/verify), or write to them")
        digits, master = found
        self._number = _Number(principal, name, master)
        return number_page(name, digits, verified=verified)

    def answer(self, verifying: Verifying, *, same: bool) -> str | None:
        """The person says whether both sides show the same; raises SlashError when nothing is compared."""
        number, self._number = self._number, None
        if number is not None:
            return _answer_number(number, verifying, same=same)
        step = self._step
        if same:
            if step is None or step.phase not in _ANSWERED:
                raise SlashError(_NOTHING)
            verifying.confirm(step.transaction)
            return None
        running = self._current if step is None or step.phase not in _ENDED else None
        if (ended := running or next(reversed(self._requests.values()), None)) is None:
            raise SlashError(_NOTHING)
        verifying.cancel(ended)
        return None


def _answer_number(number: _Number, verifying: Verifying, *, same: bool) -> str:
    if not same:
        return (
            f"Then somebody may sit between you and {number.name}: write nothing here that others must not read, and"
            " compare again when you meet."
        )
    if not verifying.same_number(number.principal, number.master):
        raise SlashError(f"meanwhile the server shows another identity of {number.name}: /safety again")
    return f"{number.name} is verified: if the server ever shows another identity of theirs, nothing is sent to it."
