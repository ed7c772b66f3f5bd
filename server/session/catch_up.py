"""Catching up: state and events read from the timeline, page by page as the socket drains, until live.

The same for the first sync and for a session that fell behind. Each round sends, for every dialog that is due, its
state and then its events up to the head. Events that arrive during a round are held by the outbox, or noted as missed
and due in the next round. The switch to live is synchronous: no other task runs in between.

Of what was missed, each dialog is noted as such until its session has its turn to read the state: few sessions read at
once, and who waits for its turn holds nothing. What was sent is not sent again in a later round. Many sessions may lack
the same events, while these go on: pages are shared (`shared_pages.py`), so that reading is faster than writing.

A sync sends all slices that the device has not confirmed first, in pages. After that, and when a session fell behind,
each page of events is preceded by the slices of the shares that its events name.

A window may reach what is only in the archive. Where that cannot be read now, the window begins later, with what the
journal has: nobody waits for the archive to be live. What a position lacks is never cut.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from protocol.bodies import TimelineEventRaw
from protocol.codec import JSON, MissedChangesRaw
from protocol.dialog_types import DIALOG_TYPES, Mode
from protocol.events import DialogState
from protocol.ids import NIL
from protocol.limits import MISSED_CHANGES_MAX, REPLY_BYTES_MAX, SLICES_PER_COMMAND_MAX, STATE_MEMBERS_MAX
from protocol.replies import Member
from server.clock import Clock
from server.delivery.outbox import Outbox
from server.delivery.prepared_message import PreparedEvents
from server.delivery.shared_keys import find_share, messages_of
from server.session.shared_pages import SharedPages
from storage.rows import DialogRow, Snapshot
from storage.shares import Shares, SliceRow
from storage.timelines import Timelines, cut_short
from storage.unavailable import StorageUnavailableError

_DIALOGS_PER_ROUND = 50
_MISSED_PER_ROUND = 10
_ROUNDS_AT_ONCE = 8
"""Sessions that read the states of what they missed."""
_MEMBERS_PER_ROUND = 1000
"""Members listed in the states of one round: building and encoding them holds up everybody else for milliseconds."""
_SHARES_REMEMBERED = 10_000
"""Of what one catch-up has sent: above this a slice may be sent twice."""


class Plan:
    """What to send first: a snapshot, page by page, or nothing but what the outbox missed."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.page = snapshot.page if snapshot else None
        self.horizon = snapshot.horizon if snapshot else None
        self.slices = snapshot is not None and snapshot.keys.slices
        self.why = ("resumed" if snapshot.recovered else "windowed") if snapshot else "behind"

    @property
    def lacks_nothing(self) -> bool:
        """Whether nothing but what the outbox missed is to be sent."""
        page = self.page
        return page is None or not (page.dialogs or page.after is not None or self.slices)


@dataclass(slots=True)
class _Run:
    """One catch-up. `sent_to`: the last number sent, by dialog. `journal_only`: windows do without the archive.

    `keyed`: the shares `(device, share)` of which the device was sent its slice. `ready`: states that leave with the
    first page of their events, in one write.
    """

    outbox: Outbox
    principal: bytes
    device: bytes
    windowed: bool
    sent_to: dict[bytes, int] = field(default_factory=dict)
    keyed: set[tuple[bytes, bytes]] = field(default_factory=set)
    ready: list[msgspec.Struct] = field(default_factory=list)
    journal_only: bool = False


