"""`python -m loadtest.measure`: measures one node on this machine, in about two minutes.

Starts `tchat serve` with its embedded PostgreSQL on an empty data folder, as separate processes, and puts four
loads on it in turn, `--rounds` times each: connections, idle sessions, direct dialogs, rooms of a hundred.
Prints a table of medians for people; `--json FILE` keeps every round for machines. CPU seconds are user and system time
of whole processes: tchat's own, and all of PostgreSQL's together.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from loadtest.measure_client import LoadError
from loadtest.measure_crowd import Crowd
from loadtest.measure_report import Measurement, as_text
from loadtest.measure_server import Server
from loadtest.measure_talk import Traffic

_SETTLE_S = 1.0
_OPEN_LOOP_PART = 0.5
_TIMED_PER_ROOM = 2


class Size(msgspec.Struct, frozen=True):
    """The size of the loads; `seconds` is the length of one round of one load."""

    idle: int = 5_000
    talkers: int = 1_000
    room: int = 100
    busy_per_room: tuple[int, ...] = (1, 10)
    seconds: float = 5.0
    rounds: int = 3


QUICK = Size(idle=60, talkers=40, room=10, busy_per_room=(1, 5), seconds=0.4, rounds=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 if all went well, 1 if the server did something unexpected."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.measure", description="Measure one node on this machine.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round to this file, too")
    parser.add_argument("--quick", action="store_true", help="a run of a few seconds that shows that it works")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each load (default: 3)")
    chosen = parser.parse_args(arguments)
    size = QUICK if chosen.quick else Size()
    if chosen.rounds is not None:
        size = msgspec.structs.replace(size, rounds=chosen.rounds)
    with tempfile.TemporaryDirectory(prefix="tchat-measure-") as folder:
        server = Server(Path(folder))
        try:
            with server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report = runner.run(measure(server, size))
        except LoadError as error:
            print_progress(f"The measurement failed: {error}\n{server.complaints()}")
            return 1
    sys.stdout.write(as_text(report))
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return 0


async def measure(server: Server, size: Size) -> Measurement:
    """Run all loads in turn."""
    crowd = Crowd(server)
    talkers = crowd.create_clients(size.talkers)
    report = Measurement(rounds=size.rounds, seconds=size.seconds)

    print_progress(f"{size.talkers} people connect for the first time")
    await crowd.connect(talkers)

    print_progress(f"{size.idle} more, to sit idle")
    before = server.resident_bytes()
    idle = crowd.create_clients(size.idle)
    report.stages["first connects"] = [await crowd.connect(idle)]
    await asyncio.sleep(_SETTLE_S)
    report.bytes_per_session = (server.resident_bytes() - before) / size.idle
    await crowd.disconnect(idle)

    print_progress("dialogs are created")
    pairs = await crowd.pair_up(talkers)
    rooms = await crowd.fill_rooms(talkers, size.room)

    await crowd.reconnect(talkers, size.seconds / 5)
    for number in range(size.rounds):
        print_progress(f"round {number + 1}: reconnects")
        report.add("reconnects", await crowd.reconnect(talkers, size.seconds))

    for number in range(size.rounds):
        print_progress(f"round {number + 1}: direct dialogs")
        acked, _ = await Traffic(server, pairs, talkers, set(talkers)).closed_loop(size.seconds)
        report.add("direct, saturated", acked)
        rate = acked.per_second * _OPEN_LOOP_PART
        report.add(
            "direct, half of that", await Traffic(server, pairs, talkers, set(talkers)).open_loop(rate, size.seconds)
        )
        crowd.check()

    for busy in size.busy_per_room:
        for number in range(size.rounds):
            print_progress(f"round {number + 1}: rooms of {size.room}, {busy} talking at once")
            places = [place for room in rooms for place in room[:busy]]
            timed = {client for room in rooms for client, _ in room[-_TIMED_PER_ROOM:]}
            _, delivered = await Traffic(server, places, talkers, timed).closed_loop(size.seconds)
            report.add(f"rooms of {size.room}, {busy} outstanding", delivered)
            crowd.check()
    await crowd.disconnect(talkers)
    return report


def print_progress(line: str) -> None:
    """Print a line about the progress to standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
