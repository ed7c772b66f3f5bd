"""The examples, as people run them: programs with an API key, against a real node, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from protocol import ids
from protocol.commands import Create
from protocol.dialog_types import DialogType
from server.clock import SystemClock
from server.config.settings import IdentitySettings
from server.webhooks.posting import sign
from tchat import Client, ConnectionState
from tchat.encryption.notices import Standing
from tchat.fold.message import Message
from tchat.memory_store import MemoryStore
from tests.support.api_world import ANN, CHAI, grant_admin
from tests.support.site import Site, site_on
from tests.support.webhook_receiver import receiving

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Example:
    """A bot with a key, the program that it is, and somebody who talks to it."""

    def __init__(self, site: Site, program: str, folder: Path, bot: str) -> None:
        self.site, self.program, self.folder = site, program, folder
        self.bot = ids.from_text(bot)
        self.environment: dict[str, str] = {}
        self.dialog = b""
        self.began = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """The program, once others can write to it; killed at the end."""
        own = {"BOT_SERVER": str(self.site.http.base_url), "BOT_KEY": "bot.key", "PYTHONPATH": str(ROOT)}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "examples" / f"{self.program}.py"),
            cwd=self.folder,
            env={**os.environ, **own, **self.environment},
            stdout=PIPE,
            stderr=PIPE,
        )
        try:
            assert process.stderr is not None
            awaited = {b"live"} if self.began else {b"live", b"one of yours"}
            self.began = True
            logged: list[bytes] = []
            with anyio.move_on_after(20):
                while awaited and (line := await process.stderr.readline()):
                    logged.append(line)
                    awaited = {words for words in awaited if words not in line}
            assert not awaited, logged
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @contextlib.asynccontextmanager
    async def talking(self) -> AsyncIterator[Client]:
        """A person with a direct dialog with the bot."""
        signed_in = await self.site.sign_in(ANN)

        async def token(_fresh: bool) -> str:
            return str(signed_in["access_token"])

        with anyio.fail_after(60):
            async with Client(self.site.running.url, token, store=MemoryStore(), on_event=lambda _: None) as client:
                await client.wait_until(lambda: client.state is ConnectionState.LIVE)
                await client.wait_until(lambda: client.encryption.standing is Standing.LISTED)
                self.dialog = (await client.perform(Create(0, 0, DialogType.DIRECT, [self.bot]))).dialog
                await client.wait_until(lambda: self.dialog in client.view.dialogs)
                yield client

    async def until_said(self, client: Client, count: int) -> list[str]:
        """What the bot has said, once it is as much as this."""

        def said() -> list[str]:
            timeline = client.view.dialogs[self.dialog].timeline()
            messages = [one for one in timeline if isinstance(one, Message) and one.author == self.bot]
            return [one.payload.decode() for one in messages]

        await client.wait_until(lambda: len(said()) >= count)
        return said()


@contextlib.asynccontextmanager
async def example(database_url: str, program: str, folder: Path) -> AsyncIterator[Example]:
    """A node with an admin, and a bot that the admin has made."""
    async with site_on(database_url, IdentitySettings()) as site:
        admin = await site.sign_in(CHAI)
        await grant_admin(site.identity.people, SystemClock().wall_ms(), site.vault, CHAI)
        made: dict[str, Any] = (await site.ask(admin, "POST", "/v1/bots", {"name": program})).json()
        (folder / "bot.key").write_text(made["key"] + "\n")
        yield Example(site, program, folder, made["principal"])


async def test_the_echo_bot_answers_each_message_once_although_it_is_killed(database_url: str, tmp_path: Path) -> None:
    async with example(database_url, "echo", tmp_path) as echo, contextlib.AsyncExitStack() as first_life:
        await first_life.enter_async_context(echo.running())
        async with echo.talking() as ann:
            texts = [str(number) for number in range(16)]
            for text in texts:
                await ann.send(echo.dialog, text.encode())
            await echo.until_said(ann, 3)
            await first_life.aclose()
            async with echo.running() as again:
                assert await echo.until_said(ann, len(texts)) == texts
                await ann.send(echo.dialog, b"last")
                assert await echo.until_said(ann, len(texts) + 1) == [*texts, "last"]
                again.terminate()
                assert await again.wait() == 0


async def test_the_reminder_reminds_once(database_url: str, tmp_path: Path) -> None:
    async with (
        example(database_url, "reminder", tmp_path) as reminder,
        reminder.running(),
        reminder.talking() as ann,
    ):
        await ann.send(reminder.dialog, b"/remind me")
        await ann.send(reminder.dialog, b"/remind 0 tea")
        assert sorted(await reminder.until_said(ann, 3)) == [
            "I will remind you in 0 minutes.",
            "Write /remind MINUTES TEXT.",
            "tea",
        ]


async def test_the_bridge_carries_both_ways_once_each(database_url: str, tmp_path: Path) -> None:
    async with example(database_url, "bridge", tmp_path) as bridge, receiving() as other:
        bridge.environment = {
            "BRIDGE_URL": f"http://127.0.0.1:{other.port}/",
            "BRIDGE_PORT": "0",
            "BRIDGE_SECRET": SECRET,
        }
        async with bridge.running() as process, bridge.talking() as ann:
            assert process.stdout is not None
            port = int((await process.stdout.readline()).split()[1])
            await ann.send(bridge.dialog, b"/bridge")
            await bridge.until_said(ann, 1)
            other.answer = lambda _request: 500 if len(other.requests) == 1 else 204
            await ann.send(bridge.dialog, b"hello there")
            while len(other.requests) < 2:
                other.arrived.clear()
                await other.arrived.wait()
            bodies = [json.loads(request.body)["text"] for request in other.requests]
            assert bodies == ["hello there", "hello there"]
            assert len({request.headers["webhook-id"] for request in other.requests}) == 1
            body = json.dumps({"text": "hello here"}).encode()
            now_s = int(time.time())
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                good = sign(SECRET, "msg_1", now_s, body)
                wrong = sign("whsec_" + "A" * 32, "msg_2", now_s, body)
                old = sign(SECRET, "msg_3", now_s - 1000, body)
                sent = [
                    (await http.post("/", content=body, headers=one)).status_code for one in (good, good, wrong, old)
                ]
            assert sent == [204, 204, 401, 400]
            assert (await bridge.until_said(ann, 2))[1:] == ["hello here"]