class CatchUp:
    """Reads for the sessions of one node; `page_events` is the most of one page."""

    def __init__(self, timelines: Timelines, shares: Shares, clock: Clock, *, page_events: int) -> None:
        self._timelines = timelines
        self._shares = shares
        self._page_events = page_events
        self._pages = SharedPages(timelines, clock, page_events=page_events)
        self._turns = asyncio.Semaphore(_ROUNDS_AT_ONCE)
        self.running = 0
        """Sessions that catch up now."""
        self.begun = Counter({"resumed": 0, "windowed": 0, "behind": 0})
        """Since the start, by why: after a sync with or without all since the client's position, or fallen behind."""

    def try_at_once(self, outbox: Outbox, plan: Plan) -> bool:
        """Be live at once where the plan has nothing to send, nothing was missed, and the socket takes what is queued.

        False: `run` is needed.
        """
        if not plan.lacks_nothing or outbox.overwhelmed or outbox.stuck or not outbox.try_live({}):
            return False
        self.begun[plan.why] += 1
        return True

    async def run(self, outbox: Outbox, principal: bytes, device: bytes, plan: Plan) -> bool:
        """Catch up until live; False when more was missed than can be remembered."""
        self.begun[plan.why] += 1
        self.running += 1
        try:
            return await self._run(_Run(outbox, principal, device, plan.why == "windowed"), plan)
        finally:
            self.running -= 1
            if not self.running:
                self._pages.forget()

    async def _run(self, run: _Run, plan: Plan) -> bool:
        if plan.slices:
            await self._send_slices(run)
        page = plan.page
        while page is not None:
            due = {row.state.dialog: row.unseen_from for row in page.dialogs}
            await self._send_all(run, due, {row.state.dialog: row for row in page.dialogs})
            page = await self._timelines.read_snapshot_page(run.principal, page) if page.after is not None else None
        while True:
            await run.outbox.wait_room()
            if run.outbox.overwhelmed:
                return False
            if run.outbox.try_live(run.sent_to):
                return True
            await self._send_missed(run)

    async def _send_slices(self, run: _Run) -> None:
        """All that the device has not confirmed."""
        after, more = 0, True
        while more:
            await run.outbox.wait_drained()
            rows = await self._shares.read(run.device, after=after, limit=SLICES_PER_COMMAND_MAX)
            self._push_slices(run, [row for row in rows if (row.device, row.share) not in run.keyed])
            more = len(rows) == SLICES_PER_COMMAND_MAX
            after = rows[-1].number if rows else 0

    async def _send_keys(self, run: _Run, events: Sequence[TimelineEventRaw], sealed: set[bytes]) -> None:
        """What these events bring for the device, as far as it was not sent: call it before they are."""
        if not sealed:
            return
        named = {share: None for event in events if event.dialog in sealed and (share := find_share(event)) is not None}
        lacked = [share for share in named if share not in run.keyed]
        if lacked:
            self._push_slices(run, await self._shares.read_shared(lacked, [run.device]))

    @staticmethod
    def _push_slices(run: _Run, rows: list[SliceRow]) -> None:
        for message in messages_of(rows):
            run.outbox.push(message)
        for row in rows:
            if len(run.keyed) < _SHARES_REMEMBERED:
                run.keyed.add((row.device, row.share))

    async def _send_all(self, run: _Run, due: dict[bytes, int], rows: dict[bytes, DialogRow]) -> None:
        for chunk in _rounds(due, rows):
            # From the second on, others have their turn of the loop first.
            await (run.outbox.wait_drained() if run.sent_to else run.outbox.wait_room())
            later = await self._find_later(chunk) if run.journal_only else {}
            if later:
                await self._send_slices(run)
            states = await self._make_states(run, chunk | later, [rows[dialog] for dialog in chunk])
            await self._send_events(run, states)

    async def _send_missed(self, run: _Run) -> None:
        """Some of what the outbox missed, from the first number on that was not sent yet."""
        later: dict[bytes, int] = {}
        async with self._turns:  # without a wait for the socket
            missed = run.outbox.take_missed(_MISSED_PER_ROUND)
            due = {dialog: max(first, run.sent_to.get(dialog, 0) + 1) for dialog, first in missed.items()}
            if run.journal_only:
                later = await self._find_later(due)
            rows = await self._timelines.read_dialogs(run.principal, list(due))
            states = await self._make_states(run, due | later, rows)
        if later:
            await self._send_slices(run)
        await self._send_events(run, states)

    async def _make_states(self, run: _Run, due: dict[bytes, int], rows: list[DialogRow]) -> list[DialogState]:
        """What these dialogs are now, each with what was done while the member was away: ready to be sent."""
        principal = run.principal
        members = await self._read_members(principal, [row.state for row in rows])
        states: list[DialogState] = []
        for row in rows:
            state = row.state
            dialog, from_seq = state.dialog, due[state.dialog]
            missed = None
            if len(state.visible) > 1 or row.joined_seq >= max(from_seq, 2):
                missed = await self._read_missed(principal, row, from_seq)
            if missed is not None and not missed.complete:
                from_seq = missed.before_seq
            first_seq, listed = _first_visible(state, from_seq), members.get(dialog, state.members)
            states.append(msgspec.structs.replace(state, first_seq=first_seq, members=listed))
            run.ready.append(states[-1])
            if missed is not None:
                run.ready.append(missed)
            run.sent_to[dialog] = max(run.sent_to.get(dialog, 0), row.head_seq)
        return states

    async def _read_members(self, principal: bytes, states: list[DialogState]) -> dict[bytes, list[Member]]:
        """Those of the small dialogs whose states came without them."""
        lacking = [
            state.dialog
            for state in states
            if not state.members and state.member and state.member_count <= STATE_MEMBERS_MAX
        ]
        if not lacking:
            return {}
        return await self._timelines.read_members(principal, lacking, after=NIL, limit=STATE_MEMBERS_MAX)

    async def _read_missed(self, principal: bytes, row: DialogRow, from_seq: int) -> MissedChangesRaw | None:
        """What was done while the member was away, if they came back in what is sent from `from_seq` on."""
        state = row.state
        if DIALOG_TYPES[state.type].full_history:
            # All of it is visible, so nothing says since when they were away, or whether this is the first time.
            returned = row.joined_seq >= max(from_seq, 2)
            return MissedChangesRaw(state.dialog, row.joined_seq, [], False) if returned else None
        returns = [at for at in range(1, len(state.visible)) if state.visible[at][0] >= from_seq]
        if not returns:
            return None
        after, before = state.visible[returns[0] - 1][1], state.visible[returns[-1]][0]
        events = await self._timelines.read_missed(principal, state.dialog, after, before, limit=MISSED_CHANGES_MAX)
        listed = MissedChangesRaw(state.dialog, before, events or [], events is not None)
        if len(JSON.encode(listed)) > REPLY_BYTES_MAX:  # the larger of the two forms
            return MissedChangesRaw(state.dialog, before, [], False)
        return listed

    async def _send_events(self, run: _Run, states: list[DialogState]) -> None:
        """What is ready, then the events of several dialogs from `first_seq` on, each in order, a page at a time."""
        ranges = {state.dialog: (state.first_seq, state.seq) for state in states}
        sealed = {state.dialog for state in states if state.mode is Mode.SEALED}
        while ranges := {dialog: (first, last) for dialog, (first, last) in ranges.items() if first <= last}:
            await run.outbox.wait_room()
            page = _fitting(ranges, self._page_events)
            shared = len(page) == 1 and any(state.dialog == page[0][0] and _sees_all(state) for state in states)
            try:
                read = await (self._pages.read(run.principal, *page[0]) if shared else self._read_page(run, page))
            except StorageUnavailableError:
                _push_ready(run)
                later = await self._begin_later(run, states, ranges)
                if not later:
                    raise
                ranges |= later
                continue
            _push_ready(run)
            await self._send_keys(run, read.events, sealed)
            if read.events:
                run.outbox.push_page(read)
            if read.events and shared:  # it may have fewer than a page that was read for this one alone
                ranges[page[0][0]] = (read.events[-1].seq + 1, page[0][2])
            else:
                ranges |= self._find_rest(page, read.events)
        _push_ready(run)

    async def _read_page(self, run: _Run, ranges: list[tuple[bytes, int, int]]) -> PreparedEvents:
        return PreparedEvents(await self._timelines.read_events(run.principal, ranges, limit=self._page_events))

    def _find_rest(
        self, page: list[tuple[bytes, int, int]], events: Sequence[TimelineEventRaw]
    ) -> dict[bytes, tuple[int, int]]:
        """What is left of each range after a page, if that reached it."""
        if len(events) < self._page_events and not cut_short(events):
            return {dialog: (last + 1, last) for dialog, _, last in page}
        reached = {event.dialog: event.seq for event in events}
        sent = Counter(event.dialog for event in events)
        cut_in = events[-1].dialog if cut_short(events) else None
        rest: dict[bytes, tuple[int, int]] = {}
        for dialog, _, last in page:
            if dialog == cut_in or sent[dialog] == self._page_events:
                rest[dialog] = (reached[dialog] + 1, last)
            elif cut_in is None or dialog in reached:
                rest[dialog] = (last + 1, last)
        return rest

    async def _begin_later(
        self, run: _Run, states: list[DialogState], ranges: dict[bytes, tuple[int, int]]
    ) -> dict[bytes, tuple[int, int]]:
        """What is left of windows after a failure; nothing if that does not help, or would leave a hole in one."""
        if not run.windowed:
            return {}
        run.journal_only = True
        begun = {state.dialog: state for state in states}
        firsts = {dialog: first for dialog, (first, _) in ranges.items()}
        later = await self._find_later(firsts)
        if later:
            await self._send_slices(run)
        if any(firsts[dialog] != begun[dialog].first_seq for dialog in later):
            return {}
        for dialog, first in later.items():
            begins = _first_visible(begun[dialog], first)
            states[states.index(begun[dialog])] = state = msgspec.structs.replace(begun[dialog], first_seq=begins)
            run.outbox.push(state)
            later[dialog] = begins
        return {dialog: (first, ranges[dialog][1]) for dialog, first in later.items()}

    async def _find_later(self, firsts: Mapping[bytes, int]) -> dict[bytes, int]:
        """Where these dialogs are to begin so that the journal has the rest of them; without those that may stay.

        Events that are left out may have brought keys since the catch-up began: send the slices.
        """
        held = await self._timelines.find_held(list(firsts))
        return {dialog: held[dialog] for dialog, first in firsts.items() if held.get(dialog, 0) > first}


