"""`tchat commerce`: the commerce service as a process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator

import msgspec

from server.clock import SystemClock
from server.commerce.expirer import Expirer
from server.commerce.forgetter import Forgetter
from server.commerce.gateways.configured_gateways import open_gateways
from server.commerce.gateways.gateway_work import GatewayWork
from server.commerce.history_watch import HistoryWatch
from server.config.settings import Config
from server.gateway.acceptor import Acceptor
from server.identity.jwks import DocumentFetcher
from server.node import logs
from server.node.commerce_admin import commerce_admin
from server.node.commerce_composition import Commerce, make_commerce, opened_person_keys
from server.node.commerce_settings import load_digest_key, load_sealing_key, of_commerce, says_what_to_set
from server.node.garbage import GarbageSearch
from server.node.postgres_start import running_postgres
from server.node.running_node import cancel_and_wait
from server.node.serve import stop_when_asked
from server.startup_error import StartupError
from storage.commerce.gateway_intents import GatewayIntents
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.restored_books import RestoredBooks
from storage.commerce.schema import MONEY_SCHEMA, MONEY_SETTINGS, RECONCILING_SETTINGS
from storage.postgres.migrate import migrate
from storage.postgres.pool import open_pool
from storage.postgres.write_connections import WriteConnections

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 10.0
"""The longest for a request to arrive in full, as which it counts as under way; and for a client to go on reading."""


async def serve_commerce(config: Config) -> None:
    """Run the service until SIGTERM, SIGINT or SIGHUP, then finish what is under way."""
    logs.configure(config.server.log_level, config.server.log_format, sys.stderr)
    stop = stop_when_asked()
    search = GarbageSearch(asyncio.get_running_loop())
    digest_key, sealing_key = load_digest_key(config), load_sealing_key(config)
    with running_postgres(of_commerce(config)) as postgres:
        reviving = asyncio.ensure_future(postgres.keep_running())
        try:
            with says_what_to_set():
                await migrate(postgres.url, lambda name: _log.info("migrated: %s", name), MONEY_SCHEMA)
            async with opened_commerce(config, postgres.url, digest_key, sealing_key) as commerce:
                search.begin()
                await _serve(config, commerce, stop)
        finally:
            search.end()
            await cancel_and_wait(reviving)


@contextlib.asynccontextmanager
async def opened_commerce(config: Config, url: str, digest_key: bytes, sealing_key: bytes) -> AsyncIterator[Commerce]:
    """The service on the migrated database at `url`, with its work in the background."""
    settings = config.commerce_service
    fetcher, clock = DocumentFetcher(), SystemClock()
    gateways = open_gateways(settings.gateways, clock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(fetcher.aclose)
        stack.push_async_callback(gateways.aclose)
        timeout_s = settings.statement_timeout_s
        reads = await open_pool(
            url, size=settings.read_connections_max, statement_timeout_s=timeout_s, settings=MONEY_SETTINGS
        )
        stack.push_async_callback(reads.close)
        writes = WriteConnections(
            url, size=settings.write_connections_max, statement_timeout_s=timeout_s, settings=MONEY_SETTINGS
        )
        stack.callback(writes.terminate)
        books = await RestoredBooks.open(url, statement_timeout_s=timeout_s)
        stack.push_async_callback(books.aclose)
        watch = HistoryWatch(books, synchronous=settings.failover_is_synchronous)
        await watch.step()  # a restore is noticed before the audit has lines of today
        with says_what_to_set():
            person_keys = await stack.enter_async_context(opened_person_keys(config, PersonalRecords(writes, reads)))
        commerce = make_commerce(
            config,
            writes=writes,
            reads=reads,
            fetch=fetcher,
            clock=clock,
            digest_key=digest_key,
            sealing_key=sealing_key,
            person_keys=person_keys,
            gateways=gateways,
        )
        stack.push_async_callback(cancel_and_wait, asyncio.ensure_future(watch.run()))
        expirer = asyncio.ensure_future(Expirer(commerce.ledger, interval_s=settings.expire_interval_s).run())
        stack.push_async_callback(cancel_and_wait, expirer)
        forgetter = asyncio.ensure_future(Forgetter(commerce.ledger).run())
        stack.push_async_callback(cancel_and_wait, forgetter)
        upkeep = asyncio.ensure_future(commerce.personal.upkeep.run())
        stack.push_async_callback(cancel_and_wait, upkeep)
        applying = WriteConnections(
            url, size=max(1, len(gateways.all)), statement_timeout_s=timeout_s, settings=RECONCILING_SETTINGS
        )
        stack.callback(applying.terminate)
        changes = GatewayIntents(applying, reads)
        work = GatewayWork(gateways, commerce.intents, commerce.webhooks, clock, changes=changes)
        asking = asyncio.ensure_future(work.run())
        stack.push_async_callback(cancel_and_wait, asking)
        yield commerce


async def _serve(config: Config, commerce: Commerce, stop: asyncio.Event) -> None:
    """Serve behind the chat's own acceptor, whose bounds of heads, bodies, times and connections hold here, too."""
    settings = config.commerce_service
    bounds = msgspec.structs.replace(
        config.gateway,
        http_body_bytes_max=settings.body_bytes_max,
        http_request_timeout_s=min(config.gateway.http_request_timeout_s, _REQUEST_TIMEOUT_S),
    )
    acceptor = Acceptor(bounds, None, commerce.app, SystemClock())
    port = await _listen(acceptor, settings.host, settings.port, "port")
    admin = Acceptor(config.gateway, None, commerce_admin(commerce), SystemClock())
    await _listen(admin, settings.admin_host, settings.admin_port, "admin_port")
    _show_banner(config, port)
    await stop.wait()
    _log.info("draining: requests under way are finished")
    acceptor.stop_accepting()
    admin.stop_accepting()
    await acceptor.close_http(config.server.drain_timeout_s)


async def _listen(acceptor: Acceptor, host: str, port: int, setting: str) -> int:
    try:
        _, bound = await acceptor.listen(host, port)
    except OSError as error:
        raise StartupError(
            f"Cannot listen on {host} port {port} ({error.strerror}): stop what uses it, or set "
            f"commerce_service.{setting}."
        ) from error
    return bound


def _show_banner(config: Config, port: int) -> None:
    settings = config.commerce_service
    url = f"http://{settings.host}:{port}"
    data = (settings.postgres_url and "the PostgreSQL of commerce_service.postgres_url") or str(settings.data_dir)
    lines = [f"tchat commerce listens on {url}  (API: {url}/v1/docs)", f"its data is in {data}"]
    print("\n".join(lines), flush=True)  # noqa: T201 - for the person who started it
