"""A node in a process of its own, told apart from the real server only by its tokens: `serve_for_tests KEY_FILE`.

Configured by the environment as the real one, on the embedded PostgreSQL of its data folder. Access tokens are
signed with the keys in KEY_FILE, so that a test can issue them to whomever it put into the database.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg

from server.clock import Clock, SystemClock
from server.config_load import load
from server.node import opened
from server.pipeline import Pipeline
from server.postgres_start import running_postgres
from server.registry import Registry
from server.signing_keys import SigningKeys
from server.tokens import Claims, Tokens
from storage.migrate import migrate

ISSUER = "test"


class KeyFileIdentity:
    """Tokens and signing out, nothing else."""

    def __init__(self, pool: asyncpg.Pool[Any], keys: SigningKeys, clock: Clock) -> None:
        self.tokens = Tokens(keys, clock, issuer=ISSUER, audience=ISSUER, ttl_s=3600)
        self._pool = pool

    async def app(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def sign_out(self, claims: Claims) -> None:
        await self._pool.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1", claims.sign_in)

    async def run(self) -> None:
        """Nothing is done by the clock."""


async def serve(keys: SigningKeys) -> None:
    """Run until killed."""
    config = load(None, os.environ)

    async def identity(
        pool: asyncpg.Pool[Any], clock: Clock, _pipeline: Pipeline, _registry: Registry
    ) -> KeyFileIdentity:
        return KeyFileIdentity(pool, keys, clock)

    with running_postgres(config) as url:
        await migrate(url, lambda _line: None)
        async with opened(config, url, identity, SystemClock()) as (node, work):
            print(f"tchat listens on http://127.0.0.1:{node.port}", flush=True)  # noqa: T201 - whoever started it waits for it
            await work


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(SigningKeys.from_pem(Path(sys.argv[1]).read_text())))
