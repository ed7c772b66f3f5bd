"""Marked plaintexts, looked for wherever something stays: `python -m tests.adversity.plaintext --seed N`.

Clients that encrypt, with their stores on disk, write marked messages, edits, reactions and messages to devices, back
their sessions up and report what they have read, to a real server with two workers, PostgreSQL, Redis and Cassandra.
Then every byte is searched for marks and for keys: the files of PostgreSQL, of Cassandra and of the server, its log at
the level debug, what went over Redis and what that has saved, what was posted to the webhook of a bot that is in the
group, metrics, `tchat trace`, the memory of all processes of the server and of PostgreSQL, and the clients' disks.
Memory is searched before the first report: the server sees what it checks.

Prints one JSON line; `found` says where, and it exits with 1 unless that is nothing.
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
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import psutil
from nacl.public import PrivateKey

from protocol.bodies import Edited, Posted, TimelineEvent
from protocol.canonical import from_base64, to_base64
from protocol.commands import Create, Edit, React
from protocol.device_commands import BackupValue, DeviceMessage, PutBackup, SendToDevice
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id, to_text
from protocol.limits import N_MAX
from server.config.settings import Config, ServerSettings
from server.node.running_node import cancel_and_wait
from server.node.trace import as_text, trace
from tchat.actions import RefusedError
from tchat.crypto import inbound, recovery
from tchat.crypto.errors import NoChannelError
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.people import People
from tchat.crypto.state import Step, Table
from tchat.encryption.notices import Standing
from tchat.sealed_store import SealedStore
from tchat.shell import Client
from tchat.store_key import FileKey
from tests.adversity.plaintext_places import PlaintextArchive, WebhookBot, lacks_cassandra, webhook_bot
from tests.adversity.plaintext_search import Marks, Search, key_patterns
from tests.adversity.restart_server import Accounts, ServerProcess, SignIn
from tests.engines.redis_server import RedisServer
from tests.engines.server_process import HOST, free_port

NAMES = ("ann", "bo", "cy")
_WAIT_S = 60.0
_RATCHET = slice(6, 38)
"""Of the keys of a session as they are exported: not its first byte, so that their base64 is found by that of these."""
_FRANKING_KEYS_SOUGHT = 5


class Phone:
    """A client with its store on disk, and what it has read."""

    client: Client

    def __init__(self, signed_in: SignIn, folder: Path, store: SealedStore) -> None:
        self.signed_in = signed_in
        self.folder = folder
        self.store = store
        self.read: dict[tuple[bytes, int], bytes] = {}

    def note(self, event: object) -> None:
        """Something that the client shows."""
        if isinstance(event, TimelineEvent) and isinstance(event.body, Posted | Edited):
            self.read[event.dialog, event.seq] = event.body.payload

    @property
    def machine(self) -> CryptoMachine:
        """What encrypts in this client: all of its state is in the store."""
        own = OwnKeys.read(Step(self.store))
        assert own is not None
        return CryptoMachine(self.store, own.principal, own.device, own.generation)

    def find_keys(self) -> dict[str, bytes]:
        """Secrets of this device, by name."""
        name, step = self.signed_in.name, Step(self.store)
        people = People(self.store, self.signed_in.principal)
        identity, recovery_key = people.identity, people.recovery_key
        assert identity is not None
        assert recovery_key is not None
        keys = {f"{name}: pickle key": self.store.pickle_key, f"{name}: recovery key": recovery_key}
        keys |= {f"{name}: identity {start}, backed up": identity.secret[start : start + 32] for start in (0, 32, 64)}
        for row in self.store.keys(Table.INBOUND, b""):
            found = inbound.back_up(step, row[:32], row[32:])
            assert found is not None
            keys[f"{name}: session {row.hex()[:8]}, backed up"] = from_base64(found.exported)[_RATCHET]
        rows = (self.store.read(Table.FRANKED, row) for row in self.store.keys(Table.FRANKED, b""))
        franked = [msgspec.msgpack.decode(row, type=dict[int, bytes]) for row in rows if row is not None]
        sought = [key for keys_of_row in franked for key in keys_of_row.values()][:_FRANKING_KEYS_SOUGHT]
        return keys | {f"{name}: franking key {number}": key for number, key in enumerate(sought)}


class Run:
    """A server, its clients, and all that they leave behind."""

    def __init__(self, folder: Path, seed: int, *, archived: bool) -> None:
        self.rng = random.Random(seed)
        self.marks = Marks(self.rng)
        self.moderators = PrivateKey.generate()
        self.refused = 0
        self._folder = folder
        self.archived = 0
        """Rows that Cassandra has."""
        self._redis = RedisServer(folder / "redis")
        self._archive = PlaintextArchive(folder / "cassandra") if archived else None
        self._monitored = bytearray()
        self._admin_port = free_port()
        self._phones: list[Phone] = []
        self._written: list[tuple[bytes, int, bytes]] = []
        self._group = b""
        self._server: ServerProcess
        self._bot: WebhookBot

    async def run(self, messages: int, *, quick: bool = False) -> Search:
        """Everything, from the start of the server to the search of what it has left.

        `quick`: only keys that were backed up are searched for, and of the database's memory what its processes share;
        and the webhook takes everything at once.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(self._redis)
            if self._archive is not None:
                stack.enter_context(self._archive.server)
            self._server = ServerProcess(_new_folder(self._folder, "server"), self._settings())
            stack.push_async_callback(self._server.abandon)
            await self._server.start()
            monitoring = asyncio.ensure_future(self._monitor())
            stack.push_async_callback(cancel_and_wait, monitoring)
            accounts = Accounts(self._server)
            for name in NAMES:
                self._phones.append(await stack.enter_async_context(self._phone(await accounts.sign_in(name))))
            ann = self._phones[0].signed_in
            self._bot = await stack.enter_async_context(webhook_bot(self._config, self._url, accounts, ann))
            if not quick:
                self._bot.refuse_a_message()
            await self._talk(messages)
            keys = {name: key for phone in self._phones for name, key in phone.find_keys().items()}
            if quick:  # of what Bo has backed up
                keys = {name: key for name, key in keys.items() if name.startswith("bo") and "backed up" in name}
            search = Search(self.marks.patterns() | key_patterns(keys))
            await asyncio.to_thread(self._search_memory, search, quick)
            await self._report()
            await self._search_served(search)
            await self._save()
            assert await self._server.stop() == 0
            if self._archive is not None:
                self._archive.server.stop()
        await asyncio.to_thread(self._search_disks, search)
        return search

    def _settings(self) -> dict[str, str]:
        return {
            "TCHAT__SERVER__LOG_LEVEL": "debug",
            "TCHAT__SERVER__WORKERS": "2",
            "TCHAT__SERVER__ADMIN_PORT": str(self._admin_port),
            "TCHAT__SERVER__DRAIN_SPREAD_S": "0.1",
            "TCHAT__CLUSTER__REDIS_URLS": self._redis.url,
            "TCHAT__REPORTS__MODERATORS_KEY": to_base64(bytes(self.moderators.public_key)),
            "TCHAT__WEBHOOKS__PRIVATE_ADDRESSES": "true",
            **(self._archive.settings if self._archive is not None else {}),
        }

    @property
    def _config(self) -> Config:
        """What commands of an operator take."""
        return Config(server=ServerSettings(data_dir=self._server.database.data_dir, admin_port=self._admin_port))

    @property
    def _url(self) -> str:
        return self._server.database.url

    @contextlib.asynccontextmanager
    async def _phone(self, signed_in: SignIn) -> AsyncIterator[Phone]:
        async def token(_fresh: bool) -> str:
            return signed_in.token

        folder = _new_folder(self._folder, f"client-{signed_in.name}")
        store = SealedStore(folder / "store", FileKey(folder / "key"))
        url = f"ws://{HOST}:{self._server.port}/v1/ws"
        try:
            phone = Phone(signed_in, folder, store)
            async with Client(url, token, store=store, on_event=phone.note) as client:
                phone.client = client
                async with asyncio.timeout(_WAIT_S):
                    await client.wait_until(lambda: client.encryption.standing is Standing.LISTED)
                yield phone
        finally:
            store.close()

    async def _talk(self, messages: int) -> None:
        """Marked messages of everybody in a direct dialog and a group, edits, reactions; and beside dialogs."""
        ann, bo, _ = self._phones
        others = [phone.signed_in.principal for phone in self._phones[1:]]
        group = Create(0, 0, DialogType.GROUP, [*others, self._bot.principal], "the group", Mode.SEALED)
        self._group = (await ann.client.perform(group)).dialog
        dialogs = {
            (await ann.client.perform(Create(0, 0, DialogType.DIRECT, others[:1]))).dialog: [ann, bo],
            self._group: self._phones,
        }
        for dialog, members in dialogs.items():
            for member in members:
                async with asyncio.timeout(_WAIT_S):
                    await member.client.wait_until(partial(_knows, member, dialog))
        for _, (dialog, members) in zip(range(messages), itertools.cycle(dialogs.items()), strict=False):
            author, reader = self.rng.sample(members, 2)
            await self._say(dialog, author, reader)
        for dialog, members in dialogs.items():
            for member in members:
                async with asyncio.timeout(_WAIT_S):
                    await member.client.wait_until(partial(self._has_read, member, dialog))
        await self._write_to_device(next(iter(dialogs)), ann, bo)
        await self._back_up(bo)
        async with asyncio.timeout(_WAIT_S):
            await self._bot.has_got(self._group, max(seq for dialog, seq, _ in self._written if dialog == self._group))

    async def _say(self, dialog: bytes, author: Phone, reader: Phone) -> None:
        said = self.marks.make(self.rng.choice([40, 400, 8000]))
        try:
            seq = (await author.client.send(dialog, said)).seq
        except RefusedError:  # it was not sealed: the server does not take it, and has seen it
            self.refused += 1
            return
        edited = self.marks.make()
        edit = await author.client.perform(Edit(0, dialog, 0, seq, edited))
        self._written += [(dialog, seq, said), (dialog, edit.seq, edited)]
        async with asyncio.timeout(_WAIT_S):
            await reader.client.wait_until(lambda: (dialog, seq) in reader.read)
        await reader.client.perform(React(0, dialog, 0, seq, self.marks.make()))

    def _has_read(self, phone: Phone, dialog: bytes) -> bool:
        return all(phone.read.get(at[:2]) == at[2] for at in self._written if at[0] == dialog)

    async def _write_to_device(self, dialog: bytes, author: Phone, to: Phone) -> None:
        people = People(author.store, author.signed_in.principal)
        (known,) = people.devices_of(to.signed_in.principal)
        content: dict[str, object] = {"body": self.marks.make().decode()}
        try:
            body = author.machine.write_to(known, "m.dummy", content)
        except NoChannelError:  # nothing was sealed
            return
        await author.client.request(SendToDevice(0, new_id(), dialog, [DeviceMessage(known.device, body)]))

    async def _back_up(self, phone: Phone) -> None:
        people, step = People(phone.store, phone.signed_in.principal), Step(phone.store)
        identity, key = people.identity, people.recovery_key
        assert identity is not None
        assert key is not None
        values = [BackupValue(bytes(32), 1, recovery.seal_identity(key, identity))]
        for row in phone.store.keys(Table.INBOUND, b""):
            found = inbound.back_up(step, row[:32], row[32:])
            assert found is not None
            values.append(BackupValue(found.session, N_MAX, recovery.seal_session(key, identity, found)))
        await phone.client.request(PutBackup(0, identity.generation, values))

    async def _report(self) -> None:
        for dialog, seq, content in self.rng.sample(self._written, min(5, len(self._written))):
            reporter = next(phone for phone in self._phones if (dialog, seq) in phone.read)
            await reporter.client.report(dialog, seq, content, self.marks.make().decode())

    async def _monitor(self) -> None:
        """All that is said to Redis."""
        reader, writer = await asyncio.open_connection(HOST, self._redis.port)
        writer.write(b"MONITOR\r\n")
        try:
            while data := await reader.read(65536):
                self._monitored += data
        finally:
            writer.close()

    async def _save(self) -> None:
        """What the database and Redis have in memory is on their disks, and Cassandra has all."""
        if self._archive is not None:
            async with asyncio.timeout(_WAIT_S):
                self.archived = await self._archive.has_all(self._url)
        connection = await asyncpg.connect(self._url)
        await connection.execute("CHECKPOINT")
        await connection.close()
        reader, writer = await asyncio.open_connection(HOST, self._redis.port)
        writer.write(b"CONFIG SET rdbcompression no\r\nSAVE\r\n")
        assert [await reader.readline() for _ in range(2)] == [b"+OK\r\n"] * 2
        writer.close()

    def _search_memory(self, search: Search, quick: bool) -> None:
        seen: set[tuple[str, str, str]] = set()
        mine = psutil.Process()
        servers = [each for each in mine.children(recursive=True) if "server.node" in _command_of(each)]
        for server in servers:
            for process in (server, *server.children(recursive=True)):
                search.through_memory(f"memory of server process {process.pid}", process.pid, seen)
        (pid_file,) = self._server.database.data_dir.rglob("postmaster.pid")
        postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
        for process in (postmaster, *([] if quick else postmaster.children(recursive=True))):
            search.through_memory(f"memory of PostgreSQL {process.pid}", process.pid, seen)

    async def _search_served(self, search: Search) -> None:
        """What the server says of itself."""
        async with httpx.AsyncClient(trust_env=False) as client:
            metrics = await client.get(f"http://{HOST}:{self._admin_port}/metrics")
        metrics.raise_for_status()
        search.through_text("metrics", metrics.content)
        for dialog, seq, _ in self._written[:3]:
            traced = await asyncio.to_thread(trace, self._config, to_text(dialog), seq, None)
            search.through_text("trace", as_text(traced).encode() + msgspec.json.encode(traced))
        search.through_text("Redis: all commands", bytes(self._monitored))
        search.through_text("webhook", self._bot.requests)

    def _search_disks(self, search: Search) -> None:
        search.through_folder("server", self._folder / "server")  # its log, PostgreSQL, its own keys
        search.through_folder("Redis", self._folder / "redis")
        search.through_folder("Cassandra", self._folder / "cassandra")
        for phone in self._phones:
            search.through_folder(f"disk of {phone.signed_in.name}", phone.folder)

    @property
    def monitored_bytes(self) -> int:
        """What went over Redis."""
        return len(self._monitored)

    @property
    def webhook_bytes(self) -> int:
        """What was posted to the webhook."""
        return len(self._bot.requests)


