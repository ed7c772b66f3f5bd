"""What a parent does with its workers, as far as no process is needed: which ends are final, what it says of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.config.setting_types import Secret
from server.config.settings import Config, IdentitySettings, ServerSettings
from server.gateway.shared_counts import SharedCounts, create_shared_memory
from server.node import parent as parent_module
from server.node.connected import Connected, Here
from server.node.parent import Parent, reserved_port
from server.node.parent_admin import OF_THE_PARENT, parent_app
from server.node.worker import CANNOT_START, WorkerServes, WorkerStart, read_start
from server.node.worker_process import WorkerAnswer, WorkerProcess
from server.startup_error import StartupError

pytestmark = pytest.mark.anyio

PATIENCE_S = 10.0
CONFIG = Config(server=ServerSettings(workers=2, data_dir=Path("/data"), drain_timeout_s=0.01))


def start(name: str) -> WorkerStart:
    config = msgspec.structs.replace(CONFIG, identity=IdentitySettings(phone_key=Secret("hidden")))
    return WorkerStart(config=config, postgres_url="postgresql://x", name=name, number=0, counts_fd=0)


class ScriptedWorker(WorkerProcess):
    """Lives that end as the test says, and a private port that answers what it says; after them it runs until asked."""

    def __init__(
        self, codes: Sequence[int] = (), answers: dict[str, WorkerAnswer] | None = None, *, last_code: int = 0
    ) -> None:
        fd = create_shared_memory(2)
        super().__init__(start("here/1"), SharedCounts(fd, workers=2, column=0))
        os.close(fd)
        self.codes = list(codes)
        self.answers = answers
        self.last_code = last_code
        self.lives = 0
        self.told = asyncio.Event()
        self.runs_on = asyncio.Event()

    async def live(self) -> int:
        self.lives += 1
        if self.codes:
            return self.codes.pop(0)
        self.serves = WorkerServes(1, 1)
        self.runs_on.set()
        await self.told.wait()
        return self.last_code

    def terminate(self) -> None:
        self.told.set()

    def kill(self) -> None:
        self.told.set()

    async def ask(self, target: str) -> WorkerAnswer | None:
        return None if self.answers is None else self.answers.get(target.partition("?")[0])


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two lives, nor between two looks."""
    monkeypatch.setattr(parent_module, "_PAUSE_FIRST_S", 0.0)
    monkeypatch.setattr(parent_module, "_LOOK_EVERY_S", 0.0)


async def test_a_worker_that_ends_is_started_again_until_the_server_is_to_stop() -> None:
    dies, lives = ScriptedWorker([1, -9, 1]), ScriptedWorker(answers={"/healthz": WorkerAnswer(200, b"")})
    dies.answers = lives.answers
    parent, stop = Parent(CONFIG, [dies, lives]), asyncio.Event()
    ended = asyncio.ensure_future(parent.run(stop))
    async with asyncio.timeout(PATIENCE_S):
        await dies.runs_on.wait()
    stop.set()
    assert await ended == 0
    assert (dies.lives, lives.lives, parent.restarts) == (4, 1, 3)


async def test_a_worker_that_cannot_start_ends_the_server() -> None:
    cannot, lives = ScriptedWorker([1, CANNOT_START]), ScriptedWorker()
    with pytest.raises(StartupError, match="here/1 cannot start"):
        async with asyncio.timeout(PATIENCE_S):
            await Parent(CONFIG, [cannot, lives]).run(asyncio.Event())
    assert lives.told.is_set()


async def test_who_has_served_and_cannot_start_again_ends_nobody_else() -> None:
    worker, stop = ScriptedWorker([1, CANNOT_START, CANNOT_START]), asyncio.Event()
    worker.has_served.set()
    ended = asyncio.ensure_future(Parent(CONFIG, [worker]).run(stop))
    async with asyncio.timeout(PATIENCE_S):
        await worker.runs_on.wait()
    stop.set()
    assert (await ended, worker.lives) == (0, 4)


async def test_a_worker_for_which_the_machine_has_no_room_is_tried_again() -> None:
    class NoRoom(ScriptedWorker):
        async def live(self) -> int:
            if not self.lives:
                self.lives += 1
                raise BlockingIOError("no more processes")
            return await super().live()

    worker, stop = NoRoom(), asyncio.Event()
    ended = asyncio.ensure_future(Parent(CONFIG, [worker]).run(stop))
    async with asyncio.timeout(PATIENCE_S):
        await worker.runs_on.wait()
    stop.set()
    assert (await ended, worker.lives) == (0, 2)


