"""The people of one worker: creates them, connects them, cuts them off, and creates their dialogs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple, TypeVar

from loadtest.checking_client import ASK_ID, CheckingClient
from loadtest.lean_client import Address, LoadError
from protocol.commands import Create
from protocol.dialog_types import DialogType, Mode
from protocol.replies import Acked

_AT_ONCE = 32
_PER_ADDRESS = 500
"""From one loopback address: ports of ended connections stay taken for a minute, and the kernel searches longer."""
_FIRST_ADDRESS = IPv4Address("127.0.1.1")
_ADDRESSES_PER_WORKER = 2**17
_HEADS_S = 30.0
_LOOK_S = 0.02
_NO_SIGNATURE = bytes(64)
"""The server keeps signatures for the members, who check them."""

T = TypeVar("T")


class Gathering(NamedTuple):
    """A dialog, its members here, and the number of its newest event when it was made."""

    dialog: bytes
    members: Sequence[CheckingClient]
    head: int


class Crowd:
    """All people of a worker; `number` tells workers apart, so that each has local addresses of its own."""

    def __init__(self, address: Address, number: int, people: Sequence[CheckingClient]) -> None:
        self.people = people
        self.gatherings: list[Gathering] = []
        self.mode = Mode.OPEN
        """Of the dialogs that it makes."""
        self._address = address
        self._first_address = _FIRST_ADDRESS + number * _ADDRESSES_PER_WORKER
        self._connects = 0

    @property
    def members(self) -> list[tuple[CheckingClient, bytes]]:
        """Every member of every dialog that this crowd has made."""
        return [(member, each.dialog) for each in self.gatherings for member in each.members]

    async def connect(self, client: CheckingClient) -> None:
        """Connect, authenticate and sync one of them."""
        source = None
        if self._address.is_loopback:
            source = str(self._first_address + self._connects // _PER_ADDRESS % _ADDRESSES_PER_WORKER)
        self._connects += 1
        await client.connect(self._address, source)

    async def connect_all(self, people: Sequence[CheckingClient]) -> None:
        """ConnectPeople these."""
        await each(people, self.connect)

    async def disconnect(self) -> None:
        """Abort all connections."""
        await each([client for client in self.people if client.is_here], lambda client: client.disconnect())

    async def gather_pairs(self, pairs: Sequence[tuple[CheckingClient, CheckingClient]]) -> None:
        """Create a direct dialog for each pair."""

        async def create(pair: tuple[CheckingClient, CheckingClient]) -> None:
            one, other = pair
            n = one.next_n()
            ack = await one.ask(Create(ASK_ID, n, DialogType.DIRECT, [other.principal], mode=self.mode))
            assert isinstance(ack, Acked)
            self.gatherings.append(Gathering(ack.dialog, pair, ack.seq))

        await each(pairs, create)
        await self._await_heads()

    async def gather_neighbours(self, count: int) -> None:
        """Have each person be in `count` direct dialogs, with those who come next and those who come before.

        Raises LoadError if the people are too few.
        """
        people = self.people
        if count >= len(people):
            cannot = f"A worker of {len(people)} people cannot have {count} direct dialogs for each"
            raise LoadError(f"{cannot}: use more --people, or fewer --workers.")
        for step in range(1, count // 2 + 1):
            await self.gather_pairs([(one, people[(i + step) % len(people)]) for i, one in enumerate(people)])
        if count % 2:
            middle = len(people) // 2
            await self.gather_pairs(list(zip(people[:middle], people[middle:], strict=False)))

    async def gather_groups(self, size: int, people: Sequence[CheckingClient] = (), dialogs: int = 1) -> None:
        """Create `dialogs` groups for each `size` of these people, or of all, in turn; who is left over is in none."""
        people = people or self.people
        whole = len(people) - len(people) % size
        groups = [people[at : at + size] for at in range(0, whole, size)]

        async def create(members: Sequence[CheckingClient]) -> None:
            first, *others = members
            ids = [member.principal for member in others]
            signed = _NO_SIGNATURE if self.mode == Mode.SEALED else None
            for _ in range(dialogs):  # one after the other: a client waits for one answer at a time
                n = first.next_n()
                group = Create(ASK_ID, n, DialogType.GROUP, ids, "a room", mode=self.mode, signature=signed)
                ack = await first.ask(group)
                assert isinstance(ack, Acked)
                self.gatherings.append(Gathering(ack.dialog, members, ack.seq))

        await each(groups, create)
        await self._await_heads()

    async def enter(self, gathering: Gathering) -> None:
        """Take part in a dialog that somebody has made."""
        self.gatherings.append(gathering)
        await self._await_heads()

    async def _await_heads(self) -> None:
        """Return when everybody knows of their dialogs; raises LoadError."""
        for _ in range(int(_HEADS_S / _LOOK_S)):
            waiting = sum(member.heads.get(it.dialog, 0) < it.head for it in self.gatherings for member in it.members)
            if not waiting:
                return
            await asyncio.sleep(_LOOK_S)
        raise LoadError(f"{waiting} members of new dialogs did not hear of them within {_HEADS_S:.0f} s.")


async def each(items: Iterable[T], act: Callable[[T], Awaitable[None]], at_once: int = _AT_ONCE) -> None:
    """Call `act` for each item, in order, a few at once."""
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            await act(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(work())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
