"""Real clients in a sealed group on a real node, each behind a proxy that may lie to it; and what they notice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.codec import ServerMessage
from protocol.commands import Create, Send
from protocol.dialog_types import DialogType
from protocol.ids import NIL
from protocol.share_commands import UploadSlices
from tchat.actions import ConnectionState, Sent
from tchat.encryption.notices import (
    ChangeNotBelieved,
    DevicesDoubted,
    KeysNotTaken,
    MessagesMissing,
    NowReadable,
    Standing,
    Unreadable,
    ViewsDiffer,
)
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tests.support.harness import Running
from tests.support.lying_proxy import LyingProxy
from tests.support.world import Person

_NOTICED_S_MAX = 15.0
_LOOK_S = 0.01
_QUIET_S = 0.3
"""For so long nothing must leave of what is held: clients on this machine answer within a few milliseconds."""
_BACKED_UP = "SELECT count(*) FROM backups WHERE principal_id = $1"
ALARMS = (Unreadable, DevicesDoubted, ChangeNotBelieved, ViewsDiffer, MessagesMissing, KeysNotTaken)
"""What a client says when something is not as it should be."""


@dataclass
class Player:
    """A person at a client, behind a proxy."""

    person: Person
    client: Client
    proxy: LyingProxy
    store: MemoryStore
    heard: list[object]

    @property
    def id(self) -> bytes:
        """The person."""
        return self.person.principal

    @property
    def alarms(self) -> list[object]:
        """What this client found wrong, and still does."""
        later = {each.event.seq for each in self.heard if isinstance(each, NowReadable)}
        found = [each for each in self.heard if isinstance(each, ALARMS)]
        return [each for each in found if not (isinstance(each, Unreadable) and each.event.seq in later)]

    async def hears(self, kind: type[Any], when: Callable[[Any], bool] = lambda _found: True) -> Any:
        """The first notification of this kind, once it is there."""

        def find() -> Any:
            return next((each for each in self.heard if isinstance(each, kind) and when(each)), None)

        try:
            async with asyncio.timeout(_NOTICED_S_MAX):
                await self.client.wait_until(lambda: find() is not None)
        except TimeoutError as error:
            raise TimeoutError(f"no {kind.__name__}; only {self.alarms} and {self.heard[-3:]}") from error
        return find()

    async def reads(self, dialog: bytes, text: bytes) -> None:
        """Return once the message with this text is shown."""
        await self.hears(object, lambda heard: self._shows(heard, dialog, text))

    def has_read(self, dialog: bytes, text: bytes) -> bool:
        """Whether a message with this text was shown."""
        return any(self._shows(each, dialog, text) for each in self.heard)

    async def knows(self, other: Player, length: int) -> None:
        """Return once this client has so much of the device log of another player, or of its own person."""
        people = self.client.encryption.people
        async with asyncio.timeout(_NOTICED_S_MAX):
            while people.newest_of(other.id)[1] < length:  # noqa: ASYNC110 - no notification comes with it
                await asyncio.sleep(_LOOK_S)

    async def says(self, dialog: bytes, text: bytes) -> int:
        """Send, and wait until it is stored; its number."""
        async with asyncio.timeout(_NOTICED_S_MAX):
            return (await self.client.send(dialog, text)).seq

    async def stands(self, standing: Standing) -> None:
        """Return once this client is live, and its device this to others."""
        client = self.client
        async with asyncio.timeout(_NOTICED_S_MAX):
            await client.wait_until(
                lambda: client.state is ConnectionState.LIVE and client.encryption.standing is standing
            )

    async def is_held(self, dialog: bytes) -> bool:
        """Whether nothing leaves of what this person says there."""
        n = self.client.submit(Send(0, dialog, 0, b"held"))
        await asyncio.sleep(_QUIET_S)
        return not any(isinstance(each, Sent) and each.acked.n == n for each in self.heard)

    @staticmethod
    def _shows(heard: object, dialog: bytes, text: bytes) -> bool:
        event = heard.event if isinstance(heard, NowReadable) else heard
        if not isinstance(event, TimelineEvent) or event.dialog != dialog:
            return False
        return isinstance(event.body, b.Posted) and event.body.payload == text


@dataclass
class Stage:
    """Ann (an admin), Bo and Cy in a sealed group, and Eve, who is in no dialog of theirs."""

    server: Running
    ann: Player
    bo: Player
    cy: Player
    eve: Player
    group: bytes = b""
    strangers: set[bytes] = field(default_factory=set)
    """Devices that must get no keys, from now on."""
    taken: int = 0
    """Sessions that honest clients keep though others than their owners have made them."""
    _counted: dict[int, int] = field(default_factory=dict)

    @property
    def players(self) -> list[Player]:
        """Everybody."""
        return [self.ann, self.bo, self.cy, self.eve]

    async def begin(self) -> None:
        """The group exists, and everybody in it has said something."""
        command = Create(0, 0, DialogType.GROUP, [self.bo.id, self.cy.id], "group")
        self.group = (await self.ann.client.perform(command)).dialog
        for player in (self.ann, self.bo, self.cy):
            await player.says(self.group, b"hello of " + player.id)
        for player in (self.ann, self.bo, self.cy):
            for other in (self.ann, self.bo, self.cy):
                await player.reads(self.group, b"hello of " + other.id)

    def forbid(self, *devices: bytes) -> None:
        """These devices must not be given keys any more."""
        self.strangers.update(devices)
        self._counted = {id(each): len(each.proxy.commands) for each in self.players}

    async def is_backed_up(self, player: Player, values: int) -> None:
        """Return once so much of a player is in the backup."""
        async with asyncio.timeout(_NOTICED_S_MAX):
            while await self.server.world.pool.fetchval(_BACKED_UP, player.id) < values:  # noqa: ASYNC110 - the database does not say when
                await asyncio.sleep(_LOOK_S)

    @contextlib.asynccontextmanager
    async def another_device(self, player: Player) -> AsyncIterator[Player]:
        """A fresh device of a player, which no other one has confirmed."""
        device = Person(player.id)
        await self.server.world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", device.device, device.principal)
        await self.server.world.another_sign_in(device)
        async with _player(self.server, device) as fresh:
            await fresh.stands(Standing.UNVERIFIED)
            yield fresh

    @property
    def leaked(self) -> int:
        """Slices that honest clients made for forbidden devices since, and false sessions that they keep."""
        return self.taken + sum(
            each.device in self.strangers
            for player in (self.ann, self.bo, self.cy)
            for command in player.proxy.commands[self._counted.get(id(player), 0) :]
            if isinstance(command, UploadSlices)
            for each in command.slices
        )


@contextlib.asynccontextmanager
async def playing(server: Running) -> AsyncIterator[Stage]:
    """Four people at fresh clients, which the server tells the truth so far."""
    async with contextlib.AsyncExitStack() as stack:
        players = []
        for person in await server.world.people(4):
            await server.world.create(DialogType.SELF, person)
            players.append(await stack.enter_async_context(_player(server, person)))
        for player in players:
            await player.stands(Standing.LISTED)
        ann, bo, cy, eve = players
        yield Stage(server, ann, bo, cy, eve)


@contextlib.asynccontextmanager
async def _player(server: Running, person: Person) -> AsyncIterator[Player]:
    heard: list[object] = []
    store = MemoryStore()

    async def token(_fresh: bool) -> str:
        return server.token(person)

    async with (
        LyingProxy(server.node.port).listening() as proxy,
        Client(proxy.url, token, store=store, on_event=heard.append) as client,
    ):
        yield Player(person, client, proxy, store, heard)


def events_changed(
    change: Callable[[TimelineEvent], Iterable[ServerMessage]],
) -> Callable[[ServerMessage], Iterable[ServerMessage]]:
    """A lie about events, wherever they are: live, or in a page."""

    def told(message: ServerMessage) -> Iterable[ServerMessage]:
        if isinstance(message, TimelineEvent):
            return change(message)
        if isinstance(events := getattr(message, "events", None), list):
            changed = [each for event in events for each in change(event)]
            return (msgspec.structs.replace(message, events=changed),)
        return (message,)

    return told


def neutral(event: TimelineEvent) -> TimelineEvent:
    """An event of no importance under the number of another one, which it hides."""
    return msgspec.structs.replace(event, device=NIL, n=0, body=b.SettingsChanged("group", "", "", b.Settings()))
