"""What a person types about verifications, when several are under way."""

from __future__ import annotations

from typing import cast

import pytest

from protocol.canonical import to_base64
from tchat.crypto.qr import QrCode, QrMode
from tchat.crypto.sas import ShownSas
from tchat.crypto.verification import Phase
from tchat.encryption.notices import VerificationStep
from tchat.encryption.verifying import Verifying
from tchat.terminal.comparing import Comparing
from tchat.terminal.pages import Page
from tchat.terminal.slash import SlashError
from tests.support.scripted import ANN, BOB, DIALOG

SYMBOLS = ShownSas(("🐶 Dog",), (1, 2, 3))


class Recorded:
    """Keeps what the person did; asks under the name "ours", if there is a device to ask."""

    def __init__(self, *, others: bool = True) -> None:
        self.others = others
        self.replaced = False
        self.did: list[str] = []

    def ask(self, _principal: bytes, _dialog: bytes | None) -> str | None:
        return "ours" if self.others else None

    def accept(self, transaction: str) -> None:
        self.did.append(f"accept {transaction}")

    def compare_symbols(self, transaction: str) -> None:
        self.did.append(f"compare {transaction}")

    def confirm(self, transaction: str) -> None:
        self.did.append(f"confirm {transaction}")

    def number_with(self, _principal: bytes) -> tuple[str, bytes]:
        return "12345 67890", b"master"

    def same_number(self, _principal: bytes, _master: bytes) -> bool:
        self.did.append("number verified")
        return not self.replaced

    def cancel(self, transaction: str) -> None:
        self.did.append(f"cancel {transaction}")


class Person:
    """Somebody who compares keys with Bob."""

    def __init__(self, *, others: bool = True) -> None:
        self.recorded = Recorded(others=others)
        self.verifying = cast("Verifying", self.recorded)
        self.comparing = Comparing()

    def sees(self, transaction: str, phase: Phase, who: bytes = BOB) -> str | Page | None:
        return self.comparing.take(VerificationStep(transaction, who, phase), "Somebody", self.verifying)


def test_a_request_of_somebody_else_does_not_disturb_what_is_compared() -> None:
    ann = Person()
    ann.comparing.verify(BOB, DIALOG, ann.verifying)
    ann.sees("ours", Phase.READY)
    ann.sees("ours", Phase.COMPARING)
    ann.sees("theirs", Phase.ASKED, ANN)
    ann.comparing.answer(ann.verifying, same=True)
    ann.sees("ours", Phase.DONE)
    ann.comparing.verify(ANN, DIALOG, ann.verifying)
    assert ann.recorded.did == ["compare ours", "confirm ours", "accept theirs"]


def test_who_is_asked_is_the_other_person_whoever_else_has_asked() -> None:
    ann = Person()
    ann.sees("bobs", Phase.ASKED, BOB)
    ann.sees("theirs", Phase.ASKED, ANN)
    ann.comparing.verify(BOB, DIALOG, ann.verifying)
    assert ann.recorded.did == ["accept bobs"]
    assert "were asked" in str(ann.comparing.verify(BOB, DIALOG, ann.verifying))
    assert ann.recorded.did == ["accept bobs"]


def test_same_is_about_what_was_shown_last() -> None:
    ann = Person()
    ann.comparing.verify(BOB, DIALOG, ann.verifying)
    ann.sees("ours", Phase.READY)
    ann.sees("ours", Phase.COMPARING)
    ann.comparing.number(ANN, "Ann", ann.verifying, verified=False)
    assert "Ann is verified" in (ann.comparing.answer(ann.verifying, same=True) or "")
    ann.comparing.answer(ann.verifying, same=True)
    assert ann.recorded.did == ["compare ours", "number verified", "confirm ours"]


def test_symbols_take_the_place_of_a_number() -> None:
    ann = Person()
    ann.comparing.verify(BOB, DIALOG, ann.verifying)
    ann.comparing.number(ANN, "Ann", ann.verifying, verified=False)
    page = ann.comparing.take(VerificationStep("ours", BOB, Phase.COMPARING, SYMBOLS), "Bob", ann.verifying)
    assert isinstance(page, Page)
    assert page.about == "ours"
    ann.comparing.answer(ann.verifying, same=True)
    assert ann.recorded.did == ["confirm ours"]


def test_a_number_of_an_identity_that_was_replaced_meanwhile_verifies_nobody() -> None:
    ann = Person()
    ann.recorded.replaced = True
    ann.comparing.number(ANN, "Ann", ann.verifying, verified=False)
    with pytest.raises(SlashError, match="another identity of Ann"):
        ann.comparing.answer(ann.verifying, same=True)


def test_who_cannot_scan_is_shown_symbols() -> None:
    ann = Person()
    ann.comparing.verify(BOB, DIALOG, ann.verifying, code=True)
    ann.sees("ours", Phase.READY)
    assert ann.recorded.did == ["compare ours"]


def test_a_code_of_another_comparison_ends_nothing() -> None:
    ann = Person()
    ann.comparing.verify(BOB, DIALOG, ann.verifying)
    ann.sees("ours", Phase.READY)
    code = QrCode(QrMode.OTHER_PERSON, bytes(32), bytes(32), "another", bytes(16))
    with pytest.raises(SlashError, match="code of another comparison"):
        ann.comparing.scan(to_base64(code.encode()), ann.verifying)
    assert ann.recorded.did == ["compare ours"]


def test_what_was_not_gone_into_is_declined_too() -> None:
    ann = Person()
    ann.sees("theirs", Phase.ASKED)
    ann.comparing.answer(ann.verifying, same=False)
    assert ann.recorded.did == ["cancel theirs"]
    ann.sees("theirs", Phase.CANCELLED)
    with pytest.raises(SlashError, match="nothing is compared now"):
        ann.comparing.answer(ann.verifying, same=False)


def test_who_has_no_other_device_is_told_what_else_there_is() -> None:
    ann = Person(others=False)
    with pytest.raises(SlashError, match="/recover KEY"):
        ann.comparing.verify(BOB, None, ann.verifying)
