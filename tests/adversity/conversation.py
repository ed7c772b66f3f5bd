"""A conversation under blows, over real sockets and through the project's own client.

Five people on seven devices of both codecs talk in direct dialogs, groups and a channel, sealed or open. In sealed ones
devices hand keys on before what they write, and encrypt nothing (`tests/support/sharing.py`). Meanwhile blows fall:
connections are reset, clients crash, a sign-in is ended, and what else the servers have to suffer (`Servers.strike`).
After each round everything comes to rest, and is held against a fresh read of the database and against fresh clients.
What is chosen follows from the seed; how far things got when a blow fell does not.
"""

# ruff: noqa: T201 - it is run by commands, which print

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import httpx

from protocol.bodies import Settings
from protocol.codec import JSON, MSGPACK, Codec
from protocol.commands import Create, Send, SignOut
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode
from tchat.actions import Refused, RefusedError, RequestLostError, Sent, SignInRequiredError, StoppedError
from tests.adversity.restart_conversation import Cast, Quota, Talker
from tests.adversity.restart_devices import Device
from tests.adversity.restart_keys import Household
from tests.adversity.restart_server import Accounts, SignIn
from tests.adversity.restart_timeline import Timeline
from tests.adversity.restart_verify import (
    Violations,
    check_keys,
    check_numbers,
    check_received,
    check_sealed,
    check_sender,
    check_timeline,
)
from tests.adversity.restart_views import check_views
from tests.support.cutting_proxy import CuttingProxy

ROUND_S_MAX = 240.0
HEAL_S_MAX = 60.0
"""From the end of the last fault until all have all that there is."""
_UNDISTURBED = 20
_LOOK_S = 0.2
PROMISES = (
    "lost",
    "duplicated",
    "misordered",
    "leaked",
    "without_keys",
    "unequal_views",
    "deletions_unseen",
    "undelivered",
    "apart",
    "stuck",
    "unfelt",
)
SETTINGS = {
    "TCHAT__SESSIONS__SENDS_PER_S": "400",
    "TCHAT__SESSIONS__SENDS_BURST": "60",
    "TCHAT__SESSIONS__COMMANDS_PER_S": "2000",
    "TCHAT__SESSIONS__COMMANDS_BURST": "2000",
    "TCHAT__SESSIONS__POSITION_INTERVAL_S": "0.5",
    "TCHAT__SESSIONS__OUTBOX_BYTES_MAX": "250000",
}
_PEOPLE: dict[str, tuple[tuple[Codec, bool], ...]] = {
    "ann": ((MSGPACK, True), (JSON, True)),
    "bo": ((JSON, True), (MSGPACK, False)),
    "cy": ((MSGPACK, True),),
    "di": ((JSON, True),),
    "eve": ((MSGPACK, False),),
}
"""Devices of each person: their codec, and whether their outbox is on disk (only then may they crash)."""


class Servers(Protocol):
    """The servers of a conversation, and what is done to them."""

    @property
    def port(self) -> int:
        """Where people sign in."""

    @property
    def log(self) -> Path:
        """Where the codes are written."""

    async def read_timeline(self) -> Timeline:
        """What all is held against."""

    async def open(self, proxy: CuttingProxy) -> None:
        """Start all; `proxy` leads the clients to them from now on."""

    async def close(self) -> int:
        """End all in good order; the exit code."""

    async def abandon(self) -> None:
        """Leave nothing running, whatever has happened."""

    def plan(self) -> list[str]:
        """The blows of the next round."""

    async def strike(self, blow: str) -> None:
        """Carry one out, to the end of its effect."""

    async def heal(self) -> None:
        """From now on nothing more fails."""

    def rested(self) -> None:
        """All that was asked for until now has its answer, and nobody asks for it again."""

    def summary(self) -> dict[str, Any]:
        """What was done, as numbers."""

    def check(self, violations: Violations) -> None:
        """Add what is wrong with the run itself, at its end."""


