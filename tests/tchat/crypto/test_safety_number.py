"""Both people see one number, and another one as soon as an identity was swapped."""

from __future__ import annotations

import re

from tchat.crypto.safety_number import safety_number
from tests.support.key_pairs import device_keys

ALICE, BOB = bytes([0xA1]) * 16, bytes([0xB0]) * 16
KEYS = [device_keys(number).ed25519 for number in range(4)]


def test_both_see_the_same_sixty_digits() -> None:
    number = safety_number((ALICE, KEYS[0]), (BOB, KEYS[1]))
    assert number == safety_number((BOB, KEYS[1]), (ALICE, KEYS[0]))
    assert re.fullmatch(r"\d{5}( \d{5}){11}", number)


def halves(number: str) -> set[str]:
    return {number[:35], number[36:]}


def test_a_swapped_key_or_person_changes_its_half_of_the_number() -> None:
    number = halves(safety_number((ALICE, KEYS[0]), (BOB, KEYS[1])))
    for other in ((BOB, KEYS[2]), (bytes(16), KEYS[1])):
        assert len(number & halves(safety_number((ALICE, KEYS[0]), other))) == 1


def test_the_number_never_changes_between_versions() -> None:
    """People have written it down."""
    number = "09489 15063 42750 54433 60404 38902 52268 03880 21025 76043 68751 28114"
    assert safety_number((ALICE, bytes(32)), (BOB, bytes([1]) * 32)) == number
