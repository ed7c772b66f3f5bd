"""The pages of the terminal: what they say, and that nobody else's text commands the terminal."""

from __future__ import annotations

from uuid import UUID

import msgspec

from protocol.canonical import to_base64
from protocol.device_log import LogState
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.pins import PinnedLog
from tchat.crypto.qr import QrCode, QrMode
from tchat.crypto.sas import ShownSas
from tchat.terminal.account import SignInAnswer
from tchat.terminal.pages import OwnDevice, Page, code_page, devices_page, list_own_devices, number_page, symbols_page
from tests.support.key_pairs import device_keys
from tests.support.scripted import BOB, ME

HERE, PHONE, STOLEN = bytes([1]) * 16, bytes([2]) * 16, bytes([3]) * 16
MINUTE_MS = 60_000
YEAR_290000_MS = 2**53 - 1


def log_of(principal: bytes, *devices: tuple[bytes, int]) -> LogState:
    identity = OwnIdentity(principal, 1)
    log, _ = identity.start(b"", 0)
    for device, at_ms in devices:
        log, _ = identity.add_device(log, device, device_keys(device[0]), at_ms)
    return log


def signed_in(device: bytes, name: str = "") -> SignInAnswer:
    return SignInAnswer(UUID(int=7), UUID(bytes=device), "terminal", name, MINUTE_MS)


def text_of(page: Page) -> list[str]:
    return [page.title, *("".join(text for text, _ in line) for line in page.lines)]


def test_own_devices_are_those_of_the_log_and_those_that_wait_to_be_confirmed() -> None:
    log = log_of(ME, (HERE, MINUTE_MS), (PHONE, 2 * MINUTE_MS))
    own = list_own_devices(PinnedLog(log), [signed_in(STOLEN, "evil\x1b[2J\n"), signed_in(HERE)])
    assert [(one.device, one.at_ms) for one in own] == [(HERE, MINUTE_MS), (PHONE, 2 * MINUTE_MS), (STOLEN, None)]
    _, _, here, phone, stolen, *_ = text_of(devices_page(HERE, own, []))
    assert "010101" in here
    assert here.endswith("this one")
    assert "signed out" in phone
    assert "NOT CONFIRMED" in stolen
    assert "evil\ufffd[2J\ufffd" in stolen


def test_a_removed_device_is_not_listed() -> None:
    log = log_of(ME, (HERE, MINUTE_MS))
    ended = msgspec.structs.replace(log, listed=(msgspec.structs.replace(log.listed[0], until=2),))
    assert list_own_devices(PinnedLog(ended), []) == []


def test_of_others_it_says_how_many_devices_they_have_since_when_and_whether_they_are_verified() -> None:
    log = log_of(BOB, (PHONE, MINUTE_MS), (STOLEN, YEAR_290000_MS))
    for pin, said in (
        (PinnedLog(log), "2 devices, not verified"),
        (PinnedLog(log, verified=True), "2 devices, verified"),
        (PinnedLog(log, verified=True, held=log_of(BOB, (PHONE, 0))), "1 device, a new identity, not verified"),
        (None, "no devices that are known here yet"),
    ):
        assert f"Bob  {said}" in text_of(page_of(pin))
    assert any("9999-12-31" in line for line in text_of(page_of(PinnedLog(log))))
    old = msgspec.structs.replace(log, listed=(msgspec.structs.replace(log.listed[0], at_ms=0),))
    assert any("earlier" in line for line in text_of(page_of(PinnedLog(old))))


def page_of(pin: PinnedLog | None) -> Page:
    return devices_page(HERE, [OwnDevice(HERE, 0, None)], [("Bob", pin)])


def test_a_safety_number_is_shown_in_rows_and_says_whether_it_was_compared() -> None:
    digits = " ".join(f"{number:05}" for number in range(12))
    shown = text_of(number_page("Bob", digits, verified=False))
    assert [line.split() for line in shown if line.startswith("  0")] == [
        digits.split()[start : start + 4] for start in (0, 4, 8)
    ]
    assert "You have not verified Bob yet." in shown
    assert "You have verified Bob." in text_of(number_page("Bob", digits, verified=True))


def test_symbols_are_shown_with_numbers_for_terminals_without_pictures() -> None:
    shown = "\n".join(text_of(symbols_page("Bob", ShownSas(("🐶 Dog", "🐱 Cat"), (1234, 5678, 9012)))))
    assert "  🐶 Dog\n  🐱 Cat" in shown
    assert "1234 5678 9012" in shown


def modules_of(page: Page) -> list[str]:
    """The drawn code, a row of modules each: "#" is dark."""
    drawn = ["".join(text for text, _ in line) for line in page.lines if any("#ffffff" in style for _, style in line)]
    top = str.maketrans("▀▄█", "# #")
    bottom = str.maketrans("▀▄█", " ##")
    return [half for row in drawn for half in (row.translate(top), row.translate(bottom))]


def test_a_code_is_drawn_as_a_camera_reads_it_and_fits_beside_the_list_of_dialogs() -> None:
    code = QrCode(QrMode.OTHER_PERSON, bytes(32), bytes([1]) * 32, 32 * "a", bytes(16))
    page = code_page("Bob", code)
    modules = modules_of(page)
    width = len(modules[0])
    finder = ["#######", "#     #", "# ### #", "# ### #", "# ### #", "#     #", "#######"]
    for top, left in ((2, 2), (2, width - 9), (width - 9, 2)):
        assert [row[left : left + 7] for row in modules[top : top + 7]] == finder
    assert {*modules[0], *modules[1], *modules[-1]} == {" "}
    assert width <= 80 - 28 - 2
    assert to_base64(code.encode()) in "".join(text_of(page))


def test_another_code_is_drawn_otherwise() -> None:
    codes = [QrCode(QrMode.OTHER_PERSON, bytes(32), bytes(32), "t", bytes([secret]) * 16) for secret in (1, 2)]
    assert modules_of(code_page("Bob", codes[0])) != modules_of(code_page("Bob", codes[1]))
