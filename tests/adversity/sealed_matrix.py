"""A device that Matrix' own library runs, in a run of sealed conversations: it reads what it is given.

Its keys and its entry in its person's log go through the server like those of every device; slices and payloads go to
the library as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import asyncpg
from websockets.exceptions import WebSocketException

from protocol.bodies import TimelineEvent
from protocol.canonical import device_id_of, encode_canonical, from_base64, room_id_of, to_base64, user_id_of
from protocol.commands import History
from protocol.cross_signing import ALGORITHMS, read_device_keys
from protocol.device_log import LogState
from protocol.events import HeartbeatReply, KeySlices
from protocol.key_commands import AppendDeviceLog, NamedKey, UploadKeys
from protocol.limits import HISTORY_EVENTS_MAX
from protocol.replies import Failed, HistoryPage, KeysUploaded
from protocol.share_commands import ConfirmSlices
from tchat.crypto.errors import Reason
from tchat.crypto.olm import KnownDevice
from tchat.crypto.own_identity import OwnIdentity
from tchat.encryption.contents import content_of
from tests.adversity.sealed_devices import Seen, Where
from tests.adversity.sealed_node import MortalNode
from tests.adversity.sealed_verdict import Sealed
from tests.engines.olm_machine import OlmMachine
from tests.engines.server_process import EngineError
from tests.support.harness import Wire, live_on
from tests.support.world import Person

_AGAIN_S = 0.05
_SLICES = "SELECT device_id, body FROM slices WHERE to_device = $1 ORDER BY number"


@dataclass
class MatrixDevice:
    """One OlmMachine at the server; it reads, and never writes."""

    node: MortalNode
    person: Person
    machine: OlmMachine
    seen: dict[Where, Seen] = field(default_factory=dict)
    ended: bool = False
    """It was removed from its person's log."""
    _position: str = ""
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(10))
    _work: asyncio.Task[None] | None = None

    async def start(self, identity: OwnIdentity, log: LogState, now_ms: int) -> None:
        """Show its keys, be added to its person's log by their identity, and read from now on."""
        me = self.person
        made = self.machine.call("start", user_id_of(me.principal), device_id_of(me.device))
        device_keys = encode_canonical(made["device_keys"])
        public = read_device_keys(device_keys, me.principal, me.device)
        _, entry = identity.add_device(log, me.device, public, now_ms)
        one_time = sorted(_named(made["one_time_keys"]), key=lambda named: from_base64(named.id))
        async with live_on(self.node.port, self.node.token(me)) as wire:
            uploaded = await wire.ask(UploadKeys(3, 1, device_keys, one_time, *_named(made["fallback_keys"])))
            assert isinstance(uploaded, KeysUploaded), uploaded
            added = await wire.ask(AppendDeviceLog(4, [entry]))
            assert not isinstance(added, Failed), added
        self._work = asyncio.create_task(self._read_on())

    async def stop(self) -> None:
        """Read no more."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
            self._work = None

    async def read_all(self, dialogs: Iterable[bytes]) -> None:
        """Stop, and read what it is still entitled to: slices that are not confirmed, then the dialogs' history."""
        await self.stop()
        async with live_on(self.node.port, self.node.token(self.person), self._position) as wire:
            for message in wire.caught_up:
                await self._take(wire, message)
            for dialog in dialogs:
                page = HistoryPage(0, dialog, [], more=True)
                seq = 1
                while page.more:
                    asked = History(next(self._ids), dialog, seq, limit=HISTORY_EVENTS_MAX, newest_first=False)
                    answer = await wire.ask(asked)
                    if not isinstance(answer, HistoryPage):
                        break
                    page = answer
                    for event in page.events:
                        await self._take(wire, event)
                        seq = event.seq + 1

    async def open_with_database(
        self, pool: asyncpg.Pool, sealed: Iterable[Sealed], known: Mapping[bytes, KnownDevice]
    ) -> set[Where]:
        """What it can open that has the whole database: all slices for it, live or not, and all events."""
        for device, body in await pool.fetch(_SLICES, self.person.device):
            await self._receive(known[device].principal, body)
        return {one.where for one in sealed if await self._opens(one.event)}

    async def _read_on(self) -> None:
        while True:
            with contextlib.suppress(OSError, WebSocketException):
                async with live_on(self.node.port, self.node.token(self.person), self._position) as wire:
                    self._position = wire.position
                    for message in wire.caught_up:
                        await self._take(wire, message)
                    while True:
                        await self._take(wire, await wire.receive())
            await asyncio.sleep(_AGAIN_S)

    async def _take(self, wire: Wire, message: object) -> None:
        match message:
            case KeySlices(slices=slices):
                for one in slices:
                    await self._receive(one.author, one.body)
                await wire.send(ConfirmSlices(next(self._ids), [one.number for one in slices]))
            case HeartbeatReply(position=position) if position:
                self._position = position
            case TimelineEvent() if content_of(message) is not None:
                reason = None if await self._opens(message) else Reason.UNKNOWN_SESSION
                seen = self.seen.setdefault((message.dialog, message.seq), Seen(reason, reason))
                seen.last = None if seen.last is None else reason
            case _:
                pass

    async def _receive(self, author: bytes, body: bytes) -> None:
        sent = {"type": "m.room.encrypted", "sender": user_id_of(author), "content": json.loads(body)}
        with contextlib.suppress(EngineError):
            await asyncio.to_thread(self.machine.call, "receive", [sent])

    async def _opens(self, event: TimelineEvent) -> bool:
        body = content_of(event)
        assert body is not None, "only what people write is sealed"
        assert body.header.session is not None, "the server takes no other ones"
        room, content = room_id_of(event.dialog), {"algorithm": ALGORITHMS[1]}
        content |= {"ciphertext": to_base64(body.payload), "session_id": to_base64(body.header.session)}
        about = {"event_id": f"${event.dialog.hex()}-{event.seq}", "origin_server_ts": event.at_ms, "room_id": room}
        matrix = {"type": "m.room.encrypted", "sender": user_id_of(event.author), "content": content, **about}
        try:
            opened = await asyncio.to_thread(self.machine.call, "decrypt", room, matrix, "Untrusted")
        except EngineError:
            return False
        inside = opened["content"]
        return (inside["device"], inside["n"]) == (device_id_of(event.device), event.n)


def _named(keys: Mapping[str, object]) -> list[NamedKey]:
    return [NamedKey(name.partition(":")[2], encode_canonical(key)) for name, key in keys.items()]
