"""`Timelines` on the database in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from protocol.bodies import DialogCreated, MemberLeft, MemberRemoved, SettingsChanged, TimelineEventRaw, tag_of
from protocol.dialog_types import DialogType
from protocol.events import DialogState
from protocol.ids import direct_dialog_id
from protocol.replies import Member
from storage.rows import DialogRoster, DialogRow, Later, SignInState, Snapshot, SnapshotPage
from storage.timelines import PAGE_BYTES_MAX, Timelines
from tests.simulation.database import Database
from tests.simulation.tables import (
    ABOUT_A_MESSAGE,
    DELETED,
    ERASED,
    REACTED,
    Dialog,
    Membership,
    NotSimulatedError,
    Row,
    decode_body,
)

_LATER_ROWS_MAX = 500
_MISSED_LOOKED_AT_MAX = 2000
_NAME_A_DIALOG = (tag_of(DialogCreated), tag_of(SettingsChanged))


class MemoryTimelines(Timelines):
    """The read half; a page of a snapshot looks at `page_dialogs` memberships."""

    def __init__(self, database: Database, *, page_dialogs: int = 200) -> None:
        self._database = database
        self._page_dialogs = page_dialogs

    async def take_snapshot(
        self, principal: bytes, sign_in: bytes, since: int | None, *, window: int, events_max: int
    ) -> Snapshot:
        database = self._database

        def look() -> tuple[Snapshot, int]:
            live = database.sign_ins.get(sign_in) == principal
            page = self._page(principal, b"", since, window) if live else SnapshotPage((), None, since, window)
            state = SignInState.LIVE if live else SignInState.REVOKED
            return Snapshot(state, database.epoch, database.horizon, since is not None, page), database.next_xid

        taken, next_xid = await database.read("snapshot", look)
        if since is not None and (since > next_xid or not await self._affords(principal, taken.page, events_max)):
            return await self.take_snapshot(principal, sign_in, None, window=window, events_max=events_max)
        return taken

    async def read_snapshot_page(self, principal: bytes, page: SnapshotPage) -> SnapshotPage:
        after = page.after
        assert after is not None
        return await self._database.read("page", lambda: self._page(principal, after, page.since, page.window))

    async def read_dialogs(self, principal: bytes, dialogs: Sequence[bytes]) -> list[DialogRow]:
        def look() -> list[DialogRow]:
            found = [(dialog, self._database.dialogs.get(dialog)) for dialog in sorted(set(dialogs))]
            return [
                _row(dialog, dialog.members[principal], dialog.seq + 1)
                for _, dialog in found
                if dialog is not None and principal in dialog.members
            ]

        return await self._database.read("dialogs", look)

    async def read_events(
        self, principal: bytes, ranges: Sequence[tuple[bytes, int, int]], *, limit: int
    ) -> list[TimelineEventRaw]:
        def look() -> list[TimelineEventRaw]:
            events: list[TimelineEventRaw] = []
            for dialog, first, last in ranges:
                events += self._visible(principal, dialog, first, last)[:limit]
            return _cut(events)

        return await self._database.read("events", look)

    async def read_newest(
        self, principal: bytes, dialog: bytes, from_seq: int, to_seq: int, *, limit: int
    ) -> list[TimelineEventRaw]:
        def look() -> list[TimelineEventRaw]:
            newest = self._visible(principal, dialog, from_seq, to_seq)[-limit:]
            return _cut(newest[::-1])[::-1]

        return await self._database.read("newest", look)

    async def read_later(self, principal: bytes, dialog: bytes, first: int, last: int, *, newest_first: bool) -> Later:
        del newest_first

        def look() -> Later:
            found: dict[int, list[TimelineEventRaw]] = {}
            events = list(self._later(principal, dialog, first, last))
            for target, row in sorted(events, key=lambda pair: (pair[1].tag == REACTED, -pair[1].seq)):
                found.setdefault(target, []).append(self._database.dialogs[dialog].shown(row))
            return Later(first, last, found)

        return await self._database.read("later", look)

    async def read_missed(
        self, principal: bytes, dialog: bytes, after: int, before: int, *, limit: int
    ) -> list[TimelineEventRaw] | None:
        if before - after - 1 > _MISSED_LOOKED_AT_MAX:
            return None

        def look() -> list[TimelineEventRaw] | None:
            found, member = self._seen_by(principal, dialog)
            if found is None or member is None:
                return []
            events = [
                found.shown(row)
                for row in found.rows[after : before - 1]
                if row.tag in ABOUT_A_MESSAGE
                and not member.sees(row.seq)
                and _concerns(member, row)
                and not found.hangs_on_erased(row)
            ]
            if len(events) > limit or sum(len(event.body) for event in events) >= PAGE_BYTES_MAX:
                return None
            return events

        return await self._database.read("missed", look)

    async def find_held(self, dialogs: Sequence[bytes]) -> dict[bytes, int]:
        return {dialog: 1 for dialog in dialogs if dialog in self._database.dialogs}

    async def read_roster(self, dialog: bytes) -> DialogRoster:
        def look() -> DialogRoster:
            found = self._database.dialogs.get(dialog)
            if found is None:
                return DialogRoster(DialogType.SELF, 0, {})
            members = {who: member.from_seq for who, member in found.members.items() if member.member}
            return DialogRoster(found.type, found.roster_seq, members)

        return await self._database.read("roster", look)

    async def find_removed(self, dialog: bytes, after: int, until: int) -> dict[bytes, int]:
        def look() -> dict[bytes, int]:
            found = {}
            for row in self._database.dialogs[dialog].rows[after:until]:
                match decode_body(row.body):
                    case MemberRemoved(member=who):
                        found[who] = row.seq
                    case MemberLeft():
                        found[row.author] = row.seq
            return found

        return await self._database.read("removed", look)

    async def read_members(
        self, principal: bytes, dialogs: Sequence[bytes], *, after: bytes, limit: int
    ) -> dict[bytes, list[Member]]:
        def look() -> dict[bytes, list[Member]]:
            found = {dialog: self._database.dialogs.get(dialog) for dialog in dialogs}
            return {
                key: [
                    Member(who, member.role, "", member.delivered, member.read)
                    for who, member in sorted(dialog.members.items())
                    if member.member and who > after
                ][:limit]
                for key, dialog in found.items()
                if dialog is not None and dialog.role_of(principal) is not None
            }

        return await self._database.read("members", look)

    async def find_direct_peers(self, principal: bytes, of: Sequence[bytes]) -> set[bytes]:
        def look() -> set[bytes]:
            there = self._database.dialogs
            return {other for other in of if other != principal and direct_dialog_id(principal, other) in there}

        return await self._database.read("peers", look)

    # -- what they are made of

    async def _affords(self, principal: bytes, page: SnapshotPage, events_max: int) -> bool:
        missed = _count_missed(page)
        while missed <= events_max and page.after is not None:
            page = await self.read_snapshot_page(principal, page)
            missed += _count_missed(page)
        return missed <= events_max

    def _page(self, principal: bytes, after: bytes, since: int | None, window: int) -> SnapshotPage:
        dialogs = sorted(self._database.dialogs.items())
        mine = [dialog for key, dialog in dialogs if key > after and principal in dialog.members][: self._page_dialogs]
        rows = [
            _row(dialog, dialog.members[principal], _unseen_from(dialog, since, window))
            for dialog in mine
            if _has_changed(dialog, dialog.members[principal], since)
        ]
        return SnapshotPage(tuple(rows), mine[-1].dialog if len(mine) == self._page_dialogs else None, since, window)

    def _seen_by(self, principal: bytes, dialog: bytes) -> tuple[Dialog | None, Membership | None]:
        found = self._database.dialogs.get(dialog)
        return found, found.members.get(principal) if found is not None else None

    def _visible(self, principal: bytes, dialog: bytes, first: int, last: int) -> list[TimelineEventRaw]:
        found, member = self._seen_by(principal, dialog)
        if found is None or member is None:
            return []
        return [found.shown(row) for row in found.rows[max(0, first - 1) : last] if member.sees(row.seq)]

    def _later(self, principal: bytes, dialog: bytes, first: int, last: int) -> Iterator[tuple[int, Row]]:
        found, member = self._seen_by(principal, dialog)
        if found is None or member is None:
            return
        about = [row for row in found.rows if row.tag in ABOUT_A_MESSAGE and first <= (row.target or 0) <= last]
        if len(about) > _LATER_ROWS_MAX or sum(len(row.body) for row in about) >= PAGE_BYTES_MAX:
            raise NotSimulatedError("more about the messages of a page than one read brings")
        for row in about:
            target = found.find(row.target)
            kept = row.tag == DELETED or (target is not None and target.tag != ERASED)
            if kept and _concerns(member, row) and not (row.seq <= last and member.sees(row.seq)):
                yield row.target or 0, row


def _concerns(member: Membership, row: Row) -> bool:
    """Whether something done to a message concerns a member: they see the message, and had not left for good."""
    return row.target is not None and member.sees(row.target) and (member.until == 0 or row.seq <= member.until)


def _cut(events: list[TimelineEventRaw]) -> list[TimelineEventRaw]:
    """These up to the one that fills a page."""
    size = 0
    for count, event in enumerate(events, 1):
        size += len(event.body)
        if size >= PAGE_BYTES_MAX:
            return events[:count]
    return events


def _count_missed(page: SnapshotPage) -> int:
    return sum(max(1, row.head_seq - row.unseen_from + 1) for row in page.dialogs)


def _unseen_from(dialog: Dialog, since: int | None, window: int) -> int:
    return max(dialog.seq - window, 0) + 1 if since is None else dialog.first_unseen(since)


def _has_changed(dialog: Dialog, member: Membership, since: int | None) -> bool:
    if since is None:
        return member.member
    return member.xid >= since or (member.member and max(dialog.xid, dialog.receipts_xid) >= since)


def _row(dialog: Dialog, member: Membership, unseen_from: int) -> DialogRow:
    is_member = member.member
    look, messages = dialog.look, dialog.messages
    if not is_member:
        named = [row for row in dialog.rows[: member.until] if row.tag in _NAME_A_DIALOG]
        body = decode_body(named[-1].body)
        assert isinstance(body, DialogCreated | SettingsChanged)
        look, messages = body, dialog.rows[member.until - 1].messages
    state = DialogState(
        dialog=dialog.dialog,
        type=dialog.type,
        mode=dialog.mode,
        name=look.name,
        description=look.description,
        avatar_url=look.avatar_url,
        settings=look.settings,
        role=member.role,
        member=is_member,
        seq=dialog.seq if is_member else member.until,
        messages=messages,
        keys_seq=dialog.keys_seq if is_member else 0,
        member_count=dialog.member_count if is_member else 0,
        first_seq=0,
        visible=member.visible,
        delivered=member.delivered,
        read=member.read,
        read_messages=member.read_messages,
        muted_until_ms=0,
    )
    return DialogRow(state, dialog.seq, unseen_from, member.from_seq)
