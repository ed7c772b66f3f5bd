"""What the cluster's faults are made of does what it says."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adversity.cluster_clock import SteppedClock, find_compiler
from tests.adversity.cluster_networks import becomes
from tests.support.cutting_proxy import CuttingProxy

pytestmark = pytest.mark.anyio

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    """One before a server that answers with what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = CuttingProxy(random.Random(1))
    await proxy.open()
    proxy.targets = [server.sockets[0].getsockname()[1]]
    yield proxy
    await proxy.close()
    server.close()


@pytest.fixture
async def streams(proxy: CuttingProxy) -> AsyncIterator[Streams]:
    """A connection through it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield reader, writer
    writer.close()


async def test_what_passes_late_and_in_slices_arrives_whole_and_in_order(proxy: CuttingProxy, streams: Streams) -> None:
    reader, writer = streams
    proxy.slicing, proxy.delay_s = True, (0.001, 0.01)
    sent = random.Random(2).randbytes(50_000)
    writer.write(sent[:10])
    await reader.readexactly(10)
    writer.write(sent[10:])
    assert await reader.readexactly(len(sent) - 10) == sent[10:]
    assert proxy.sliced > 500
    assert proxy.delayed > 0


async def test_one_direction_is_held_until_it_is_released(proxy: CuttingProxy, streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"before")
    await reader.readexactly(6)
    proxy.hold(to_server=False)
    writer.write(b"hello")
    assert await becomes(lambda: proxy.withheld > 0, within_s=10.0)
    received = asyncio.ensure_future(reader.readexactly(5))
    await asyncio.wait({received}, timeout=0)
    assert not received.done()
    proxy.release()
    assert await received == b"hello"


async def test_what_was_in_a_black_hole_is_lost_and_its_end_is_a_reset(proxy: CuttingProxy, streams: Streams) -> None:
    reader, writer = streams
    writer.write(b"before")
    await reader.readexactly(6)
    proxy.hold()
    writer.write(b"hello")
    assert await becomes(lambda: proxy.withheld > 0, within_s=10.0)
    proxy.swallow()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(5)
    assert proxy.swallowed == 1
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    writer.close()


@pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler `cc` (apt-get install gcc)")
def test_the_wall_clock_of_a_program_steps_and_its_durations_go_on(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path / "clock")
    variables = dict(variable.split("=", 1) for variable in clock.variables(str(clock.folder)))
    script = "import time; [print(time.time() - time.monotonic(), flush=True) for _ in iter(input, 'end')]"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | variables
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def offset_s() -> int:
            program.stdin.write("\n")  # type: ignore[union-attr]
            program.stdin.flush()  # type: ignore[union-attr]
            return round(float(program.stdout.readline()) - (time.time() - time.monotonic()))  # type: ignore[union-attr]

        assert offset_s() == 0
        clock.step_to(-3600)
        assert offset_s() == -3600
        clock.step_to(0)
        assert offset_s() == 0
        program.stdin.write("end\n")
