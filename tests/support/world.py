"""People and dialogs for tests: made straight in storage, as the server would have made them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec

from protocol import bodies
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.ids import created_dialog_id, direct_dialog_id, new_id, self_dialog_id
from protocol.kinds import Kind
from storage.identity_rows import WhoMayAdd
from storage.postgres.journal import PostgresJournal
from storage.postgres.nodes import PostgresNodes
from storage.postgres.pool import open_pool
from storage.postgres.timelines import PostgresTimelines
from storage.postgres.write_connections import WriteConnections
from storage.rows import ChangeEntry, ChangeResult, Entry, RaisedReceipt, ReceiptRow, Verdict, VerdictCode

encode = msgspec.msgpack.Encoder().encode
UNCHECKED = bytes(64)
"""In the place of a signature: the server looks at its length, clients refuse it."""
_WAITING_FLUSHES = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%flush%'"


@dataclass
class Person:
    """A principal with one device, one sign-in, and its own growing number."""

    principal: bytes
    device: bytes = field(default_factory=new_id)
    sign_in: bytes = field(default_factory=new_id)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def n(self) -> int:
        """The next number of this device."""
        return next(self._numbers)


class World:
    """A journal and timelines on a fresh database, and hands to fill it."""

    def __init__(self, pool: asyncpg.Pool[Any], writes: WriteConnections | None = None) -> None:
        self.pool = pool
        self.writes = writes
        self.journal = PostgresJournal(pool, writes or pool)
        self.timelines = PostgresTimelines(pool)
        self.nodes = PostgresNodes(pool, pool)
        self.incarnation = 0
        self._flush_numbers = itertools.count(1)

    @classmethod
    async def open(cls, url: str) -> World:
        """A world on a migrated database."""
        pool = await open_pool(url, size=10, statement_timeout_s=30.0)
        world = cls(pool, WriteConnections(url, size=10, statement_timeout_s=30.0))
        world.incarnation = await world.journal.begin_incarnation("test")
        return world

    async def close(self) -> None:
        """Close the connections."""
        self.pool.terminate()
        if self.writes is not None:
            self.writes.terminate()

    def over(self, connection: object) -> World:
        """The same world over one connection, whose transaction the test ends."""
        on_one = World(connection)  # type: ignore[arg-type]
        on_one.incarnation = self.incarnation
        return on_one

    async def person(self, kind: int = 1, *, tenant: int = 1) -> Person:
        """A principal with a live sign-in."""
        person = Person(new_id())
        await self.pool.execute(
            "WITH p AS (INSERT INTO principals (principal_id, tenant_id, type, created_at_ms) VALUES ($1, $2, $3, 0))"
            " INSERT INTO devices VALUES ($4, $1, 0)",
            person.principal,
            tenant,
            kind,
            person.device,
        )
        await self.another_sign_in(person)
        return person

    async def chooses(self, person: Person, who_may_add: WhoMayAdd | None) -> None:
        """Give a person a profile that says who may add them, or leaves it to the deployment; without one all may."""
        await self.pool.execute(
            "INSERT INTO people (principal_id, tenant_id, display_name, locale, timezone, updated_at_ms, who_may_add)"
            " VALUES ($1, 1, '', '', '', 0, $2)"
            " ON CONFLICT (principal_id) DO UPDATE SET who_may_add = excluded.who_may_add",
            person.principal,
            who_may_add,
        )

    async def another_sign_in(self, person: Person) -> None:
        """Store the sign-in that a person's fields name."""
        await self.pool.execute(
            "INSERT INTO sign_ins (sign_in_id, principal_id, device_id, tenant_id, created_at_ms, last_used_at_ms)"
            " VALUES ($1, $2, $3, 1, 0, 0)",
            person.sign_in,
            person.principal,
            person.device,
        )

    async def people(self, count: int) -> list[Person]:
        """Several."""
        return [await self.person() for _ in range(count)]

    async def create(
        self, kind: DialogType, author: Person, *others: Person, mode: Mode = Mode.OPEN, public: bool = False
    ) -> bytes:
        """A dialog of the author and others; its id."""
        result, dialog = await self.try_create(kind, author, *others, mode=mode, public=public)
        assert result.verdict.code is VerdictCode.OK, result
        return dialog

    async def try_create(
        self,
        kind: DialogType,
        author: Person,
        *others: Person,
        mode: Mode = Mode.OPEN,
        public: bool = False,
        n: int | None = None,
    ) -> tuple[ChangeResult, bytes]:
        """Try to create a dialog."""
        number = author.n() if n is None else n
        members = [author.principal, *(other.principal for other in others)]
        if kind is DialogType.SELF:
            dialog = self_dialog_id(author.principal)
        elif kind is DialogType.DIRECT:
            dialog = direct_dialog_id(*members)
        else:
            dialog = created_dialog_id(author.device, number)
        admin = Role.ADMIN if DIALOG_TYPES[kind].has_admins else Role.MEMBER
        roles = (admin, *(Role.MEMBER for _ in others))
        settings = bodies.Settings(is_public=public)
        body = bodies.DialogCreated(
            kind,
            mode,
            "name",
            "",
            "",
            settings,
            [bodies.MemberRole(*pair) for pair in zip(members, roles, strict=True)],
            UNCHECKED if mode is Mode.SEALED else None,
        )
        entry = ChangeEntry(dialog, author.principal, author.device, number, body)
        return await self.change(entry), dialog

    async def change(self, entry: ChangeEntry) -> ChangeResult:
        """Apply a change."""
        return await self.journal.change(entry, incarnation=self.incarnation, flush_no=next(self._flush_numbers))

    async def act(
        self,
        change: type[bodies.Body],
        dialog: bytes,
        author: Person,
        *subjects: Person,
        target: int = 1,
        n: int | None = None,
        signed_at: int | None = None,
    ) -> ChangeResult:
        """A change of that kind about principals, or about the message `target`; `signed_at` is a `keys_seq`."""
        ids = [subject.principal for subject in subjects]
        signed = None if signed_at is None else bodies.Signed(signed_at, bytes(32), UNCHECKED)
        make: dict[type[bodies.Body], Callable[[], bodies.Body]] = {
            bodies.MembersAdded: lambda: bodies.MembersAdded(ids, signed),
            bodies.Promoted: lambda: bodies.Promoted(ids[0], signed),
            bodies.MemberLeft: bodies.MemberLeft,
            bodies.Deleted: lambda: bodies.Deleted(target),
        }
        body = make[change]() if change in make else change(*ids)
        number = author.n() if n is None else n
        return await self.change(ChangeEntry(dialog, author.principal, author.device, number, body))

    async def flush(self, *entries: Entry, wait: bool = False) -> list[Verdict]:
        """Flush entries as one batch."""
        return await self.journal.flush(
            entries, incarnation=self.incarnation, flush_no=next(self._flush_numbers), wait=wait
        )

    async def raise_receipts(self, *receipts: ReceiptRow) -> list[RaisedReceipt]:
        """Raise high-water marks."""
        epoch = await self.read_epoch()
        return await self.journal.raise_receipts(receipts, incarnation=self.incarnation, epoch=epoch)

    async def read_epoch(self) -> int:
        """The epoch that the database is in."""
        epoch: int = await self.pool.fetchval("SELECT epoch FROM deployment")
        return epoch

    async def read_horizon(self) -> int:
        """The snapshot horizon."""
        return (await self.journal.read_horizon(incarnation=self.incarnation)).horizon

    @contextlib.asynccontextmanager
    async def held(self, dialog: bytes) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        """While this is open, the transaction of the connection that it gives holds the head of a dialog."""
        async with self.pool.acquire() as holder, holder.transaction():
            await holder.execute("SELECT 1 FROM heads WHERE dialog_id = $1 FOR UPDATE", dialog)
            yield holder

    async def until_a_flush_waits(self) -> None:
        """Return once a flush waits for a lock."""
        while not await self.pool.fetchval(_WAITING_FLUSHES):
            pass

    async def say(self, dialog: bytes, author: Person, text: str = "hello") -> Verdict:
        """Flush one message."""
        return (await self.flush(message(dialog, author, text)))[0]