def _knows(phone: Phone, dialog: bytes) -> bool:
    return dialog in phone.client.view.dialogs


def _new_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


async def look_for_plaintext(
    messages: int, seed: int, folder: Path, *, archived: bool, quick: bool = False
) -> dict[str, Any]:
    """A run, with Cassandra if it is `archived`; what came of it."""
    run = Run(folder, seed, archived=archived)
    search = await run.run(messages, quick=quick)
    return {
        "seed": seed,
        "marks_sent": run.marks.made,
        "places_searched": search.places,
        "bytes_searched": search.bytes,
        "redis_bytes": run.monitored_bytes,
        "webhook_bytes": run.webhook_bytes,
        "archived": run.archived,
        "refused": run.refused,
        "skipped": search.skipped,
        "found": len(search.found),
        "where": sorted(set(search.found))[:20],
    }


def _command_of(process: psutil.Process) -> str:
    """The command line; none of a process that has ended, which may be another test's."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.plaintext", description=__doc__)
    parser.add_argument("--messages", type=int, default=60, help="each is edited and reacted to")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--no-archive", action="store_true", help="without Cassandra")
    chosen = parser.parse_args()
    lacking = "" if chosen.no_archive else lacks_cassandra()
    if lacking:
        print(f"without Cassandra: {lacking}", file=sys.stderr)
    archived = not (chosen.no_archive or lacking)
    with tempfile.TemporaryDirectory(prefix="tchat-plaintext-") as folder:
        said = asyncio.run(look_for_plaintext(chosen.messages, chosen.seed, Path(folder), archived=archived))
    print(json.dumps(said))
    return 1 if said["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
