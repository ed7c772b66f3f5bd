"""One life of a device: `python -m tests.adversity.crypto_state_child FOLDER SEED`, until it is killed.

It opens its store, learns from the log of what was sent how far the server knows it, then seals and sends for ever. To
send is to append a line to that log: number, generation, dialog, session and payload. What the store still has from
a life before is sent as it is. It says `behind` before it retires its store, and `ready` when it seals.
"""
# ruff: noqa: T201 - it reports to the run that started it

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from protocol.bodies import Posted, tag_of
from tchat.crypto.envelope import Place, Sealed
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.state import OutboxRow
from tchat.crypto.store_errors import StoreBehindError
from tchat.sealed_store import SealedStore
from tchat.store import Stored
from tchat.store_key import FileKey

PRINCIPAL, DEVICE = bytes([1]) * 16, bytes([2]) * 16
DIALOGS = [bytes([number]) * 16 for number in (3, 4, 5)]
VIEW = bytes(32)
_NOW_MS = 1_700_000_000_000
_INTENT = b"intent"


class Line(msgspec.Struct, frozen=True, array_like=True):
    """What was sent once: a line of the log, in JSON."""

    n: int
    generation: int
    dialog: bytes
    session: bytes
    payload: bytes


def read_log(folder: Path) -> list[Line]:
    """What was sent so far, in order."""
    log = folder / "sent"
    return [msgspec.json.decode(line, type=Line) for line in log.read_bytes().splitlines()] if log.exists() else []


def store_folder(folder: Path) -> Path:
    """Where the store is with all its files; the log is outside."""
    return folder / "device"


@dataclass(slots=True)
class Life:
    """A store that the server has confirmed, and its machine."""

    store: SealedStore
    machine: CryptoMachine
    log: int

    def send_pending(self) -> None:
        """What a life before has left: what was sealed leaves as it is, intents are sealed now."""
        for entry in self.store.pending():
            if entry.data == _INTENT:
                self.seal(entry.n, DIALOGS[0])
            else:
                self._send(entry.data)
            self.store.remove(entry.n, durable=False)

    def write(self, rng: random.Random) -> None:
        """Append an intent, seal it, send it; the answer comes sometimes."""
        n = self.store.next_n()
        self.store.append(Stored(n, _INTENT))
        dialog = rng.choice(DIALOGS)
        self.seal(n, dialog)
        if rng.random() < 0.8:
            self.store.remove(n, durable=False)

    def seal(self, n: int, dialog: bytes) -> None:
        """Seal what has this number, and send it."""
        place = Place(dialog, PRINCIPAL, DEVICE, n, tag_of(Posted), 1, 1)
        shared = self.machine.share(dialog, [], keys_seq=1, view=VIEW, now_ms=_NOW_MS)
        assert shared.complete

        def command(sealed: Sealed) -> OutboxRow:
            data = msgspec.json.encode(Line(n, self.machine.generation, dialog, sealed.session, sealed.payload))
            return OutboxRow(n, data)

        sealed = self.machine.seal(place, os.urandom(8), view=VIEW, now_ms=_NOW_MS, command=command)
        self._send(command(sealed).data)
        self.machine.acked(dialog, n, shared.share)

    def _send(self, line: bytes) -> None:
        os.write(self.log, line + b"\n")  # less than a page in one write: a kill leaves all of it or nothing


def begin(folder: Path) -> Life:
    """Open the store, sign in, and retire the store if it is behind."""
    sent = read_log(folder)
    n_max = max((line.n for line in sent), default=0)
    newest = max((line.generation for line in sent), default=0)
    store = SealedStore(store_folder(folder) / "store", FileKey(folder / "key"))
    try:
        store.signed_in(n_max, newest)
    except StoreBehindError:
        print("behind", flush=True)
        store.retire(n_max, newest)
    machine = CryptoMachine(store, PRINCIPAL, DEVICE, store.generation)
    return Life(store, machine, os.open(folder / "sent", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))


def main(folder: Path, seed: int) -> None:
    """Live until the kill."""
    life = begin(folder)
    life.send_pending()
    print("ready", flush=True)
    rng = random.Random(seed)
    while True:
        life.write(rng)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
