"""Attacks on a server of its own, while honest clients are measured: `python -m tests.adversity.attacks --seed 1`.

Starts `tchat serve` with the default configuration. Runs every attack alone, then some by three at once, each in a
process of its own on the last core, with a lower priority than the server. Prints one JSON line for each:

`honest_p99_ms`, `connect_p99_ms`: of messages between honest clients, and of newcomers who connect and sync.
`memory_mb`: how much the server's resident memory grew; `server_cpu`: how much of a core it took. On a machine that is
busy with other things, the latter says what the former two cannot. `bytes_per_s`, `requests_per_s`: what the attackers
managed. `reached`: how an attacker reached a goal of its own. `held`: none did, honest p99 is at most 100 ms, and
memory grew by at most 30 MB. The first line, `quiet`, is without an attack. Exits with 1 when one was not held.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadtest.lean_client import LoadError
from loadtest.own_server import OwnServer
from tests.adversity.attacks_honest import Honest
from tests.adversity.attacks_members import MEMBERS
from tests.adversity.attacks_strangers import STRANGERS
from tests.adversity.attacks_wire import Attacker, Report, Target

ATTACKS: dict[str, Callable[[Attacker], Coroutine[Any, Any, None]]] = {
    attack.__name__: attack for attack in (*STRANGERS, *MEMBERS)
}
P99_MS_MAX = 100.0
MEMORY_MB_MAX = 30.0
_PEOPLE = 5
_GROUPS = 6
_SETTLE_S = 1.0


class Line(msgspec.Struct):
    """What is printed of one attack."""

    name: str
    honest_p99_ms: float
    connect_p99_ms: float
    memory_mb: float
    server_cpu: float
    bytes_per_s: int
    requests_per_s: int
    reached: list[str]
    held: bool


async def run_attacks(names: Sequence[str], *, seconds: float, seed: int, groups: int) -> list[Line]:
    """Run these attacks on a new server, one after the other, then `groups` times three of them; prints each line."""
    rng = random.Random(seed)
    chosen = [[name] for name in names]
    chosen += [rng.sample(list(names), 3) for _ in range(groups)] if len(names) >= 3 else []
    lines = []
    with tempfile.TemporaryDirectory(prefix="tchat-attacks-") as folder, OwnServer(Path(folder), {}) as server:
        honest = Honest(server)
        for together in [[], *chosen]:
            await _connect(honest)
            lines.append(await _measure(server, honest, together, seconds, rng.randrange(2**32)))
            print(json.dumps(msgspec.to_builtins(lines[-1])), flush=True)
            await honest.disconnect()
            await asyncio.sleep(_SETTLE_S)
    return lines


async def _connect(honest: Honest) -> None:
    """Connect the honest clients; a server that an attack has stopped gets a minute to recover."""
    for left in reversed(range(6)):
        try:
            await honest.connect()
            break
        except LoadError:
            if not left:
                raise


async def _measure(server: OwnServer, honest: Honest, names: Sequence[str], seconds: float, seed: int) -> Line:
    before = most = server.resident_bytes()
    targets = [_target(server, honest, seconds, seed, number) for number in range(len(names))]
    attackers = [asyncio.create_task(_attack(name, target)) for name, target in zip(names, targets, strict=True)]
    ends_at = asyncio.get_running_loop().time() + seconds
    honest.troubles.clear()
    usage, began = server.usage(), time.monotonic()

    def during() -> bool:
        nonlocal most
        most = max(most, server.resident_bytes())
        going = any(not attacker.done() for attacker in attackers)
        return going or asyncio.get_running_loop().time() < ends_at

    honest_p99_ms, connect_p99_ms = await honest.measure(during)
    cpu_s, elapsed_s = server.usage().since(usage).tchat_s, time.monotonic() - began
    reports = [await attacker for attacker in attackers]
    memory_mb = round((max(most, server.resident_bytes()) - before) / 2**20, 1)
    reached = [report.reached for report in reports if report.reached]
    reached += [f"an honest client: {trouble}" for trouble in honest.troubles[:1]]
    return Line(
        name="+".join(names) or "quiet",
        honest_p99_ms=honest_p99_ms,
        connect_p99_ms=connect_p99_ms,
        memory_mb=memory_mb,
        server_cpu=round(cpu_s / elapsed_s, 2),
        bytes_per_s=sum(report.bytes_per_s for report in reports),
        requests_per_s=sum(report.requests_per_s for report in reports),
        reached=reached,
        held=not reached and honest_p99_ms <= P99_MS_MAX and memory_mb <= MEMORY_MB_MAX,
    )


def _target(server: OwnServer, honest: Honest, seconds: float, seed: int, number: int) -> Target:
    return Target(
        port=server.address.port,
        log=str(server.log),
        seconds=seconds,
        seed=seed,
        number=number,
        tokens=[server.issuer.token(f"attacker-{number}-{person}") for person in range(_PEOPLE)],
        strangers=honest.principals,
    )


async def _attack(name: str, target: Target) -> Report:
    """Run one attack in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.adversity.attacks", "--attacker", name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    answer, _ = await process.communicate(msgspec.json.encode(target))
    if process.returncode:
        raise RuntimeError(f"the attacker {name} failed")
    return msgspec.json.decode(answer, type=Report)


def _attack_from_here(name: str) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.nice(5)
    attacker = Attacker(msgspec.json.decode(sys.stdin.buffer.read(), type=Target))
    asyncio.run(ATTACKS[name](attacker))
    print(msgspec.json.encode(attacker.report()).decode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the attacks; 0 if all were held."""
    parser = argparse.ArgumentParser(prog="python -m tests.adversity.attacks")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each attack")
    parser.add_argument("--only", metavar="NAME", action="append", choices=ATTACKS, help="may be repeated")
    parser.add_argument("--attacker", choices=ATTACKS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.attacker:
        _attack_from_here(chosen.attacker)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of all that must be stopped
    names = chosen.only or list(ATTACKS)
    groups = 0 if chosen.only else _GROUPS
    lines = asyncio.run(run_attacks(names, seconds=chosen.seconds, seed=chosen.seed, groups=groups))
    return 0 if all(line.held for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
