"""Webhooks of the fake gateway: signed, sent again until they are taken, and with all that can go wrong on the way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from server.webhooks.posting import sign
from tests.support.fake_gateway.book import Row, as_wire
from tests.support.fake_gateway.faults import Faults

_AGAIN_AFTER_S = (0.2, 0.5, 1, 2, 5, 10, 20, 30)
_TIMEOUT_S = 5.0
_AT_ONCE_MAX = 8
_REORDERED_S = 0.3


class WebhookSender:
    """`counts`: sent, refused, given_up, and forged_taken: of forged ones, how many the receiver answered with 2xx."""

    def __init__(self, url: str, secret: str, faults: Faults, late_s: float) -> None:
        self._url = urlsplit(url)
        self._secret = secret
        self._faults = faults
        self._late_s = late_s
        self._life = os.urandom(4).hex()
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE_MAX)
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.counts = Counter(sent=0, refused=0, given_up=0, forged_taken=0)

    def report(self, row: Row) -> None:
        """Send what has become of an object: money that came in is reported by two types of events."""
        types = [f"{row['kind']}.{row['status']}"]
        if row["kind"] in ("charge", "payment") and row["status"] == "succeeded":
            types.append(f"{row['kind']}.updated")
        for type_ in types if self._url.netloc else ():
            about = f"{row['id']}/{row['version']}/{type_}"
            if not self._faults.strike("webhook_lost", about):
                self._start(self._send(about, json.dumps({"type": type_, "data": as_wire(row)}).encode()))

    def _start(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, about: str, body: bytes) -> None:
        message_id = f"msg_{self._life}_{next(self._numbers)}"
        if self._faults.strike("webhook_late", about):
            await asyncio.sleep(self._late_s)
        if self._faults.strike("webhook_reordered", about):
            await asyncio.sleep(_REORDERED_S)
        if self._faults.strike("webhook_wrong_signature", about):
            other = f"whsec_{base64.b64encode(os.urandom(24)).decode()}"
            await self._send_forged(sign(other, message_id, int(time.time()), body), body)
        if self._faults.strike("webhook_old_timestamp", about):
            await self._send_forged(sign(self._secret, message_id, int(time.time()) - 3600, body), body)
        await self._send_until_taken(message_id, body)
        if self._faults.strike("webhook_doubled", about):
            await self._send_until_taken(message_id, body)
            await self._send_until_taken(f"{message_id}_again", body)

    async def _send_forged(self, headers: dict[str, str], body: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            self.counts["forged_taken"] += 200 <= await self._post(headers, body) < 300

    async def _send_until_taken(self, message_id: str, body: bytes) -> None:
        for pause_s in (*_AGAIN_AFTER_S, None):
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                if 200 <= await self._post(sign(self._secret, message_id, int(time.time()), body), body) < 300:
                    self.counts["sent"] += 1
                    return
                self.counts["refused"] += 1
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        self.counts["given_up"] += 1

    async def _post(self, headers: dict[str, str], body: bytes) -> int:
        """The status of one request, on a connection that is kept."""
        async with self._turns, asyncio.timeout(_TIMEOUT_S):
            while self._kept:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # it was closed meanwhile
                    return await self._post_on(*self._kept.pop(), headers, body)
            opened = await asyncio.open_connection(self._url.hostname, self._url.port or 80)
            return await self._post_on(*opened, headers, body)

    async def _post_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str], body: bytes
    ) -> int:
        target = self._url.path or "/"
        lines = {"host": self._url.netloc, **headers, "content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        keep = False
        try:
            writer.write(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            lengths = [int(line[15:]) for line in answer if line.startswith("content-length:")]
            await reader.readexactly(sum(lengths))
            keep = bool(lengths) and "connection: close" not in answer
            return int(answer[0].split(" ")[1])
        finally:
            if keep:
                self._kept.append((reader, writer))
            else:
                writer.close()
