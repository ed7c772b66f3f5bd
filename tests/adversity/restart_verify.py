"""What was promised, held against the timeline: nothing lost, twice, out of order, or shown to the wrong people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Protocol

import msgspec

from protocol import bodies
from protocol import commands as c
from protocol.dialog_types import DialogType, Mode
from tests.adversity.restart_server import SignIn
from tests.adversity.restart_timeline import Row, Timeline
from tests.adversity.restart_witness import Hole, Ledger, Received
from tests.support.sharing import KeyRing, session_of

_BODY_OF: dict[type[msgspec.Struct], type[bodies.Body]] = {
    c.Send: bodies.Posted,
    c.Edit: bodies.Edited,
    c.Delete: bodies.Deleted,
    c.React: bodies.Reacted,
    c.Create: bodies.DialogCreated,
    c.Add: bodies.MembersAdded,
    c.Remove: bodies.MemberRemoved,
    c.Leave: bodies.MemberLeft,
    c.Promote: bodies.Promoted,
    c.Demote: bodies.Demoted,
    c.ChangeSettings: bodies.SettingsChanged,
    c.Mute: bodies.Muted,
    c.Block: bodies.Blocked,
    c.Unblock: bodies.Unblocked,
}
_OF_THE_PERSON = ("reply_to", "expires_at_ms", "ref")
_OF_THE_CLIENT = ("members", "mode", "signature", "signed")
_SAID_MAX = 40
_SAID_CHARS_MAX = 500


class Sender(Protocol):
    """A device whose commands are checked."""

    @property
    def name(self) -> str:
        """What it is called in a violation."""

    @property
    def principal(self) -> bytes:
        """Whose it is."""

    @property
    def signed_in(self) -> SignIn:
        """Its sign-in."""

    @property
    def ledger(self) -> Ledger:
        """Its commands."""


class KeyHolder(Protocol):
    """A device that has got keys."""

    @property
    def name(self) -> str:
        """What it is called in a violation."""

    @property
    def principal(self) -> bytes:
        """Whose it is."""

    @property
    def keys(self) -> KeyRing:
        """What it has got."""


class Violations:
    """How often each promise was broken, and the first cases in words. What is found again counts once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.said: list[str] = []
        self._known: set[str] = set()
        self._taken = 0

    def take_said(self) -> list[str]:
        """The cases that were added since the last call."""
        said, self._taken = self.said[self._taken :], len(self.said)
        return said

    def add(self, kind: str, what: str) -> None:
        """Count a case."""
        if what in self._known:
            return
        self._known.add(what)
        self.counts[kind] += 1
        if len(self.said) < _SAID_MAX:
            self.said.append(f"{kind}: {what[:_SAID_CHARS_MAX]}")


def check_timeline(timeline: Timeline, violations: Violations) -> None:
    """Numbers are dense, nothing is stored twice, and only members wrote."""
    counts = Counter(dialog for dialog, _ in timeline.rows)
    for dialog, head in timeline.heads.items():
        if counts[dialog] != head:
            violations.add("lost", f"{counts[dialog]} numbers up to {head} in {dialog.hex()}")
    for (device, n), rows in timeline.by_number.items():
        if len({row.dialog for row in rows}) < len(rows):
            violations.add("duplicated", f"number {n} of {device.hex()} at {[row.seq for row in rows]}")
    for row in timeline.rows.values():
        by_member = isinstance(row.body, bodies.Posted | bodies.Edited | bodies.Reacted | bodies.Deleted)
        if by_member and not timeline.may_see(row.author, row.dialog, row.seq):
            violations.add("leaked", f"{row} is by somebody who was no member")
    texts = Counter(text for row in timeline.rows.values() if (text := _text(row.body)))
    for text, count in texts.items():
        if count > 1:
            violations.add("duplicated", f"{text[:40]!r} {count} times")


def check_sealed(timeline: Timeline, violations: Violations) -> None:
    """Nothing that was written in a sealed dialog is in the clear."""
    for row in timeline.rows.values():
        content = row.body
        if not isinstance(content, bodies.Posted | bodies.Edited | bodies.Reacted) or not content.payload:
            continue
        if timeline.kinds[row.dialog][1] is Mode.SEALED and session_of(content) is None:
            violations.add("leaked", f"{row} is in the clear")


def check_sender(device: Sender, timeline: Timeline, violations: Violations) -> None:
    """What a device asked for is there once as it was acked, or not at all as it was refused; in its order."""
    ledger = device.ledger
    for n, acked in ledger.acked.items():
        row = timeline.rows.get((acked.dialog, acked.seq))
        wrong = _wrong_with(ledger.asked[n], acked, row, device)
        if wrong:
            violations.add("lost", f"{device.name} number {n} acked at {acked.seq}: {wrong}")
    for n, code in ledger.refused.items():
        if n in ledger.acked or timeline.by_number.get((device.signed_in.device, n)):
            violations.add("duplicated", f"{device.name} number {n} was refused ({code}) and is stored")
    for first, second in ledger.unequal_acks:
        violations.add("duplicated", f"{device.name} was acked {first} and {second}")
    _check_order(device, timeline, violations)


def check_keys(device: KeyHolder, timeline: Timeline, violations: Violations) -> None:
    """A session that a device has got is not used any more once its person may not read."""
    for row in timeline.rows.values():
        content = row.body
        if not isinstance(content, bodies.Posted | bodies.Edited | bodies.Reacted):
            continue
        since = device.keys.had.get((row.device, session_of(content) or b""))
        if since is None or content.header.keys_seq < since:
            continue
        if not timeline.may_see(device.principal, row.dialog, row.seq):
            violations.add("leaked", f"{row} is under keys that {device.name} has, and may not be read there")


