"""Two places to which envelopes go: the webhook of a bot, and Cassandra, which gets what lies behind the horizon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec

from protocol.bodies import Posted, TimelineEvent
from protocol.codec import JSON
from protocol.ids import from_text
from server.config.settings import Config
from server.identity.first_admin import make_admin
from tests.adversity.restart_server import Accounts, SignIn
from tests.engines.cassandra_jars import fetch_jars, find_java
from tests.engines.cassandra_server import CassandraServer
from tests.engines.server_process import HOST, EngineMissingError
from tests.support.webhook_receiver import Request, WebhookReceiver, receiving

_LOOK_S = 0.05
_UNMOVED = "SELECT count(*) FROM journal WHERE xid >= (SELECT moved FROM archiving)"
_MOVED = "SELECT count(*) FROM journal WHERE xid < (SELECT moved FROM archiving)"


class WebhookBot:
    """A bot without a device: what it may see is posted to a receiver here."""

    def __init__(self, principal: bytes, receiver: WebhookReceiver) -> None:
        self.principal = principal
        self._receiver = receiver

    @property
    def requests(self) -> bytes:
        """All that was posted, heads and bodies."""
        posted = self._receiver.requests
        return b"\n".join(f"{each.path} {each.headers}".encode() + each.body for each in posted)

    async def has_got(self, dialog: bytes, seq: int) -> None:
        """Return once it was given this event."""
        while (dialog, seq) not in map(_place_of, self._receiver.requests):
            self._receiver.arrived.clear()
            await self._receiver.arrived.wait()

    def refuse_a_message(self) -> None:
        """Do not take the next message, once: the server keeps what it needs to post it again."""
        refused: list[Request] = []

        def answer(request: Request) -> int:
            if refused or not isinstance(_event_of(request).body, Posted):
                return 204
            refused.append(request)
            return 500

        self._receiver.answer = answer


@asynccontextmanager
async def webhook_bot(config: Config, url: str, accounts: Accounts, owner: SignIn) -> AsyncIterator[WebhookBot]:
    """A bot of `owner`, who becomes an admin in the database at `url`."""
    await make_admin(config, url, accounts.phone_of(owner))
    made = await accounts.ask("POST", "/bots", {"name": "Remy"}, owner.token)
    async with receiving() as receiver:
        await accounts.ask("PUT", "/webhook", {"url": f"http://{HOST}:{receiver.port}/"}, made["key"])
        yield WebhookBot(from_text(made["principal"]), receiver)


class _Posted(msgspec.Struct):
    data: msgspec.Raw


def _event_of(request: Request) -> TimelineEvent:
    event = JSON.decode_server(bytes(msgspec.json.decode(request.body, type=_Posted).data))
    assert isinstance(event, TimelineEvent)
    return event


def _place_of(request: Request) -> tuple[bytes, int]:
    event = _event_of(request)
    return event.dialog, event.seq


class PlaintextArchive:
    """A Cassandra that gets what lies behind the horizon. Its folder has its data files and its log of writes."""

    def __init__(self, folder: Path) -> None:
        self.server = CassandraServer(folder)

    @property
    def settings(self) -> dict[str, str]:
        """What a server needs to use it."""
        return {
            "TCHAT__STORAGE__CQL_HOSTS": f'["{HOST}"]',
            "TCHAT__STORAGE__CQL_PORT": str(self.server.port),
        }

    async def has_all(self, url: str) -> int:
        """Return once it has every row of the journal at `url`; how many it has."""
        connection = await asyncpg.connect(url)
        try:
            while await connection.fetchval(_UNMOVED):  # noqa: ASYNC110 - the mover says nothing
                await asyncio.sleep(_LOOK_S)
            return int(await connection.fetchval(_MOVED))
        finally:
            await connection.close()


def lacks_cassandra() -> str:
    """Why there can be no Cassandra here; empty if there can."""
    try:
        find_java()
        fetch_jars()
    except EngineMissingError as error:
        return str(error)
    return ""
