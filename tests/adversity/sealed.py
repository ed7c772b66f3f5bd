"""Sealed conversations of people who come and go: `python -m tests.adversity.sealed --seed N`.

People with several devices each talk in groups and with each other over a real node: they write, edit and react.
Members and devices are added and removed, processes end at any commit of their stores on disk and begin again from
them, devices are away for a while, and the server is killed. Two of the devices are Matrix' OlmMachine, in Node: they
read, which counts like that of all others.

Prints one JSON line. `deliveries`: events that a device could read that may. `waited_for_logs`: of these, how many were
readable only after a device log or a roster had been read. `closed_to_former`: written before somebody was removed, and
not checked by then: the keys are there, but the server shows a former member no logs and no roster. To be 0:
`undecrypted_at_receipt` (the keys were not there when the event came), `undecrypted_ever`, `read_by_others` and
`read_after_removal` (a device opened what it may not read, with all keys and events that the database has),
`indices_reused` (two events are sealed with one key), `false_alarms` (a device said that members see different
members). It exits with 1 unless they are.
With `--break COUNT` clients have a fault that this count must notice.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol.commands import Add, Create, Edit, Promote, React, Remove, Send
from protocol.dialog_types import DialogType
from server.clock import SystemClock
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tchat.actions import ConnectionState
from tchat.encryption.encrypting import PAUSE_S_MAX
from tchat.reconnecting import BACKOFF_S_MAX
from tests.adversity.sealed_breaks import BREAKS, break_server, broken
from tests.adversity.sealed_devices import ProcessDiedError, SealedDevice, Where
from tests.adversity.sealed_matrix import MatrixDevice
from tests.adversity.sealed_node import MortalNode, serving
from tests.adversity.sealed_verdict import (
    Sealed,
    count_opened,
    count_reused,
    count_seen,
    open_with_database,
    read_devices,
    read_members,
    read_sealed,
)
from tests.engines.olm_machine import OlmMachine
from tests.support.world import Person

MATRIX_DEVICES = 2
NODE_KILLS = 0.02
"""In so many of the steps the server is killed, and at the end of them."""
DEVICES_MAX = 5
ZERO = (
    "undecrypted_at_receipt",
    "undecrypted_ever",
    "read_by_others",
    "read_after_removal",
    "indices_reused",
    "false_alarms",
)


class Group:
    """A dialog: its founder, and the people in it."""

    def __init__(self, dialog: bytes, founder: bytes, members: set[bytes]) -> None:
        self.dialog = dialog
        self.founder = founder
        self.members = members


class Conversations:
    """A run. Changes of members and devices are made one after the other, while others write."""

    def __init__(self, node: MortalNode, folder: Path, rng: random.Random, fault: str) -> None:
        self.node = node
        self.fault = fault
        self.folder = folder
        self.rng = rng
        self.devices: dict[bytes, SealedDevice] = {}
        self.matrix: list[MatrixDevice] = []
        self.groups: list[Group] = []
        self.counts: Counter[str] = Counter()

    def of(self, principal: bytes) -> list[SealedDevice]:
        """The devices of a person that were not removed."""
        return [one for one in self.devices.values() if one.person.principal == principal and not one.ended]

    @property
    def everyone(self) -> list[SealedDevice | MatrixDevice]:
        """All devices there ever were."""
        return [*self.devices.values(), *self.matrix]

    def online(self, *principals: bytes) -> list[SealedDevice]:
        """Devices that have a process, of these people or of all."""
        found = [one for one in self.devices.values() if one.client is not None and not one.ended]
        return [one for one in found if not principals or one.person.principal in principals]

    async def begin(self, people: int, machines: Sequence[OlmMachine]) -> None:
        """Everybody has a device, the first ones an OlmMachine, too; everybody is in a group or in two."""
        persons = await self.node.world.people(people)
        for person in persons:
            await self.node.world.create(DialogType.SELF, person)
            device = self._device(person)
            await device.start()
            assert await device.is_listed()
        everybody = [person.principal for person in persons]
        for machine, principal in zip(machines, everybody, strict=False):
            await self._add_matrix_device(machine, self.of(principal)[0])
        for founder in everybody[:2]:
            others = self.rng.sample([one for one in everybody if one != founder], k=max(2, people // 2))
            dialog = await self.of(founder)[0].performs(Create(0, 0, DialogType.GROUP, others, "group"))
            assert dialog is not None
            self.groups.append(Group(dialog, founder, {founder, *others}))
        for one, other in itertools.pairwise(everybody):
            dialog = await self.of(one)[0].performs(Create(0, 0, DialogType.DIRECT, [other]))
            assert dialog is not None
            self.groups.append(Group(dialog, b"", {one, other}))

    async def step(self) -> None:
        """Something happens."""
        deeds = [self.write] * 12 + [self.end_process, self.go_away, self.come_back, self.come_back]
        deeds += [self.add_member, self.remove_member, self.add_device, self.remove_device, self.promote]
        deed = self.kill_node if self.rng.random() < NODE_KILLS else self.rng.choice(deeds)
        await deed()

    async def write(self) -> None:
        """Somebody writes, edits or reacts, and does not wait for the answer."""
        group = self.rng.choice(self.groups)
        if writers := self.online(*group.members):
            writer = self.rng.choice(writers)
            command = self._content(writer, group.dialog)
            assert writer.client is not None
            with contextlib.suppress(ProcessDiedError):
                writer.client.submit(command)
            self.counts["written"] += 1
            await asyncio.sleep(0)

    def _content(self, writer: SealedDevice, dialog: bytes) -> Send | Edit | React:
        """A message, or a change of one that the writer knows."""
        text = b"%d" % self.counts["written"]
        known = [seq for where, seq in writer.posted if where == dialog]
        own = [
            seq
            for (where, seq), author in writer.posted.items()
            if (where, author) == (dialog, writer.person.principal)
        ]
        match self.rng.randrange(6):
            case 0 if own:
                return Edit(0, dialog, 0, self.rng.choice(own), text)
            case 1 if known:
                return React(0, dialog, 0, self.rng.choice(known), text)
            case _:
                return Send(0, dialog, 0, text)

    async def end_process(self) -> None:
        """A process ends while it waits, or at a commit of its store, and another one goes on from the store."""
        if online := self.online():
            device = self.rng.choice(online)
            self.counts["processes"] += 1
            if self.rng.random() < 0.5:
                device.die_soon(self.rng.randrange(12))
            else:
                await device.stop()
                await device.start()

    async def kill_node(self) -> None:
        """The server is killed, and another process goes on from its database."""
        await self.node.kill()
        await self.node.start()
        self.counts["node_kills"] += 1

    async def go_away(self) -> None:
        """A device is away; some stay."""
        if len(online := self.online()) > len(self.devices) // 2:
            await self.rng.choice(online).stop()
            self.counts["away"] += 1

    async def come_back(self) -> None:
        """A device that was away begins a process."""
        away = [one for one in self.devices.values() if one.client is None and not one.ended]
        if away:
            await self.rng.choice(away).start()

    async def add_member(self) -> None:
        """The founder of a group adds somebody."""
        group = self.rng.choice([one for one in self.groups if one.founder])
        outside = [one for one in {each.person.principal for each in self.devices.values()} if one not in group.members]
        admins = self.online(group.founder)
        if outside and admins:
            who = self.rng.choice(sorted(outside))
            if await self.rng.choice(admins).performs(Add(0, group.dialog, 0, [who])):
                group.members.add(who)
                self.counts["added"] += 1

    async def remove_member(self) -> None:
        """The founder of a group removes somebody."""
        group = self.rng.choice([one for one in self.groups if one.founder])
        others, admins = sorted(group.members - {group.founder}), self.online(group.founder)
        if len(others) > 1 and admins:
            who = self.rng.choice(others)
            if await self.rng.choice(admins).performs(Remove(0, group.dialog, 0, who)):
                group.members.remove(who)
                self.counts["removed"] += 1

    async def promote(self) -> None:
        """The founder of a group makes somebody an admin."""
        group = self.rng.choice([one for one in self.groups if one.founder])
        if admins := self.online(group.founder):
            who = self.rng.choice(sorted(group.members - {group.founder}))
            await self.rng.choice(admins).performs(Promote(0, group.dialog, 0, who))

    async def add_device(self) -> None:
        """A person signs in on another device, which gets the identity from one of theirs."""
        listed = [one for one in self.online() if one.speaks]
        if not listed:
            return
        first = self.rng.choice(listed)
        if len(self.of(first.person.principal)) >= DEVICES_MAX or first.client is None:
            return
        other = await self._sign_in(first.person.principal)
        people = first.client.encryption.people
        identity, recovery_key = people.identity, people.recovery_key
        assert identity is not None
        assert recovery_key is not None
        device = self._device(other)
        client = await device.start()
        await device.until(lambda started: started.encryption.standing.value != "unknown")
        client.encryption.keep_identity(identity, recovery_key)
        if await device.is_listed():
            self.counts["devices_added"] += 1

    async def remove_device(self) -> None:
        """A person removes one of their devices by another one."""
        listed = [one for one in self.online() if one.speaks]
        if not listed:
            return
        by = self.rng.choice(listed)
        mine = [one for one in self.everyone if one.person.principal == by.person.principal]
        others = [one for one in mine if one is not by and not one.ended]
        if not others or by.client is None:
            return
        gone = self.rng.choice(others)
        if by.client.encryption.remove_device(gone.person.device):
            gone.ended = True
            await gone.stop()
            self.counts["devices_removed"] += 1

    async def settle(self) -> None:
        """The server is killed once more; then all devices are there, and everything that was written has arrived."""
        if not self.fault:
            await self.kill_node()
        for device in self.devices.values():
            device.live_on()
            if device.client is None and not device.ended:
                await device.start()
        for device in self.online():
            # It may still wait before it connects again.
            written = await device.until(lambda client: not client.pending(), more_s=0 if self.fault else BACKOFF_S_MAX)
            assert written or self.fault, device.client and device.client.pending()
        sealed, members = await read_sealed(self.node.world.pool), await read_members(self.node.world.pool)
        for device in self.online():
            mine = {one.where for one in sealed if device.person.device in one.readers}
            await device.until(lambda client: client.state is ConnectionState.LIVE, more_s=BACKOFF_S_MAX)
            for dialog in {dialog for dialog, _ in mine - device.seen.keys()}:
                await device.read_again(dialog)
            await device.until(lambda _client, device=device, mine=mine: device.has_read(mine))  # type: ignore[misc]
            here = {where for where in mine if (where[0], device.person.principal) in members}
            if not self.fault:  # after a refusal it asks again after a pause only
                await device.until(lambda _client, device=device, here=here: device.has_read(here), more_s=PAUSE_S_MAX)  # type: ignore[misc]
        for reader in self.matrix:
            if not reader.ended:
                await reader.read_all(group.dialog for group in self.groups)

    async def judge(self) -> None:
        """Compare what was seen with what the database says, and try the whole database with what each device has."""
        pool = self.node.world.pool
        sealed, known = await read_sealed(pool), await read_devices(pool)
        seen = {one.person.device: one.seen for one in self.everyone}
        ended = {one.person.device for one in self.everyone if one.ended}
        self.counts += count_seen(sealed, seen, ended, await read_members(pool))
        self.counts["false_alarms"] += sum(one.disputes for one in self.devices.values())
        self.counts["indices_reused"] = count_reused(sealed)
        for device in self.devices.values():
            await device.stop()
            store = device.open_store()
            try:
                store.signed_in(0, store.generation)
                opened = await open_with_database(pool, device.machine(store), sealed, known)
            finally:
                store.close()
            self._count_opened(sealed, device, opened)
        for reader in self.matrix:
            self._count_opened(sealed, reader, await reader.open_with_database(pool, sealed, known))
            self.counts["read_by_matrix"] += sum(one.last is None for one in reader.seen.values())

    def _count_opened(self, sealed: list[Sealed], device: SealedDevice | MatrixDevice, opened: set[Where]) -> None:
        opened |= {where for where, one in device.seen.items() if one.last is None}
        self.counts += count_opened(sealed, device.person.principal, device.person.device, opened)

    async def _add_matrix_device(self, machine: OlmMachine, by: SealedDevice) -> None:
        assert by.client is not None
        people = by.client.encryption.people
        identity, pin = people.identity, people.pin_of(by.person.principal)
        assert identity is not None
        assert pin is not None
        reader = MatrixDevice(self.node, await self._sign_in(by.person.principal), machine)
        await reader.start(identity, pin.log, SystemClock().wall_ms())
        self.matrix.append(reader)

    async def _sign_in(self, principal: bytes) -> Person:
        """One more device of a person."""
        other = Person(principal)
        await self.node.world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", other.device, other.principal)
        await self.node.world.another_sign_in(other)
        return other

    def _device(self, person: Person) -> SealedDevice:
        device = SealedDevice(self.node, person, self.folder / f"device-{len(self.devices)}")
        self.devices[person.device] = device
        return device


async def talk(
    url: str, folder: Path, machines: Sequence[OlmMachine] = (), *, people: int, steps: int, seed: int, fault: str = ""
) -> dict[str, Any]:
    """A run; what came of it. `fault`: the count that is to notice one."""
    async with serving(url, folder) as node, contextlib.AsyncExitStack() as stack:
        stack.enter_context(broken(fault))
        await break_server(node.world.pool, fault)
        run = Conversations(node, folder, random.Random(seed), fault)
        try:
            await run.begin(people, machines)
            for _ in range(steps):
                await run.step()
            await run.settle()
            await run.judge()
        finally:
            for device in run.everyone:
                await device.stop()
    return (
        {"seed": seed, "devices": len(run.devices) + len(run.matrix)}
        | dict.fromkeys(ZERO, 0)
        | dict(sorted(run.counts.items()))
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.sealed", description=__doc__)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--steps", type=int, default=600, help="how many things happen")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--break", dest="fault", choices=BREAKS, default="", help="a fault that this count must notice")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tchat-sealed-") as folder:
        (postgres_folder := Path(folder) / "postgres").mkdir()
        (devices := Path(folder) / "devices").mkdir()
        with EmbeddedPostgres(postgres_folder) as postgres, contextlib.ExitStack() as stack:
            machines = [stack.enter_context(OlmMachine()) for _ in range(MATRIX_DEVICES)]
            asyncio.run(migrate(postgres.url))
            wanted = {"people": chosen.people, "steps": chosen.steps, "seed": chosen.seed, "fault": chosen.fault}
            said = asyncio.run(talk(postgres.url, devices, machines, **wanted))
    print(json.dumps(said))
    return 1 if any(said[name] for name in ZERO) else 0


if __name__ == "__main__":
    sys.exit(main())
