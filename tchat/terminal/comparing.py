"""Comparing keys in the terminal: one verification at a time, with another device of one's own or of a contact."""

from __future__ import annotations

from tchat.crypto.verification import Phase
from tchat.encryption.notices import VerificationStep
from tchat.encryption.verifying import Verifying
from tchat.terminal.slash import SlashError

_SAID = frozenset({Phase.ASKED, Phase.COMPARING, Phase.DONE, Phase.CANCELLED})
"""What a person reads; the other steps follow by themselves."""
_ENDED = frozenset({Phase.DONE, Phase.CANCELLED})


class Comparing:
    """The verification that the person has gone into, the newest request of each other person, and what is typed."""

    def __init__(self) -> None:
        self._asked: str | None = None
        self._current: str | None = None
        self._step: VerificationStep | None = None
        """The last one of the current verification."""
        self._requests: dict[bytes, str] = {}

    def take(self, step: VerificationStep, name: str, verifying: Verifying) -> str | None:
        """A step of a verification with `name`; what the person reads."""
        if step.transaction == self._current:
            self._step = step
        elif step.phase is Phase.ASKED:
            self._requests.pop(step.principal, None)
            self._requests[step.principal] = step.transaction
        elif step.transaction == self._requests.get(step.principal):
            del self._requests[step.principal]
        if step.phase is Phase.READY and step.transaction == self._asked:
            verifying.compare_symbols(step.transaction)
        if step.phase not in _SAID:
            return None
        if step.phase is Phase.ASKED:
            return (
                f"{name} wants to compare keys with you. If you are in touch with them now: /verify in your dialog with"
                " them, or in Notes to self with your own device. Else /differ."
            )
        if step.symbols is not None and step.phase is Phase.COMPARING:
            return f"{name} sees the same? {'  '.join(step.symbols.emoji)}  Type /same or /differ."
        return f"{name}: {step.sentence}"

    def verify(self, principal: bytes, dialog: bytes | None, verifying: Verifying) -> str | None:
        """Accept what this person asked, or ask their devices; `dialog` is one with them, None for one's own."""
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
        return f"{'Your other' if dialog is None else 'Their'} devices were asked: go on there with /verify."

    def answer(self, verifying: Verifying, *, same: bool) -> None:
        """The person says whether both sides show the same; raises SlashError when nothing is compared."""
        step = self._step
        if same:
            if step is None or step.phase is not Phase.COMPARING:
                raise SlashError("nothing is compared now: /verify begins")
            verifying.confirm(step.transaction)
            return
        running = self._current if step is None or step.phase not in _ENDED else None
        if (ended := running or next(reversed(self._requests.values()), None)) is None:
            raise SlashError("nothing is compared now: /verify begins")
        verifying.cancel(ended)
