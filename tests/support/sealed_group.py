"""A sealed group whose members write events with commitments: their receivers could report them.

What is sealed is not encrypted here: the server does not know the difference.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import msgspec

from protocol.bodies import Edited, Header, Posted, Reacted, tag_of
from protocol.dialog_types import DialogType, Mode
from protocol.franking import FRANKING_KEY_BYTES, Franked, commit
from protocol.ids import new_id
from protocol.kinds import Kind
from protocol.report_commands import Report
from server.entries import make_entry
from storage.postgres.shares import PostgresShares
from storage.rows import VerdictCode
from storage.shares import StagedSlices
from tests.support.sealing import one_device_of
from tests.support.world import Person, World


@dataclass(frozen=True, slots=True)
class Written:
    """A sealed event, and what its receivers have found in it."""

    seq: int
    franked: Franked
    key: bytes

    def report(self, request: int, reason: str = "") -> Report:
        """The command that reports it, truly."""
        return Report(request, self.franked.dialog, self.seq, self.key, self.franked.content, reason)


class SealedGroup:
    """Members of a sealed group, each with one device."""

    def __init__(self, world: World, dialog: bytes, members: list[Person]) -> None:
        self.world = world
        self.dialog = dialog
        self.members = members
        self._sessions: dict[bytes, bytes] = {}

    @classmethod
    async def of_three(cls, world: World) -> SealedGroup:
        """A new one, of new people."""
        members = [await one_device_of(world) for _ in range(3)]
        return cls(world, await world.create(DialogType.GROUP, *members, mode=Mode.SEALED), members)

    def forget_sessions(self) -> None:
        """Each begins a new session with what it writes next: the members have changed."""
        self._sessions.clear()

    async def post(
        self, author: Person, content: bytes, *, reply_to: int | None = None, expires_at_ms: int | None = None
    ) -> Written:
        """A message."""
        header = Header(reply_to=reply_to, expires_at_ms=expires_at_ms)
        return await self._write(author, content, Posted(Kind.MESSAGE, header, content[::-1]), None)

    async def edit(self, author: Person, message: Written, content: bytes) -> Written:
        """An edit."""
        return await self._write(author, content, Edited(message.seq, content[::-1]), message.seq)

    async def react(self, author: Person, message: Written, content: bytes) -> Written:
        """A reaction."""
        return await self._write(author, content, Reacted(message.seq, content[::-1]), message.seq)

    async def forge(
        self, author: Person, of: Written, body: Posted | Edited | Reacted, *, n: int | None = None
    ) -> Written:
        """An event with the commitment of another one: its report says what that one contained, and is false."""
        seq = await self._append(author, author.n() if n is None else n, body, commit(of.key, of.franked))
        return Written(seq, replace(of.franked, dialog=self.dialog), of.key)

    async def _write(
        self, author: Person, content: bytes, body: Posted | Edited | Reacted, target: int | None
    ) -> Written:
        tag = tag_of(type(body))
        franked = Franked(self.dialog, author.principal, author.device, author.n(), tag, target, content)
        key = os.urandom(FRANKING_KEY_BYTES)
        return Written(await self._append(author, franked.n, body, commit(key, franked)), franked, key)

    async def _append(self, author: Person, n: int, body: Posted | Edited | Reacted, commitment: bytes) -> int:
        share = None if author.device in self._sessions else await self._share(author)
        header = msgspec.structs.replace(
            body.header,
            keys_seq=await self._read_keys_seq(),
            commitment=commitment,
            session=self._sessions[author.device],
            share=share,
        )
        sealed = msgspec.structs.replace(body, header=header)
        (verdict,) = await self.world.flush(make_entry(self.dialog, author.principal, author.device, n, sealed))
        assert verdict.code is VerdictCode.OK, verdict
        return verdict.seq

    async def _share(self, author: Person) -> bytes:
        """Share a new session of a device with the others; the share that the first event names."""
        share, session = new_id(), os.urandom(32)
        staged = StagedSlices(
            principal=author.principal,
            device=author.device,
            share=share,
            dialog=self.dialog,
            session=session,
            keys_seq=await self._read_keys_seq(),
            slices=[(each.device, b"keys") for each in self.members if each is not author],
        )
        assert (await PostgresShares(self.world.pool).stage(staged, 2**50)).complete
        self._sessions[author.device] = session
        return share

    async def _read_keys_seq(self) -> int:
        found: int = await self.world.pool.fetchval("SELECT keys_seq FROM heads WHERE dialog_id = $1", self.dialog)
        return found
