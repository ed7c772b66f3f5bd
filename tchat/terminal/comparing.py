"""Comparing keys in the terminal: one verification at a time, with another device of one's own or of a contact."""

from __future__ import annotations

from tchat.crypto.verification import Phase
from tchat.encryption.notices import VerificationStep
from tchat.encryption.verifying import Verifying
from tchat.terminal.slash import SlashError

_SAID = frozenset({Phase.ASKED, Phase.COMPARING, Phase.DONE, Phase.CANCELLED})
"""What a person reads; the other steps follow by themselves."""


class Comparing:
    """The newest verification of this device, and what its person types about it."""

    def __init__(self) -> None:
        self._step: VerificationStep | None = None
        self._asked: str | None = None

    def take(self, step: VerificationStep, name: str, verifying: Verifying) -> str | None:
        """A step of a verification with `name`; what the person reads."""
        self._step = step
        if step.phase is Phase.READY and step.transaction == self._asked:
            verifying.compare_symbols(step.transaction)
        if step.phase not in _SAID:
            return None
        if step.phase is Phase.ASKED:
            return f"{name} wants to compare keys with you. /verify if you are in touch with them now, else /differ."
        if step.symbols is not None and step.phase is Phase.COMPARING:
            return f"{name} sees the same? {'  '.join(step.symbols.emoji)}  Type /same or /differ."
        return f"{name}: {step.sentence}"

    def verify(self, principal: bytes, dialog: bytes | None, verifying: Verifying) -> str | None:
        """Accept what was asked, or ask the devices of a person; `dialog` is one with them, None for one's own."""
        if self._step is not None and self._step.phase is Phase.ASKED:
            verifying.accept(self._step.transaction)
            return None
        self._asked = verifying.ask(principal, dialog)
        if self._asked is None:
            raise SlashError("there is no other device to compare with")
        return "Their devices were asked: go on there."

    def answer(self, verifying: Verifying, *, same: bool) -> None:
        """The person says whether both sides show the same; raises SlashError when nothing is compared."""
        step = self._step
        if step is None or (same and step.phase is not Phase.COMPARING):
            raise SlashError("nothing is compared now: /verify begins")
        (verifying.confirm if same else verifying.cancel)(step.transaction)