class Conversation:
    """Everything that takes part, from the first round to the last."""

    def __init__(self, folder: Path, seed: int, messages: int, servers: Servers) -> None:
        self.violations = Violations()
        self.rounds = 0
        self.heal_s_max = 0.0
        self.crashes = 0
        self.sign_ins_ended = 0
        self._folder = folder
        self._seed = seed
        self._messages = messages
        self._rng = random.Random(f"{seed} blows")
        self._servers = servers
        self._proxy = CuttingProxy()
        self._accounts: Accounts
        self._devices: list[Device] = []
        self._guests: list[Device] = []
        self._auditors: dict[str, SignIn] = {}
        self._households: dict[bytes, Household] = {}
        self._talkers: list[Talker] = []
        self._cast = Cast()
        self._quota = Quota()
        self._acked = 0
        self._blows: list[tuple[int, str]] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def _url(self) -> str:
        return f"ws://127.0.0.1:{self._proxy.port}/v1/ws"

    async def open(self) -> None:
        """Start the server, sign everybody in, and begin the first dialogs."""
        await self._proxy.open()
        await self._servers.open(self._proxy)
        self._accounts = Accounts(self._servers)
        for person, devices in _PEOPLE.items():
            for codec, on_disk in devices:
                device = await self._sign_in(person, codec, on_disk=on_disk)
                self._devices.append(device)
                self._talkers.append(self._talker(device))
            self._auditors[person] = await self._accounts.sign_in(person)
            self._cast.people.append(self._devices[-1].principal)
        await self._first_dialogs()

    async def close(self) -> None:
        """End everything in good order."""
        for device in self._devices:
            await device.end()
        await self._proxy.close()
        if code := await self._servers.close():
            self.violations.add("lost", f"a server drained and ended with {code}")

    async def abandon(self) -> None:
        """Leave nothing running, whatever has happened."""
        for task in self._tasks:
            task.cancel()
        await self._servers.abandon()

    async def round(self) -> None:
        """Talk under blows, come to rest, and look."""
        self.rounds += 1
        before = self._acked
        self._quota.left = self._messages
        guest = await self._invite()
        self._plan_blows()
        talkers = [*self._talkers, self._talker(guest)]
        while self._quota.left > 0:
            async with asyncio.TaskGroup() as group:
                for talker in talkers:
                    group.create_task(talker.talk())
            await self._settled()
            await asyncio.gather(*self._tasks)
            self._tasks.clear()
            talkers = self._talkers
        assert self._acked > before, "somebody was heard"
        await self._rest()
        timeline = await self._servers.read_timeline()
        await self._read_everything(timeline)
        await self._verify(timeline)

    async def give_up(self) -> None:
        """It did not come to rest: say so, and look at what can be looked at all the same."""
        self.violations.add("stuck", f"round {self.rounds} did not come to rest in time")
        self._check_stored(await self._servers.read_timeline())

    def summary(self) -> dict[str, Any]:
        """What happened, as numbers."""
        devices = [*self._devices, *self._guests]
        return {
            "acked": sum(len(device.ledger.acked) for device in devices),
            **{promise: self.violations.counts[promise] for promise in PROMISES},
            "heal_s_max": round(self.heal_s_max, 1),
            "rounds": self.rounds,
            "seed": self._seed,
            "messages": sum(
                isinstance(device.ledger.asked[n], Send) for device in devices for n in device.ledger.acked
            ),
            "sent": sum(len(device.ledger.asked) for device in devices),
            "refused": sum(len(device.ledger.refused) for device in devices),
            "renumbered": sum(len(device.ledger.renumbered) for device in devices),
            "sealed": sum(device.keys.counts["sealed"] for device in devices),
            "keys_had": sum(device.keys.counts["slices"] for device in devices),
            "stale": sum(device.keys.counts["stale"] for device in devices),
            "acked_again": sum(device.ledger.acked_again for device in devices),
            "cuts": self._proxy.cuts,
            **self._servers.summary(),
            "crashes": self.crashes,
            "sign_ins_ended": self.sign_ins_ended,
        }

    # who takes part

    async def _sign_in(self, person: str, codec: Codec, *, on_disk: bool) -> Device:
        signed_in = await self._accounts.sign_in(person)
        outbox = self._folder / f"{signed_in.name}.sqlite" if on_disk else None
        rng = random.Random(f"{self._seed} network of {signed_in.name}")
        device = Device(signed_in, codec, self._url, rng, outbox=outbox, on_settled=self._noticed)
        await device.start()
        household = self._households.setdefault(device.principal, Household(device.principal))
        device.listed = await household.add(device)
        return device

    def _talker(self, device: Device) -> Talker:
        return Talker(device, self._cast, self._quota, random.Random(f"{self._seed} choices of {device.name}"))

    async def _first_dialogs(self) -> None:
        ann, bo, cy, di, eve = self._cast.people
        public = Settings(is_public=True)
        plans = [
            (0, Create(0, 0, DialogType.DIRECT, [bo])),
            (4, Create(0, 0, DialogType.DIRECT, [di], mode=Mode.OPEN)),
            (5, Create(0, 0, DialogType.DIRECT, [eve])),
            (0, Create(0, 0, DialogType.GROUP, [bo, cy], "closed group")),
            (2, Create(0, 0, DialogType.GROUP, [ann, cy, di, eve], "open group", Mode.OPEN, settings=public)),
            (0, Create(0, 0, DialogType.CHANNEL, [bo, cy, eve], "channel", settings=public)),
        ]
        for index, command in plans:
            device = self._devices[index]
            await device.client.wait_until(lambda device=device: device.live)  # type: ignore[misc]
            n = device.submit(command)
            await device.client.wait_until(lambda n=n, device=device: n in device.ledger.acked)  # type: ignore[misc]
            if DIALOG_TYPES[command.type].named and command.settings.is_public:
                self._cast.public.append(device.ledger.acked[n].dialog)

    async def _invite(self) -> Device:
        """One more device of somebody, for this round only."""
        person = self._rng.choice(list(_PEOPLE))
        guest = await self._sign_in(person, self._rng.choice((JSON, MSGPACK)), on_disk=False)
        self._guests.append(guest)
        return guest

    # blows

    def _plan_blows(self) -> None:
        """Which blows fall, each when so many commands were acked."""
        rng, start = self._rng, self._acked
        crashable = [index for index, device in enumerate(self._devices) if device.can_crash]
        blows = [*self._servers.plan(), "end sign-in", *(["cut"] * rng.randint(3, 6))]
        blows += [f"crash {rng.choice(crashable)}" for _ in range(rng.randint(1, 2))]
        self._blows = sorted((start + round(rng.uniform(0.1, 0.85) * self._messages), blow) for blow in blows)

    def _noticed(self, event: Sent | Refused) -> None:
        """A command was acked: perhaps it is time for a blow."""
        if isinstance(event, Refused):
            if isinstance(event.command, Send):
                self._quota.give_back()
            return
        self._acked += 1
        while self._blows and self._blows[0][0] <= self._acked:
            _, blow = self._blows.pop(0)
            what, _, which = blow.partition(" ")
            if what == "cut":
                self._proxy.cut(self._rng, share=0.4)
            elif what == "crash":
                self.crashes += 1
                self._begin(self._devices[int(which)].crash_and_start())
            elif what == "end":
                self._begin(self._end_sign_in(self._guests[-1]))
            else:
                self._begin(self._servers.strike(blow))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _end_sign_in(self, guest: Device) -> None:
        """Sign out, or be signed out by another device, again until it is sure; from then on nothing may come.

        In the end it is in no device log: that alone ends a sign-in, too.
        """
        by = next(one for one in self._auditors.values() if one.principal == guest.principal)
        other = next(one for one in self._devices if one.principal == guest.principal)
        how = self._rng.choice(("sign out", "from afar", "take out"))
        household = self._households[guest.principal]
        guest.witness.ending = True
        if how == "take out":
            await household.remove(guest.signed_in.device, by=other)
        while True:
            try:
                await guest.client.wait_until(lambda: guest.live and how != "take out")
                if how == "from afar":
                    await self._accounts.end(guest.signed_in, by)
                    await guest.client.wait_until(lambda: False)
                else:
                    await guest.client.request(SignOut(0))
            except StoppedError:
                break
            except (RequestLostError, RefusedError, httpx.HTTPError):
                continue
        guest.witness.ended = True
        self.sign_ins_ended += 1
        if how != "take out":
            await household.remove(guest.signed_in.device, by=other)
        self._quota.left += sum(isinstance(command, Send) for command in guest.client.pending())

    # rest

    async def _rest(self) -> None:
        """Return when every outbox is empty and every view has all that there is, and goes on getting it."""
        over = time.monotonic()
        async with asyncio.timeout(HEAL_S_MAX):
            await self._servers.heal()
            await self._settled()
            await self._caught_up()
        self.heal_s_max = max(self.heal_s_max, time.monotonic() - over)
        await self._talk_undisturbed()
        self._servers.rested()

    async def _talk_undisturbed(self) -> None:
        """A few more messages while nothing fails: they reach everybody on the connection that they have."""
        before = {device.name: device.connects for device in self._devices}
        self._quota.left = _UNDISTURBED
        async with asyncio.TaskGroup() as group:
            for talker in self._talkers:
                group.create_task(talker.talk())
        await self._settled()
        await self._caught_up()
        for device in self._devices:
            if device.connects != before[device.name]:
                self.violations.add("undelivered", f"{device.name} had to reconnect in round {self.rounds}")

    async def _caught_up(self) -> None:
        while (timeline := await self._servers.read_timeline()).announcing:  # noqa: ASYNC110 - the database does not say
            await asyncio.sleep(_LOOK_S)
        for device in self._devices:
            heads = {dialog: timeline.heads[dialog] for dialog in timeline.dialogs_of(device.principal)}

            def caught_up(device: Device = device, heads: dict[bytes, int] = heads) -> bool:
                reached = device.witness.reached
                return device.live and all(reached.get(dialog, 0) >= head for dialog, head in heads.items())

            await device.client.wait_until(caught_up)

    async def _settled(self) -> None:
        """Return when every command has its answer; through the lives of the devices."""
        for device in self._devices:
            while device.between_lives or device.ledger.unsettled or device.client.pending():
                client = await device.alive()
                with contextlib.suppress(StoppedError):
                    await client.wait_until(lambda it=device: not (it.ledger.unsettled or it.client.pending()))  # type: ignore[misc]

    async def _read_everything(self, timeline: Timeline) -> None:
        """Everybody reads all there is; wait until everybody knows it of everybody."""
        for device in self._devices:
            for dialog in device.client.view.dialogs.values():
                if dialog.member:
                    device.client.send_receipt(dialog.dialog, read=dialog.seq)
        for device in self._devices:
            expected = {
                (dialog, who): timeline.heads[dialog]
                for dialog, who in timeline.visible
                if DIALOG_TYPES[timeline.kinds[dialog][0]].receipts
                and timeline.is_member(dialog, who)
                and timeline.is_member(dialog, device.principal)
            }
            for key, head in expected.items():
                if not await self._knows(device, key, head):
                    stored = (await self._servers.read_timeline()).read[key]
                    where, who = (part.hex() for part in key)
                    what = f"{device.name} does not know that {who} read {head} of {where}; stored is {stored}"
                    self.violations.add("apart", what)

    async def _knows(self, device: Device, key: tuple[bytes, bytes], head: int) -> bool:
        dialog, who = key

        def known() -> bool:
            receipt = device.client.view.dialogs[dialog].receipts.get(who)
            return receipt is not None and receipt.read >= head

        try:
            async with asyncio.timeout(5.0):
                await device.client.wait_until(known)
        except TimeoutError:
            return False
        return True

    async def _check_ended(self, guest: Device) -> None:
        """The token of a sign-in that has ended is still valid, and opens nothing."""
        codec = self._rng.choice((JSON, MSGPACK))
        rng = random.Random(self._seed)
        again = Device(guest.signed_in, codec, self._url, rng, outbox=None, on_settled=lambda _settled: None)
        await again.start()
        try:
            await again.client.wait_until(lambda: again.live)
            self.violations.add("leaked", f"{guest.name} came in after its sign-in had ended")
        except SignInRequiredError:
            pass
        await again.end()

    async def _verify(self, timeline: Timeline) -> None:
        await self._check_ended(self._guests[-1])
        self._check_stored(timeline)
        for auditor in self._auditors.values():
            mine = [device for device in self._devices if device.principal == auditor.principal]
            codec = self._rng.choice((JSON, MSGPACK))
            await check_views(self._url, auditor, codec, mine, timeline=timeline, violations=self.violations)

    def _check_stored(self, timeline: Timeline) -> None:
        check_timeline(timeline, self.violations)
        check_sealed(timeline, self.violations)
        check_numbers([*self._devices, *self._guests], timeline, self.violations)
        for device in [*self._devices, *self._guests]:
            check_sender(device, timeline, self.violations)
            check_keys(device, timeline, self.violations)
            for received in device.take_received():
                check_received(device.principal, received, timeline, self.violations)