def check_numbers(devices: Iterable[Sender], timeline: Timeline, violations: Violations) -> None:
    """Nothing is stored that nobody asked for."""
    ledgers: dict[bytes, Ledger] = {device.signed_in.device: device.ledger for device in devices}
    for (device, n), rows in timeline.by_number.items():
        ledger = ledgers.get(device)
        of_the_server = isinstance(rows[0].body, bodies.DialogCreated) and rows[0].body.type is DialogType.SELF
        if ledger is not None and n not in ledger.asked and not of_the_server:
            violations.add("duplicated", f"{rows[0]} was stored under a number that is not in use")


def check_received(principal: bytes, received: Received, timeline: Timeline, violations: Violations) -> None:
    """What a client received is in the timeline, was visible to it, and came in order without holes."""
    for event in received.events:
        _check_event(principal, event, timeline, violations, seen_as=event.seq)
    _check_changes(principal, received.changes, timeline, violations)
    for event in received.without_keys:
        if timeline.must_read(principal, received.listed, event):
            violations.add("without_keys", f"{event} came to {principal.hex()}, and its keys did not")
    for event in received.after_removal:
        violations.add("leaked", f"{event} to {principal.hex()} after its removal")
    for dialog in received.dialogs:
        if (dialog, principal) not in timeline.visible:
            violations.add("leaked", f"{dialog.hex()} was named to {principal.hex()}")
    for hole in received.holes:
        _check_hole(hole, timeline, violations)
    for _ in range(received.twice):
        violations.add("duplicated", f"an event was shown twice to {principal.hex()}")
    for _ in range(received.after_end):
        violations.add("leaked", f"a message to {principal.hex()} after its sign-in ended")


def _check_hole(hole: Hole, timeline: Timeline, violations: Violations) -> None:
    who, dialog = hole.principal, hole.dialog
    joined = timeline.joined[dialog, who] if hole.where == "resume" else []
    if any(hole.before < seq <= hole.then for seq in joined):
        return
    if hole.where == "unnamed" and timeline.has_left(who, dialog, hole.then):
        return
    if any(timeline.may_see(who, dialog, seq) for seq in range(hole.before + 1, hole.then)):
        violations.add("misordered", f"{hole}")


def _check_changes(
    principal: bytes, changes: list[bodies.TimelineEvent], timeline: Timeline, violations: Violations
) -> None:
    """What was done to a message concerns those who may see the message and had not left for the last time."""
    for event in changes:
        assert isinstance(event.body, bodies.Edited | bodies.Deleted | bodies.Reacted), event
        _check_event(principal, event, timeline, violations, seen_as=event.body.target)
        if not timeline.may_learn(principal, event.dialog, event.seq):
            violations.add("leaked", f"{event} to {principal.hex()} who had left")


def _check_event(
    principal: bytes, event: bodies.TimelineEvent, timeline: Timeline, violations: Violations, *, seen_as: int
) -> None:
    row = timeline.rows.get((event.dialog, event.seq))
    if row is None:
        violations.add("lost", f"{event} was delivered and is not stored")
    elif not _same(event, row):
        violations.add("misordered", f"{event} was delivered and {row} is stored")
    if not timeline.may_see(principal, event.dialog, seen_as):
        violations.add("leaked", f"{event} to {principal.hex()}")


def _same(event: bodies.TimelineEvent, row: Row) -> bool:
    received = (event.author, event.device, event.n, event.at_ms, event.messages)
    stored = (row.author, row.device, row.n, row.at_ms, row.messages)
    return received == stored and (event.body == row.body or isinstance(row.body, bodies.Erased))


def _wrong_with(asked: msgspec.Struct, acked: object, row: Row | None, device: Sender) -> str:
    """Why a row is not what was acked; empty if it is."""
    if row is None:
        return "nothing is stored there"
    if isinstance(asked, c.Create) and asked.type is DialogType.DIRECT and row.seq == 1:
        return ""  # the peer may have created it first
    n, at_ms, messages = (getattr(acked, name) for name in ("n", "at_ms", "messages"))
    if (row.device, row.author, row.n) != (device.signed_in.device, device.principal, n):
        return f"{row} is another's"
    if (row.at_ms, row.messages) != (at_ms, messages):
        return f"{row} is not {acked}"
    if not isinstance(row.body, bodies.Erased) and not _says(asked, row.body):
        return f"{row.body} is not {asked}"
    return ""


def _says(asked: msgspec.Struct, body: bodies.AnyBody) -> bool:
    """Whether a body is what a command asked for, but for what its client adds when it leaves."""
    if type(body) is not _BODY_OF[type(asked)]:
        return False
    for name in set(body.__struct_fields__) & set(asked.__struct_fields__):
        mine, stored = getattr(asked, name), getattr(body, name)
        if isinstance(mine, bodies.Header):
            stored = msgspec.structs.replace(mine, **{name: getattr(stored, name) for name in _OF_THE_PERSON})
        if name not in _OF_THE_CLIENT and mine != stored:
            return False
    return True


def _check_order(device: Sender, timeline: Timeline, violations: Violations) -> None:
    """What one device said in one dialog stands in the order in which it said it, unless it had to send it again."""
    said: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for n in device.ledger.acked:
        if n not in device.ledger.renumbered:
            acked = device.ledger.acked[n]
            said[acked.dialog].append((n, acked.seq))
    for dialog, pairs in said.items():
        seqs = [seq for n, seq in sorted(pairs) if (row := timeline.rows.get((dialog, seq))) and row.n == n]
        if seqs != sorted(seqs):
            violations.add("misordered", f"{device.name} in {dialog.hex()}: {seqs}")


def _text(body: bodies.AnyBody) -> bytes:
    return body.payload if isinstance(body, (bodies.Posted, bodies.Edited)) else b""
