"""Pages: what the terminal shows in place of the dialog, until Escape or the next line that the person enters."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import segno

from protocol.canonical import to_base64
from tchat.crypto.pins import PinnedLog
from tchat.crypto.qr import QrCode
from tchat.crypto.sas import ShownSas
from tchat.terminal.account import SignInAnswer
from tchat.terminal.lines import Line, clean_line

_NUMBER_GROUPS_PER_LINE = 4
_CODE_CHARS_PER_LINE = 48
_QUIET_MODULES = 2
_HALF_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_INK = "#000000 on #ffffff"
_LATEST_MS = 253_402_214_400_000
"""The year 9999: a log can name any time."""


@dataclass(frozen=True, slots=True)
class Page:
    """A title and lines; `about` is the verification with which it ends."""

    title: str
    lines: list[Line]
    about: str | None = None


def text_page(title: str, *paragraphs: str) -> Page:
    """A page of text; each paragraph may have several lines."""
    return Page(title, [[(line, "")] for paragraph in paragraphs for line in (*paragraph.split("\n"), "")])


def recovery_page(key: str) -> Page:
    """The recovery key, to be written down."""
    page = text_page(
        "Your recovery key",
        "Write it down, and keep it where only you find it. When all your devices are lost, only this key brings your"
        " identity and your older messages back: /recover on a new device. Whoever has it can act as you.",
    )
    return Page(page.title, [*page.lines, [(key, "bold")], [], [("/recovery-key shows it again.", "dim")]])


def question_page(question: str) -> Page:
    """What is done by /yes alone."""
    return text_page("Are you sure?", question, "/yes does it; any other line takes it back.")


def compare_page(text: str) -> Page:
    """Where a comparison stands."""
    return text_page("Compare", text)


def number_page(name: str, digits: str, *, verified: bool) -> Page:
    """The safety number with somebody."""
    groups = digits.split()
    rows = [groups[start : start + _NUMBER_GROUPS_PER_LINE] for start in range(0, len(groups), _NUMBER_GROUPS_PER_LINE)]
    page = text_page(
        f"Safety number with {name}",
        f"{name} sees the same 60 digits with /safety, unless somebody sits between you. Read them to each other when"
        " you meet, or in a call, not in this chat. All the same: /same, else /differ.",
    )
    numbers: list[Line] = [[("  " + " ".join(row), "bold")] for row in rows]
    said = f"You have verified {name}." if verified else f"You have not verified {name} yet."
    return Page(page.title, [*page.lines, *numbers, [], [(said, "dim")]])


def symbols_page(name: str, symbols: ShownSas) -> Page:
    """What both sides of a comparison are to see."""
    question = compare_page(f"{name} has to show the same seven, in this order. All the same: /same. Else: /differ.")
    shown: list[Line] = [[("  " + emoji, "bold")] for emoji in symbols.emoji]
    numbers = f"Where no pictures are shown: {' '.join(map(str, symbols.numbers))}"
    return Page(question.title, [*question.lines, *shown, [], [(numbers, "dim")]])


def code_page(name: str, code: QrCode) -> Page:
    """A code for the other device, as text to paste there, and drawn for a camera."""
    page = text_page(
        "Scan this code",
        f"{name} is ready. There, type /scan and a space, paste the text below, and press Enter. Then come back here:"
        " /same if it says that the code is right, else /differ. Do not send the text through this chat.",
    )
    text = to_base64(code.encode())
    rows = [text[start : start + _CODE_CHARS_PER_LINE] for start in range(0, len(text), _CODE_CHARS_PER_LINE)]
    return Page(page.title, [*page.lines, *([(row, "bold")] for row in rows), [], *_drawn(code.encode())])


def _drawn(data: bytes) -> list[Line]:
    """A QR code in half blocks, two rows of modules in a line: dark on light, whatever the colours of the terminal."""
    modules = [list(row) for row in segno.make_qr(data, error="l", mode="byte").matrix_iter(border=_QUIET_MODULES)]
    modules.append([0] * len(modules[0]))  # an odd number of rows, and one more
    return [
        [("".join(_HALF_BLOCKS[bool(top), bool(bottom)] for top, bottom in zip(*pair, strict=True)), _INK)]
        for pair in zip(modules[::2], modules[1::2], strict=True)
    ]


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """A device of this person: since when it is in their log (None: it is not), and its sign-in, if it has one."""

    device: bytes
    at_ms: int | None
    sign_in: SignInAnswer | None

    @property
    def name(self) -> str:
        """How it is called here."""
        return name_of_device(self.device)


def name_of_device(device: bytes) -> str:
    """The end of its id: devices that were made at about the same time differ there."""
    return device.hex()[-6:]


def list_own_devices(pin: PinnedLog | None, sign_ins: Iterable[SignInAnswer]) -> list[OwnDevice]:
    """The devices of the own log, in its order, then those that are signed in and in no log."""
    signed_in = {each.device.bytes: each for each in sign_ins}
    listed = {} if pin is None else {one.device: one.at_ms for one in pin.log.listed if one.until is None}
    return [
        *(OwnDevice(device, at_ms, signed_in.get(device)) for device, at_ms in listed.items()),
        *(OwnDevice(device, None, each) for device, each in signed_in.items() if device not in listed),
    ]


def devices_page(me: bytes, own: Sequence[OwnDevice], others: Iterable[tuple[str, PinnedLog | None]]) -> Page:
    """The own devices; `me` is this one; and how many each of some other people has."""
    lines: list[Line] = [[("Yours", "bold")], *(_own_line(device, here=device.device == me) for device in own), []]
    if any(device.at_ms is None for device in own):
        lines += [[("NOT CONFIRMED: signed in as you, and reads nothing until you confirm it.", "")]]
    lines += [[("/remove-device NAME, the word at the left, signs one out and gives it no keys.", "dim")], []]
    for name, pin in others:
        lines += [*_lines_of(name, pin), []]
    return Page("Devices", lines)


def _own_line(device: OwnDevice, *, here: bool) -> Line:
    parts = [f"since {_day(device.at_ms)}" if device.at_ms is not None else "NOT CONFIRMED"]
    if (seen := device.sign_in) is None:
        parts.append("signed out")
    else:
        about = f"{clean_line(seen.name)} {clean_line(seen.platform)}".strip()
        parts.append(f"{about}, used {_day(seen.last_used_at_ms)}")
    return [(f"  {device.name}  ", "bold"), ("; ".join(parts), ""), ("  this one" if here else "", "bold green")]


def _lines_of(name: str, pin: PinnedLog | None) -> list[Line]:
    """One other person's devices."""
    if pin is None:
        return [[(name, "bold"), ("  no devices that are known here yet", "")]]
    newest = pin.newest
    listed = [one for one in newest.listed if one.until is None]
    state = "a new identity, not verified" if pin.held else "verified" if pin.verified else "not verified"
    count = f"{len(listed)} device{'' if len(listed) == 1 else 's'}"
    return [
        [(name, "bold"), (f"  {count}, {state}", "")],
        *([(f"  {name_of_device(one.device)}  since {_day(one.at_ms)}", "")] for one in listed),
    ]


def _day(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(min(at_ms, _LATEST_MS) / 1000)) if at_ms else "earlier"
