"""What no server can beat: the CPU time of writing ready frames to connected loopback sockets, in a tight loop.

Every delivery is one `send()` of one frame, or, `joined`, of so many frames at once. There is no server, no event loop
and nothing to decide: the cost is the kernel's, with one call per write in C. A second process reads and counts for
nothing, on another core if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec
import psutil

JOINED = (1, 10)
FRAME_BYTES_BESIDE = 110
"""What the frame of an event has beside the payload."""
_FRAME_BYTES = 256 + FRAME_BYTES_BESIDE
_READ_BYTES = 1 << 20
_CONNECT_S = 10.0


class Floor(msgspec.Struct, frozen=True):
    """CPU seconds of the writing process for so many deliveries."""

    connections: int
    frame_bytes: int
    joined: int
    deliveries: int
    cpu_s: float

    @property
    def deliveries_per_cpu_s(self) -> float:
        """How many deliveries a core can do at the very most."""
        return self.deliveries / self.cpu_s


def measure_floor(connections: int, frame_bytes: int, joined: int, seconds: float) -> Floor:
    """Write for so many CPU seconds, on the first of the cores that this process may use; the last one reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener, contextlib.ExitStack() as sockets:
        listener.settimeout(_CONNECT_S)
        port = listener.getsockname()[1]
        reader = psutil.Popen([sys.executable, "-m", __spec__.name, "--read-from", str(port), str(connections)])
        sockets.callback(reader.wait)  # the last thing: it ends when all its connections are closed
        with _apart(reader):
            accepted = [sockets.enter_context(listener.accept()[0]) for _ in range(connections)]
            return _write(accepted, bytes(frame_bytes), joined, seconds)


@contextlib.contextmanager
def _apart(reader: psutil.Popen) -> Iterator[None]:
    """This process on one core, the reader on another, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(reader.pid, {max(before)})
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _write(sockets: Sequence[socket.socket], frame: bytes, joined: int, seconds: float) -> Floor:
    """The loop, in whole rounds."""
    for each in sockets:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sends = [each.sendall for each in sockets]
    data, rounds = frame * joined, 0
    started = now = time.process_time()
    while now - started < seconds:
        for send in sends:
            send(data)
        rounds += 1
        now = time.process_time()
    return Floor(len(sockets), len(frame), joined, rounds * len(sockets) * joined, now - started)


def _read(port: int, connections: int) -> None:
    """Connect, and read everything until all connections are closed."""
    buffer = bytearray(_READ_BYTES)
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            selector.register(socket.create_connection(("127.0.0.1", port)), selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv_into(buffer):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one JSON object per line: the cost of single writes, and of joined ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--frame-bytes", type=int, default=_FRAME_BYTES)
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU seconds of each")
    parser.add_argument("--read-from", type=int, nargs=2, metavar=("PORT", "CONNECTIONS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.read_from:
        _read(*chosen.read_from)
        return 0
    for joined in JOINED:
        floor = measure_floor(chosen.connections, chosen.frame_bytes, joined, chosen.seconds)
        sys.stdout.write(f"{msgspec.json.encode(floor).decode()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