async def test_a_worker_that_stands_still_is_killed() -> None:
    still = ScriptedWorker()
    parent, stop = Parent(CONFIG, [still]), asyncio.Event()
    ended = asyncio.ensure_future(parent.run(stop))
    async with asyncio.timeout(PATIENCE_S):
        await still.told.wait()
    stop.set()
    assert await ended == 0


async def test_a_worker_whose_private_port_is_flooded_is_alive() -> None:
    def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.close()

    fd = create_shared_memory(2)
    flooded = WorkerProcess(start("here/1"), SharedCounts(fd, workers=2, column=0))
    os.close(fd)
    async with await asyncio.start_server(reset, "127.0.0.1", 0) as server:
        flooded.serves = WorkerServes(server.sockets[0].getsockname()[1], 1)
        answer = await flooded.ask("/healthz")
        metrics = await ask([flooded], "/metrics")
    assert (answer and answer.status, flooded.silences, metrics.status_code) == (503, 0, 200)
    assert await flooded.ask("/healthz") is None


@pytest.mark.parametrize(("last_code", "exit_code"), [(0, 0), (1, 1), (-signal.SIGKILL, 1), (-signal.SIGTERM, 0)])
async def test_a_worker_that_does_not_end_well_is_an_exit_code(last_code: int, exit_code: int) -> None:
    worker, stop = ScriptedWorker(last_code=last_code), asyncio.Event()
    ended = asyncio.ensure_future(Parent(CONFIG, [ScriptedWorker(), worker]).run(stop))
    await worker.runs_on.wait()
    stop.set()
    assert await ended == exit_code


async def ask(workers: Sequence[WorkerProcess], path: str) -> httpx.Response:
    app: Any = parent_app(Parent(CONFIG, list(workers)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://parent") as client:
        return await client.get(path)


async def test_the_server_is_ready_when_every_worker_is() -> None:
    ready = ScriptedWorker(answers={"/readyz": WorkerAnswer(200, b"ready\n")})
    stalls = ScriptedWorker(answers={"/readyz": WorkerAnswer(503, b"not ready: a lane stands still\n")})
    begins, silent = ScriptedWorker(), ScriptedWorker()
    silent.serves = WorkerServes(1, 1)
    assert (await ask([ready, ready], "/readyz")).status_code == 200
    for other, why in (
        (stalls, "a lane stands still"),
        (begins, "the worker starts, or has ended"),
        (silent, "the worker does not answer"),
    ):
        answer = await ask([ready, other], "/readyz")
        assert (answer.status_code, answer.text) == (503, f"here/1: ready\nhere/1: not ready: {why}\n")


async def test_who_is_connected_is_the_answer_of_every_worker() -> None:
    devices = [Connected("p", device, "s", True, 0, 0.0) for device in ("one", "other")]
    answers = [
        {"/connected": WorkerAnswer(200, msgspec.json.encode(Here("here", number, [device])))}
        for number, device in enumerate(devices)
    ]
    given = (await ask([ScriptedWorker(answers=it) for it in answers], "/connected?principal=p")).content
    assert [here.connected for here in msgspec.json.decode(given, type=list[Here])] == [[device] for device in devices]
    wrong = {"/connected": WorkerAnswer(400, b"principal=ID takes ids.\n")}
    assert (await ask([ScriptedWorker(answers=wrong)], "/connected?principal=?")).status_code == 400


async def test_the_parent_counts_what_its_workers_do() -> None:
    workers = [ScriptedWorker(answers={"/metrics": WorkerAnswer(200, b"")}) for _ in range(2)]
    workers[0].serves, workers[0].silences = WorkerServes(1, 1), 3
    families = {it.name: it for it in text_string_to_metric_families((await ask(workers, "/metrics")).text)}
    values = {}
    for name, kind, meaning, _ in OF_THE_PARENT:
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (kind, meaning)
        values[name] = family.samples[0].value
    assert values == {"tchat_workers": 1, "tchat_worker_restarts_total": 0, "tchat_worker_silences_total": 3}


def test_the_port_is_kept_for_the_workers_and_is_that_of_one_server() -> None:
    with reserved_port("127.0.0.1", 0) as port, reserved_port("127.0.0.1", port):
        worker = socket.create_server(("127.0.0.1", port), reuse_port=True)
        with worker, pytest.raises(OSError, match="in use"), reserved_port("127.0.0.1", port):
            pass


def test_a_worker_reads_what_its_parent_wrote_with_its_secrets(tmp_path: Path) -> None:
    line = tmp_path / "line"
    line.write_bytes(start("here/1").encode())
    with line.open("rb") as pipe:
        read = read_start(pipe.fileno())
    assert (read.name, read.config.server) == ("here/1", CONFIG.server)
    assert read.config.identity.phone_key.reveal() == "hidden"