async def converse(
    servers: Servers, rounds: Callable[[int], bool], seed: int, messages_per_round: int, folder: Path
) -> tuple[dict[str, Any], Violations]:
    """The whole of it, while `rounds` of the next one's number holds; the summary, and what was found."""
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        conversation = Conversation(folder, seed, messages_per_round, servers)
        stack.push_async_callback(conversation.abandon)
        await conversation.open()
        print(f"seed {seed}: everybody has signed in", file=sys.stderr, flush=True)
        number = 1
        while rounds(number):
            try:
                async with asyncio.timeout(ROUND_S_MAX):
                    await conversation.round()
            except TimeoutError:
                await conversation.give_up()
                break
            finally:
                seconds = round(time.monotonic() - began)
                print(f"round {number}: {json.dumps(conversation.summary())} {seconds} s", file=sys.stderr, flush=True)
                for said in conversation.violations.take_said():
                    print(said, file=sys.stderr, flush=True)
            number += 1
        await conversation.close()
        servers.check(conversation.violations)
        return conversation.summary() | {"seconds": round(time.monotonic() - began)}, conversation.violations


def run_to_the_end(work: Coroutine[Any, Any, tuple[dict[str, Any], Violations]], **said: object) -> int:
    """Run a conversation as a command: its summary and what else is `said`, as one JSON line; 1 for a broken promise.

    SIGTERM ends it as Ctrl-C does, so that no server is left running.
    """

    async def until_ended() -> tuple[dict[str, Any], Violations]:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        summary, violations = asyncio.run(until_ended())
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    print(json.dumps(summary | {promise: violations.counts[promise] for promise in PROMISES} | said))
    return 1 if violations.counts else 0