def message(
    dialog: bytes,
    author: Person,
    text: str = "hello",
    *,
    n: int | None = None,
    keys_seq: int = 0,
    reply_to: int | None = None,
    kind: Kind = Kind.MESSAGE,
    expires_at_ms: int | None = None,
    session: bytes | None = None,
    share: bytes | None = None,
    requester: Person | None = None,
) -> Entry:
    """A message on its way."""
    header = bodies.Header(
        keys_seq=keys_seq, reply_to=reply_to, expires_at_ms=expires_at_ms, session=session, share=share
    )
    judged = None if requester is None else requester.principal
    return Entry(
        dialog=dialog,
        author=author.principal,
        device=author.device,
        n=author.n() if n is None else n,
        tag=1,
        body=encode(bodies.Posted(kind, header, text.encode(), requester=judged)),
        counts=True,
        keys_seq=keys_seq,
        target=reply_to,
        expires_at_ms=expires_at_ms,
        session=session,
        share=share,
        requester=judged,
    )


def edit(dialog: bytes, author: Person, target: int, text: str = "edited") -> Entry:
    """An edit on its way."""
    body = encode(bodies.Edited(target, text.encode()))
    return Entry(dialog, author.principal, author.device, author.n(), 2, body, target=target)


def reaction(dialog: bytes, author: Person, target: int, emoji: str = "+") -> Entry:
    """A reaction on its way."""
    body = encode(bodies.Reacted(target, emoji.encode()))
    return Entry(dialog, author.principal, author.device, author.n(), 4, body, target=target)
