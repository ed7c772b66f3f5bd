"""As `talk` in groups with a rate, but a part of the readers stops reading for a while, again and again.

The server sends them back to catch-up, and they must still get everything in order. Latencies are those of others.
"""

from __future__ import annotations

import asyncio
import socket

from loadtest.checking_client import CheckingClient
from loadtest.crowd import Crowd
from loadtest.loads import Share, Times, wait_until
from loadtest.scenario import SlowLoad, TalkLoad
from loadtest.talking import Talking
from loadtest.tally import Tally

_KERNEL_BYTES = 131_072
"""What the kernel here may keep for a slow reader; without a bound it grows to megabytes. The server's kernel keeps up
to four (`tcp_wmem`) all the same, so a server notices only a pause in which more than that comes."""


class Slow:
    """The load `slow` of one worker."""

    def __init__(self, spec: SlowLoad, crowd: Crowd, tally: Tally, share: Share, ramp_s: float) -> None:
        talk = TalkLoad(dialog_size=spec.dialog_size, rate=spec.rate, payload_bytes=spec.payload_bytes)
        self._spec = spec
        self._crowd = crowd
        self._talk = Talking(talk, crowd, tally, share, ramp_s)

    async def prepare(self) -> None:
        await self._talk.prepare()

    async def run(self, times: Times) -> None:
        slow = self._choose()
        for reader in slow:
            connection = reader.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
        pausing = (self._pause(reader, times, number / len(slow)) for number, reader in enumerate(slow))
        await asyncio.gather(self._talk.run(times), *pausing)

    async def settle(self) -> None:
        await self._talk.settle()

    def _choose(self) -> list[CheckingClient]:
        """The slow ones: of each group as many, who neither write nor are timed."""
        count = round(self._spec.slow_part * self._spec.dialog_size)
        readers = (member for each in self._crowd.gatherings for member in each.members[1 : 1 + count])
        return [reader for reader in readers if not reader.timed]

    async def _pause(self, reader: CheckingClient, times: Times, offset: float) -> None:
        """Pause for `pause_s` and read for as long, in turn; they do not all begin together."""
        pause_ns = int(self._spec.pause_s * 1e9)
        at_ns = times.begin_ns + int(2 * pause_ns * offset)
        while at_ns < times.until_ns:
            await wait_until(at_ns)
            if reader.is_here:
                reader.transport.pause_reading()
            await wait_until(min(at_ns + pause_ns, times.until_ns))
            if reader.is_here:
                reader.transport.resume_reading()
            at_ns += 2 * pause_ns