def _push_ready(run: _Run) -> None:
    if run.ready:
        run.outbox.push_all(run.ready)
        run.ready.clear()


def _rounds(due: dict[bytes, int], rows: dict[bytes, DialogRow]) -> Iterator[dict[bytes, int]]:
    """The dialogs that are due, in parts of bounded work."""
    chunk: dict[bytes, int] = {}
    members = 0
    for dialog, first in due.items():
        count = rows[dialog].state.member_count
        listed = count if count <= STATE_MEMBERS_MAX else 0
        if len(chunk) == _DIALOGS_PER_ROUND or members + listed > _MEMBERS_PER_ROUND:
            yield chunk
            chunk, members = {}, 0
        chunk[dialog] = first
        members += listed
    if chunk:
        yield chunk


def _fitting(ranges: dict[bytes, tuple[int, int]], limit: int) -> list[tuple[bytes, int, int]]:
    """As many dialogs at once as one page can hold if each is short; a long one takes several turns."""
    page: list[tuple[bytes, int, int]] = []
    count = 0
    for dialog, (first, last) in ranges.items():
        page.append((dialog, first, last))
        count += min(last - first + 1, limit)
        if count >= limit:
            break
    return page


def _first_visible(state: DialogState, from_seq: int) -> int:
    """The first number from `from_seq` on that the member may see; one past the head if there is none."""
    for first, last in state.visible:
        if last == 0 or last >= from_seq:
            return max(first, from_seq)
    return max(state.seq + 1, from_seq)


def _sees_all(state: DialogState) -> bool:
    """Whether the member may see all events from `first_seq` on."""
    return any(first <= state.first_seq and (last == 0 or last >= state.seq) for first, last in state.visible)
