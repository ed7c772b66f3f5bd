"""A device that is killed while it seals, and put back to older copies: `python -m tests.adversity.crypto_state`.

In each round a process seals and sends until SIGKILL meets it, in most rounds while it seals, in some while it opens
its store. Between rounds, and while it runs (stopped for that moment), its store is copied; sometimes the store is
replaced by an older copy. What was sent stays in a log, which is all that the server knows.

Prints one JSON line: `kills`, `copies`, `restored` (copies put back), `rollbacks` (those since whose copying something
was sent). `indices_reused`: indices of a session under which two different ciphertexts were sent.
`unnoticed_rollbacks`: older copies that a life went on sealing with; `false_alarms`: stores that were retired without
need. It exits with 1 unless these three are 0.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.adversity.crypto_state_child import Line, read_log, store_folder

ROOT = Path(__file__).parents[2]
_COPIES_KEPT = 6
_LIFE_S_MAX = 0.15
_START_S_MAX = 0.6


@dataclass(slots=True)
class Run:
    """The lives of one device."""

    folder: Path
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    _copies: list[tuple[Path, int]] = field(default_factory=list)
    """A copy, and how many lines had been sent when it was made."""
    _is_rolled_back: bool = False
    _is_noticed: bool = False

    def run(self, rounds: int) -> None:
        """All rounds, then one life that is not disturbed before it has sent what was left."""
        store_folder(self.folder).mkdir()
        for number in range(rounds):
            self._live(number, killed_while_it_starts=self.rng.random() < 0.2)
            if self.rng.random() < 0.3:
                self._copy()
            if self._copies and self.rng.random() < 0.4:
                self._restore()
        self._live(rounds, killed_while_it_starts=False)

    def _live(self, number: int, *, killed_while_it_starts: bool) -> None:
        program = [sys.executable, "-m", "tests.adversity.crypto_state_child", str(self.folder), str(number)]
        with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = []
            if killed_while_it_starts:
                time.sleep(self.rng.uniform(0, _START_S_MAX))
            else:
                while "ready" not in said:
                    said.append(process.stdout.readline().strip())
                    assert said[-1], "it ended by itself"
                time.sleep(self.rng.uniform(0, _LIFE_S_MAX))
                if self.rng.random() < 0.3:
                    self._copy_running(process)
                    time.sleep(self.rng.uniform(0, _LIFE_S_MAX))
            process.kill()
            self.counts["kills"] += 1
            said += process.stdout.read().split()
        assert process.returncode == -signal.SIGKILL, "it ended by itself"
        self._judge(said)

    def _judge(self, said: Sequence[str]) -> None:
        """A store that was put back must be noticed before a life comes to sealing; several may try to come there."""
        self._is_noticed |= "behind" in said
        if "ready" in said:
            self.counts["noticed"] += self._is_noticed
            self.counts["false_alarms"] += self._is_noticed and not self._is_rolled_back
            self.counts["unnoticed_rollbacks"] += self._is_rolled_back and not self._is_noticed
            self._is_rolled_back = self._is_noticed = False

    def _copy_running(self, process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGSTOP)
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        self._copy()
        process.send_signal(signal.SIGCONT)

    def _copy(self) -> None:
        if self._is_rolled_back:
            return  # copies are of stores that are not behind: so what a copy is behind of can be counted
        self.counts["copies"] += 1
        to = self.folder / f"copy-{self.counts['copies']}"
        shutil.copytree(store_folder(self.folder), to)
        self._copies.append((to, len(read_log(self.folder))))
        if len(self._copies) > _COPIES_KEPT:
            oldest, _ = self._copies.pop(self.rng.randrange(_COPIES_KEPT))
            shutil.rmtree(oldest)

    def _restore(self) -> None:
        copy, sent = self.rng.choice(self._copies)
        shutil.rmtree(store_folder(self.folder))
        shutil.copytree(copy, store_folder(self.folder))
        self.counts["restored"] += 1
        self._is_rolled_back = len(read_log(self.folder)) > sent
        self.counts["rollbacks"] += self._is_rolled_back


def count_reused(sent: Sequence[Line]) -> int:
    """Indices of a session under which different ciphertexts were sent."""
    found: dict[tuple[bytes, int], set[bytes]] = {}
    for line in sent:
        found.setdefault((line.session, index_of(line.payload)), set()).add(line.payload)
    return sum(len(payloads) - 1 for payloads in found.values())


def index_of(payload: bytes) -> int:
    """The index of a Megolm message: a version byte, then the field 1 of a protocol buffer, a number in 7-bit parts."""
    assert payload[:2] == b"\x03\x08", "a Megolm message of version 3"
    index = 0
    for place, part in enumerate(payload[2:]):
        index |= (part & 0x7F) << (7 * place)
        if part < 0x80:
            return index
    raise AssertionError("a number has an end")


def crypto_state(rounds: int, seed: int, folder: Path) -> dict[str, int]:
    """The summary of some rounds."""
    run = Run(folder, random.Random(seed))
    run.run(rounds)
    sent = read_log(folder)
    counted = ("kills", "copies", "restored", "rollbacks", "noticed", "false_alarms", "unnoticed_rollbacks")
    return {
        "rounds": rounds,
        "seed": seed,
        "sent": len(sent),
        "sent_again": len(sent) - len({line.payload for line in sent}),
        "generations": max(line.generation for line in sent),
        **{name: run.counts[name] for name in counted},
        "indices_reused": count_reused(sent),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.crypto_state", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tchat-crypto-state-") as folder:
        summary = crypto_state(chosen.rounds, chosen.seed, Path(folder))
    print(json.dumps(summary))
    return 1 if any(summary[name] for name in ("indices_reused", "unnoticed_rollbacks", "false_alarms")) else 0


if __name__ == "__main__":
    sys.exit(main())
