"""`tchat relay`: a relay as a process, from its start to SIGTERM, and its private port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Iterator

import asyncpg
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from server.clock import SystemClock
from server.config.payment_settings import RelaySettings
from server.config.settings import Config, GatewaySettings
from server.gateway.acceptor import Acceptor
from server.gateway.http_connection import ASGIApp
from server.node import logs
from server.node.admin import Answer, private_app
from server.node.postgres_start import with_password
from server.node.process_metrics import ProcessMetrics
from server.node.running_node import cancel_and_wait
from server.node.serve import stop_when_asked
from server.relay.announcer import Announcer
from server.relay.chat_api import ChatApi
from server.relay.read_back import ReadBack
from server.startup_error import StartupError
from storage.commerce.announcement_rows import AnnouncementBacklog
from storage.commerce.announcements import Announcements
from storage.commerce.restored_books import RestoredBooks
from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate

_log = logging.getLogger(__name__)

_WRITE_CONNECTIONS = 8
_STATEMENT_TIMEOUT_S = 10.0

OF_THE_RELAY = (
    (
        "tchat_relay_announcements_total",
        "counter",
        "Events posted, by what the chat said: taken; refused for ever; passed, so posted again. By `outcome`.",
        '`outcome="passed"` rises: the ledger was restored, or a second service posts with the same key',
    ),
    (
        "tchat_relay_leases_lost_total",
        "counter",
        "Places that another relay took over while this one was at work.",
        "it rises: relays stand still, or `relay.lease_s` is too short",
    ),
    (
        "tchat_relay_oldest_seconds",
        "gauge",
        "For how long the oldest version of a payment waits to be announced.",
        "above 10: the chat does not take them; the log says why",
    ),
    (
        "tchat_relay_refused",
        "gauge",
        "Announcements that the chat has refused for ever, at most 100,000 are counted.",
        "it jumps: `refused` in the table `announcements` has the codes",
    ),
)
"""Each with its type, its meaning, and when to look at it."""


async def relay(config: Config) -> None:
    """Announce until SIGTERM, SIGINT or SIGHUP, then finish what is under way."""
    logs.configure(config.server.log_level, config.server.log_format, sys.stderr)
    stop = stop_when_asked()
    if not config.relay.api_key:
        raise StartupError("Set relay.api_key_file to a file with the API key of a service that may post payments.")
    url = ledger_url(config.relay)
    try:
        await migrate(url, schema=MONEY_SCHEMA)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartupError(
            f"The ledger cannot be reached ({error}): run `tchat commerce` with the same relay.data_dir, or set "
            "relay.postgres_url."
        ) from error
    async with opened_relay(config.relay, url) as (announcer, announcements), reading_back(config.relay, url):
        admin = Acceptor(GatewaySettings(), None, relay_app(announcer, announcements), SystemClock())
        await admin.listen(config.relay.admin_host, config.relay.admin_port)
        running, stopped = asyncio.ensure_future(announcer.run()), asyncio.ensure_future(stop.wait())
        print(f"tchat relay announces payments at {config.relay.chat_url}", flush=True)  # noqa: T201 - for who started it
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        announcer.stop()
        _, late = await asyncio.wait({running}, timeout=config.relay.drain_timeout_s)
        if late:
            _log.warning("what is under way did not end in time: it will be repeated")
            running.cancel()
        await asyncio.gather(running, return_exceptions=not running.done())
        admin.stop_accepting()


@contextlib.asynccontextmanager
async def opened_relay(settings: RelaySettings, url: str) -> AsyncIterator[tuple[Announcer, Announcements]]:
    """A relay on the ledger at `url`, which does not run yet."""
    announcements = await Announcements.open(
        url, settings.tenant, writes=_WRITE_CONNECTIONS, statement_timeout_s=_STATEMENT_TIMEOUT_S
    )
    chat = ChatApi(settings.chat_url, lambda: read_key(settings), connections=settings.places_max + 1)
    try:
        yield Announcer(announcements, chat, SystemClock(), settings), announcements
    finally:
        await chat.aclose()
        await announcements.aclose()


@contextlib.asynccontextmanager
async def reading_back(settings: RelaySettings, url: str) -> AsyncIterator[None]:
    """Meanwhile what the chat was told is read back whenever the books were restored."""
    books = await RestoredBooks.open(url, statement_timeout_s=_STATEMENT_TIMEOUT_S)
    chat = ChatApi(settings.chat_url, lambda: read_key(settings), connections=1)
    reading = asyncio.ensure_future(ReadBack(books, chat, settings.tenant).run())
    try:
        yield
    finally:
        await cancel_and_wait(reading)
        await chat.aclose()
        await books.aclose()


def read_key(settings: RelaySettings) -> str:
    """The API key as it is now: an operator may replace the file."""
    if settings.api_key_file is None:
        return settings.api_key.reveal()
    return settings.api_key_file.read_text(encoding="utf-8").strip()


def ledger_url(settings: RelaySettings) -> str:
    """Where the ledger is; its embedded PostgreSQL is that of `tchat commerce`, which runs it."""
    if not settings.postgres_url:
        return EmbeddedPostgres(settings.data_dir).url
    return with_password(settings.postgres_url, settings.postgres_password)


def relay_app(announcer: Announcer, announcements: Announcements) -> ASGIApp:
    """`GET /healthz`, `/readyz` and `/metrics`."""

    async def answer_ready(_query: bytes) -> Answer:
        if announcer.trouble:
            return 503, "text/plain", f"not ready: {announcer.trouble}\n".encode()
        return 200, "text/plain", b"ready\n"

    async def answer_metrics(_query: bytes) -> Answer:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_RelayMetrics(announcer, await announcements.read_backlog()))
        registry.register(ProcessMetrics())
        return 200, CONTENT_TYPE_LATEST, generate_latest(registry)

    return private_app({"/readyz": answer_ready, "/metrics": answer_metrics})


class _RelayMetrics(Collector):
    def __init__(self, announcer: Announcer, backlog: AnnouncementBacklog) -> None:
        self._announcer = announcer
        self._backlog = backlog

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        by_name = {name: meaning for name, _, meaning, _ in OF_THE_RELAY}
        fates, lost, oldest, refused = by_name
        said = CounterMetricFamily(fates, by_name[fates], labels=["outcome"])
        for outcome, count in self._announcer.fates.items():
            said.add_metric([outcome], count)
        yield said
        yield CounterMetricFamily(lost, by_name[lost], value=self._announcer.lost)
        yield GaugeMetricFamily(oldest, by_name[oldest], value=self._backlog.oldest_us / 1_000_000)
        yield GaugeMetricFamily(refused, by_name[refused], value=self._backlog.refused)
