"""What people read of payments when all is at rest, and what is wrong with it."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass
from uuid import UUID

from protocol.bodies import Posted, TimelineEvent
from protocol.commands import History
from protocol.commerce.payment_notice import CONTENT_TYPE, PaymentNotice, decode_notice
from protocol.ids import self_dialog_id, to_text
from protocol.kinds import Kind
from protocol.replies import HistoryPage
from tests.adversity.announce_stage import Stage, Talk
from tests.adversity.restart_server import SignIn
from tests.support.harness import Wire, live_on

COUNTS = ("missing", "doubled", "misordered", "leaked")
_PAGE = 200
_SAID_MAX = 20
_FOR_PARTIES = ("dialog", "order", "captured_minor", "refunded_minor", "fee_minor", "reason")


@dataclass(frozen=True)
class Begun:
    """A payment of the run. `may_begin`: whether who began it was surely a member then; None: they were leaving."""

    payment: UUID
    talk: Talk | None
    payer: bytes
    payee: bytes
    requester: bytes
    may_begin: bool | None


@dataclass(frozen=True)
class Read:
    """One event of a timeline, as somebody read it."""

    seq: int
    notice: PaymentNotice


class Reading:
    """Reads all timelines as their members, and counts what is wrong."""

    def __init__(self, stage: Stage, begun: list[Begun]) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.said: list[str] = []
        self.events = 0
        self._stage = stage
        self._begun = {each.payment: each for each in begun}
        self._newest: dict[UUID, int] = {}

    async def check(self) -> None:
        """Everything."""
        rows = await self._stage.money.database.fetch("SELECT payment_id, version FROM payments")
        self._newest = {UUID(bytes=row[0]): row[1] for row in rows}
        for person in self._stage.people:
            async with asyncio.timeout(60), live_on(self._stage.chat.port, person.token) as wire:
                await self._check_self(person, await _read(wire, self_dialog_id(person.principal)))
                for talk in self._stage.talks:
                    if person in talk.members:
                        self._check_talk(person, talk, await _read(wire, talk.dialog))

    async def _check_self(self, person: SignIn, events: list[Read]) -> None:
        shown = self._check_order(f"self of {person.name}", events)
        for each in events:
            begun = self._begun[each.notice.payment]
            if person.principal not in (begun.payer, begun.payee):
                self._note("leaked", f"{person.name} is no party of {each.notice}")
            elif person.principal == begun.payer and each.notice.fee_minor is not None:
                self._note("leaked", f"the payer {person.name} sees the fee of {each.notice}")
        for payment, begun in self._begun.items():
            if person.principal in (begun.payer, begun.payee) and shown.get(payment) != self._newest[payment]:
                self._note("missing", f"{person.name} has {shown.get(payment)} of {payment}: {self._newest[payment]}")

    def _check_talk(self, person: SignIn, talk: Talk, events: list[Read]) -> None:
        where = f"{to_text(talk.dialog)} as {person.name} reads it"
        shown = self._check_order(where, events)
        left = talk.left.get(person.principal)
        for each in events:
            notice, begun = each.notice, self._begun[each.notice.payment]
            if left is not None and each.seq > left:
                self._note("leaked", f"{person.name} left at {left} and reads {each}")
            if begun.talk is not talk or begun.may_begin is False:
                self._note("leaked", f"{where}: who began {notice} was no member")
            if talk.sealed and notice != PaymentNotice(payment=notice.payment, version=notice.version):
                self._note("leaked", f"sealed {where}: {notice}")
            if any(getattr(notice, name) is not None for name in _FOR_PARTIES):
                self._note("leaked", f"{where}: {notice}")
        if left is None and not talk.deleted:
            for payment, begun in self._begun.items():
                if begun.talk is talk and begun.may_begin and shown.get(payment) != self._newest[payment]:
                    self._note("missing", f"{where}: {shown.get(payment)} of {payment}: {self._newest[payment]}")

    def _check_order(self, where: str, events: list[Read]) -> dict[UUID, int]:
        """The newest version of each payment in a timeline, in the order in which they came."""
        self.events += len(events)
        shown: dict[UUID, int] = {}
        seen: dict[UUID, set[int]] = defaultdict(set)
        for each in events:
            payment, version = each.notice.payment, each.notice.version
            if version in seen[payment]:
                self._note("doubled", f"{where}: {each}")
            elif version < shown.get(payment, 0):
                self._note("misordered", f"{where}: {each}")
            seen[payment].add(version)
            shown[payment] = max(version, shown.get(payment, 0))
        return shown

    def _note(self, count: str, what: str) -> None:
        self.counts[count] += 1
        if self.counts[count] <= _SAID_MAX:
            self.said.append(f"{count}: {what}")


async def _read(wire: Wire, dialog: bytes) -> list[Read]:
    """The payments of a timeline, as far as the person may read it."""
    found: list[Read] = []
    from_seq = 1
    while True:
        page = await wire.ask(History(7, dialog, from_seq=from_seq, limit=_PAGE, newest_first=False))
        assert isinstance(page, HistoryPage), page
        found += [read for event in page.events if (read := read_payment(event)) is not None]
        if not page.more or not page.events:
            return found
        from_seq = page.events[-1].seq + 1


def read_payment(event: TimelineEvent) -> Read | None:
    """What an event says of a payment; None if it is another one."""
    body = event.body
    if not isinstance(body, Posted) or body.kind is not Kind.PAYMENT:
        return None
    assert body.header.ref is not None
    notice = decode_notice(body.payload, (body.header.ref.type, body.header.ref.id))
    assert body.header.content_type == CONTENT_TYPE
    return Read(event.seq, notice)
