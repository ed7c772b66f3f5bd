"""Where privacy is tried: `tchat commerce` over a PostgreSQL and two folders of keys that are saved and restored.

People with marked data ask it over HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jwt
import msgspec

from protocol.commerce.contract import AUDIENCE, IDEMPOTENCY_HEADER, TOKEN_LIFE_S, request_digest
from protocol.ids import new_id, to_text
from server.identity.signing_keys import SigningKeys, new_pem
from storage.embedded.cluster import EmbeddedPostgres
from storage.person_keys import erased_list, key_copy
from tests.adversity.plaintext_search import Marks, Search
from tests.support.commerce_process import TCHAT, run

ROOT = Path(__file__).parents[2]
_START_S = 60.0
_MAIN = "import sys\nfrom server.node.cli import main\nsys.exit(main())"
_TENANT = 1


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class MarkedPerson:
    """Somebody whose data has marks: what they stored, and what must be left of it."""

    def __init__(self, rng: random.Random, marks: Marks) -> None:
        self.id = new_id()
        self.home = {
            "name": marks.make().decode(),
            "line": marks.make(120).decode(),
            "phone": marks.make(30).decode(),
            "country": rng.choice(["TH", "ID", "FR"]),
        }
        self.identity = {"kind": "person", "name": marks.make().decode(), "tax_number": marks.make(40).decode()}
        self.identity["country"] = self.home["country"]
        self.order = to_text(new_id())
        self.address = ""
        self.export = ""
        self.erased = False


class PrivacyStage:
    """The service, its places, and the backups that were made of them."""

    def __init__(self, folder: Path, rng: random.Random, prelude: str) -> None:
        self.rng = rng
        self.marks = Marks(rng)
        self.folder = folder
        self.books = folder / "books"
        self.keys = (folder / "keys-one", folder / "keys-other")
        self.saved = folder / "saved"
        self.log = folder / "commerce.log"
        self._chat = SigningKeys.from_pem(new_pem())
        self._program = f"{prelude}\n{_MAIN}"
        self._numbers = itertools.count(1)
        self._postgres = EmbeddedPostgres(self.books)
        self._process: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient
        self._api_key = ""
        (folder / "jwks.json").write_text(json.dumps(self._chat.as_jwks()))

    @property
    def url(self) -> str:
        """The database."""
        return self._postgres.url

    def _environment(self) -> dict[str, str]:
        said = {
            "PORT": "0",
            "ADMIN_PORT": "0",
            "POSTGRES_URL": self.url,
            "DATA_DIR": str(self.folder / "data"),
            "KEY_DIR": str(self.keys[0]),
            "SECOND_KEY_DIR": str(self.keys[1]),
            "REQUESTS_PER_CALLER_PER_S": "10000",
            "REQUESTS_PER_SERVICE_PER_S": "10000",
            "JWKS_URL": (self.folder / "jwks.json").as_uri(),
        }
        named = {f"TCHAT__COMMERCE_SERVICE__{name}": value for name, value in said.items()}
        return {**os.environ, **named, "PYTHONPATH": str(ROOT), "TCHAT__SERVER__LOG_LEVEL": "debug"}

    # -- its life

    async def start_postgres(self) -> None:
        """Start the database alone."""
        await asyncio.to_thread(self._postgres.start)

    async def start_service(self) -> None:
        """Start the service; return when it answers."""
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", self._program, "commerce"),
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env=self._environment(),
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _START_S)
        found = re.search(rb"http://[\d.:]+", line)
        if found is None:
            raise RuntimeError(f"the service did not start: {self.log.read_text()[-2000:]}")
        self._client = httpx.AsyncClient(base_url=found[0].decode(), trust_env=False, timeout=60)
        if not self._api_key:
            rights = ("--right", "personal", "--right", "admin")
            code, key = await run(*TCHAT, "commerce", "key", "privacy", *rights, environment=self._environment())
            assert code == 0, key
            self._api_key = key.strip()

    async def stop(self) -> None:
        """End the service politely, then the database."""
        if self._process is not None and self._process.returncode is None:
            await self._client.aclose()
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()
        await asyncio.to_thread(self._postgres.stop)

    # -- backups

    def save(self) -> None:
        """A backup of the database and of both folders of keys, made while nothing runs."""
        self.saved.mkdir()
        for folder in (self.books, *self.keys):
            _copy(folder, self.saved / folder.name)

    def restore(self, lost: int | None) -> None:
        """The saved database, the saved keys with the lists of now; of `lost`, a folder of keys, nothing at all."""
        shutil.rmtree(self.books)
        _copy(self.saved / self.books.name, self.books)
        for number, folder in enumerate(self.keys):
            shutil.copy(self.saved / folder.name / key_copy.FILE_NAME, folder / key_copy.FILE_NAME)
            if number == lost:
                shutil.rmtree(folder)
        self._postgres = EmbeddedPostgres(self.books)

    def lists_are_there(self) -> bool:
        """Whether both folders have their list of erased keys."""
        return all((folder / erased_list.FILE_NAME).exists() for folder in self.keys)

    # -- what is asked

    async def ask(self, method: str, path: str, body: Any = None, *, who: MarkedPerson | None = None) -> Any:
        """What a person is answered, or a service with the right personal; raises RefusedError."""
        content = b"" if body is None else msgspec.json.encode(body)
        key = f"key {next(self._numbers)}.{time.time_ns()}".replace(" ", "-") if method == "POST" else ""
        token = self._api_key if who is None else self._sign(who, method, f"/v1/{path}", key, content)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if key:
            headers[IDEMPOTENCY_HEADER] = key
        answer = await self._client.request(method, f"/v1/{path}", content=content, headers=headers)
        if not answer.is_success:
            raise RefusedError(answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def _sign(self, who: MarkedPerson, method: str, path: str, key: str, content: bytes) -> str:
        now_s = int(time.time())
        claims = {
            "aud": AUDIENCE,
            "sub": to_text(who.id),
            "tenant": _TENANT,
            "device": to_text(who.id),
            "iat": now_s,
            "exp": now_s + TOKEN_LIFE_S,
            "digest": request_digest(method, path, key, content),
        }
        return jwt.encode(claims, self._chat.signing, algorithm="EdDSA", headers={"kid": self._chat.kid})

    # -- where it is looked

    async def dump(self) -> bytes:
        """All rows of all tables, as text."""
        connection = await asyncpg.connect(self.url)
        try:
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            parts: list[bytes] = []
            for (table,) in tables:
                await connection.copy_from_table(table, output=_into(parts), schema_name="public")
            return b"".join(parts)
        finally:
            await connection.close()

    def search(self, dump: bytes) -> Search:
        """Look for every mark in every file and in the dump."""
        search = Search(self.marks.patterns())
        search.through_text("dump", dump)
        search.through_folder("all", self.folder)
        return search


def _into(parts: list[bytes]) -> Any:
    async def take(data: bytes) -> None:
        parts.append(bytes(data))

    return take


def _copy(source: Path, target: Path) -> None:
    """A copy of a folder whose files keep their owner: PostgreSQL runs as another user than root."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
