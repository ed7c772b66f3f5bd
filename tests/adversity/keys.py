"""Claimers that race for one-time keys: `python -m tests.adversity.keys --claims 100000`.

People in one group claim keys of each other's devices over real sockets, upload new ones, and say every command again
whose answer they miss. Meanwhile the server is killed, alone and with its PostgreSQL, and once its database is restored
from a backup that was made while keys went out.

Prints one JSON line. `issued_twice`: one-time keys that two claims got, over the restore, too. `burnt_by_retry`: keys
that the server has no more and nobody got, and claims that got other keys when they were said again. It exits with 1
unless both are 0.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
from websockets.exceptions import WebSocketException

from protocol.canonical import decode_canonical
from protocol.commands import Create
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.key_commands import ClaimKeys, NamedKey, UploadKeys
from protocol.replies import ClaimedKeys, Failed, KeysUploaded
from server.config.settings import Config, ServerSettings
from server.node import backup
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.state import MemoryState, Step
from tests.adversity.restart_server import Accounts, ServerProcess, SignIn
from tests.support.harness import Wire, live_on

PEOPLE = ("ann", "bo", "cy", "di", "eve", "fay")
SETTINGS = {
    "TCHAT__SESSIONS__COMMANDS_PER_S": "100000",
    "TCHAT__SESSIONS__COMMANDS_BURST": "100000",
    "TCHAT__IDENTITY__ACCESS_TOKEN_TTL_S": "86400",
    "TCHAT__LIMITS__KEY_CLAIMS_PER_PERSON_PER_H": "1000000000",
    "TCHAT__LIMITS__KEY_CLAIMS_PER_DEVICE_PER_H": "1000000000",
}
_ANSWER_S_MAX = 30.0
_CLAIMS_PER_UPLOAD = 7
_REPEATED = 0.1
_HELD = "SELECT key FROM one_time_keys WHERE epoch = (SELECT epoch FROM deployment)"
_TEMPORARY = {code for code in ErrorCode if code.temporary}


class Ledger:
    """Who got which key, and what became of those that were uploaded in this history of the database."""

    def __init__(self) -> None:
        self.claims = 0
        self.fallbacks = 0
        self.issued_twice = 0
        self.burnt_by_retry = 0
        self._claimed_by: dict[bytes, tuple[bytes, int]] = {}
        self._answers: dict[tuple[bytes, int], ClaimedKeys] = {}
        self._uploaded: set[bytes] = set()

    def note_uploaded(self, upload: UploadKeys) -> None:
        """The server has these keys."""
        self._uploaded.update(named.key for named in upload.one_time_keys)

    def note_claimed(self, device: bytes, claim: int, answer: ClaimedKeys) -> None:
        """A claim was answered, perhaps not for the first time."""
        by = (device, claim)
        if (before := self._answers.setdefault(by, answer)) is not answer:
            self.burnt_by_retry += before.keys != answer.keys
            return
        self.claims += len(answer.keys)
        for given in answer.keys:
            fallback = bool(decode_canonical(given.key).get("fallback"))
            self.fallbacks += fallback
            if not fallback:
                self.issued_twice += self._claimed_by.setdefault(given.key, by) != by

    def settle(self, held: set[bytes]) -> None:
        """Nothing is under way: what was uploaded is held, or somebody got it. The history ends here."""
        self.burnt_by_retry += len(self._uploaded - held - self._claimed_by.keys())
        self._uploaded.clear()
        self._answers.clear()


class Claimer:
    """A device that claims keys of the others, and uploads its own; each command until it is answered."""

    def __init__(self, signed_in: SignIn, ledger: Ledger, rng: random.Random) -> None:
        self.signed_in = signed_in
        self.dialog = b""
        self.others: list[bytes] = []
        self._ledger = ledger
        self._rng = rng
        self._own = OwnKeys.create(Step(MemoryState()), signed_in.principal, signed_in.device, 1)
        self._claims = 0
        self._unanswered: ClaimKeys | None = None
        self._upload: UploadKeys | None = None
        self._answered: UploadKeys | None = None
        self._since_upload = _CLAIMS_PER_UPLOAD

    async def work(self, wire: Wire, over: Callable[[], bool]) -> None:
        """Claim and upload until it is over; nothing is left unanswered then."""
        while self._upload is not None or self._unanswered is not None or not over():
            if self._since_upload >= _CLAIMS_PER_UPLOAD:
                await self._upload_some(wire)
            if self._upload is None:
                await self._claim(wire)

    def lost_history(self) -> None:
        """The database was restored: keys that went there before are not offered again."""
        self._answered = None
        self._since_upload = _CLAIMS_PER_UPLOAD

    async def _upload_some(self, wire: Wire) -> None:
        if self._answered is not None and self._rng.random() < _REPEATED:
            await _ask(wire, self._answered)  # most of its keys are given out by now
        if self._upload is None:
            made = self._own.prepare_upload(0, 1_700_000_000_000, fallback_used=False)
            keys = [NamedKey(*each) for each in sorted(made.one_time_keys.items())]
            fallback = [NamedKey(*each) for each in made.fallback_keys.items()]
            self._own.account.mark_keys_as_published()
            self._upload = UploadKeys(5, made.generation, made.device_keys, keys, *fallback)
        answer = await _ask(wire, self._upload)
        if isinstance(answer, KeysUploaded):
            self._ledger.note_uploaded(self._upload)
        elif answer is None:
            return
        self._answered, self._upload, self._since_upload = self._upload, None, 0

    async def _claim(self, wire: Wire) -> None:
        command = self._unanswered
        if command is None:
            self._claims += 1
            count = self._rng.randint(1, len(self.others))
            command = ClaimKeys(6, self._claims, self.dialog, self._rng.sample(self.others, count))
        self._unanswered = command
        for _ in range(2 if self._rng.random() < _REPEATED else 1):
            answer = await _ask(wire, command)
            if answer is None:
                return
            assert isinstance(answer, ClaimedKeys), answer
            self._ledger.note_claimed(self.signed_in.device, command.claim, answer)
        self._unanswered = None
        self._since_upload += 1


async def _ask(wire: Wire, command: ClaimKeys | UploadKeys) -> Any:
    """The answer; None for one that says to come again. Too many keys is one, too: those keys are given up."""
    async with asyncio.timeout(_ANSWER_S_MAX):
        answer = await wire.ask(command)
    if isinstance(answer, Failed) and answer.code in _TEMPORARY:
        await asyncio.sleep(0.05)
        return None
    return answer


class Run:
    """A server, its claimers, and what happens to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.ledger = Ledger()
        self.counts: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._folder = folder
        self._server = ServerProcess(self._new_folder("first"), SETTINGS)
        self._claimers: list[Claimer] = []

    async def run(self, claims: int, kills: int) -> None:
        """A backup in the first half, a restore in the middle, kills all the time."""
        try:
            await self._server.start()
            await self._begin()
            await self._claim_until(claims // 4, kills // 4)
            saving = asyncio.ensure_future(asyncio.to_thread(self._back_up))
            await self._claim_until(claims // 2, 0, saving)
            await saving
            await self._settle()
            await self._restore()
            await self._claim_until(claims, kills - kills // 4)
            await self._settle()
        finally:
            await self._server.abandon()

    async def _begin(self) -> None:
        accounts = Accounts(self._server)
        signed_in = [await accounts.sign_in(name) for name in PEOPLE]
        self._claimers = [Claimer(each, self.ledger, random.Random(self._rng.random())) for each in signed_in]
        first, *others = signed_in
        async with live_on(self._server.port, first.token) as wire:
            members = [each.principal for each in others]
            created = await wire.ask(Create(3, 1, DialogType.GROUP, members, "all", Mode.OPEN))
        for claimer in self._claimers:
            claimer.dialog = created.dialog
            claimer.others = [each.device for each in signed_in if each is not claimer.signed_in]

    async def _claim_until(self, claims: int, kills: int, beside: Awaitable[None] | None = None) -> None:
        """Claim so many keys in all, with kills at even distances; and until what is done beside it has ended."""
        begun = self.ledger.claims
        due = [begun + (claims - begun) * number // (kills + 1) for number in range(1, kills + 1)]

        def over() -> bool:
            done = not isinstance(beside, asyncio.Future) or beside.done()
            return done and not due and self.ledger.claims >= claims

        async with asyncio.TaskGroup() as group:
            for claimer in self._claimers:
                group.create_task(self._live(claimer, over))
            while due:
                await asyncio.sleep(0.05)
                if self.ledger.claims >= due[0]:
                    await self._kill()
                    due.pop(0)

    async def _live(self, claimer: Claimer, over: Callable[[], bool]) -> None:
        """One connection after another."""
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with live_on(self._server.port, claimer.signed_in.token) as wire:
                    await claimer.work(wire, over)
                    return
            self.counts["reconnects"] += 1
            await asyncio.sleep(0.1)

    async def _kill(self) -> None:
        self._server.kill(self._rng, with_postgres=self._rng.random() < 0.5)
        self.counts["kills"] += 1
        await self._server.gone()
        await self._server.start()

    async def _settle(self) -> None:
        connection = await asyncpg.connect(self._server.database.url)
        held = {row[0] for row in await connection.fetch(_HELD)}
        await connection.close()
        self.ledger.settle(held)

    def _back_up(self) -> None:
        backup.backup(self._config, self._folder / "backup", lambda _line: None)

    async def _restore(self) -> None:
        assert await self._server.stop() == 0
        self._server = ServerProcess(self._new_folder("second"), SETTINGS)
        await asyncio.to_thread(backup.restore, self._config, self._folder / "backup", lambda _line: None)
        await self._server.start()
        for claimer in self._claimers:
            claimer.lost_history()
        self.counts["restores"] += 1

    @property
    def _config(self) -> Config:
        return Config(server=ServerSettings(data_dir=self._server.database.data_dir))

    def _new_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder


async def claim_keys(claims: int, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """A run; what came of it."""
    run = Run(folder, seed)
    await run.run(claims, kills)
    ledger = run.ledger
    return {
        "seed": seed,
        "claims": ledger.claims,
        "fallbacks": ledger.fallbacks,
        **{name: run.counts[name] for name in ("kills", "restores", "reconnects")},
        "issued_twice": ledger.issued_twice,
        "burnt_by_retry": ledger.burnt_by_retry,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.keys", description=__doc__)
    parser.add_argument("--claims", type=int, default=100_000, help="keys that are claimed in all")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="tchat-keys-") as folder:
        said = asyncio.run(claim_keys(chosen.claims, chosen.kills, chosen.seed, Path(folder)))
    print(json.dumps(said))
    return 1 if said["issued_twice"] or said["burnt_by_retry"] else 0


if __name__ == "__main__":
    sys.exit(main())
