"""The public keys of an external issuer: its JWKS document (RFC 7517), fetched on demand and cached.

Bounds: one fetch at a time and at most one every REFETCH_S, however many tokens name unknown keys; a document of at
most BYTES_MAX bytes and KEYS_MAX keys; only asymmetric keys, and strong ones. When a fetch fails, the cached keys stay
in use until they are STALE_S old, so that an outage of the issuer's web server signs nobody out.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from server.clock import Clock
from server.startup_error import StartupError
from server.trusted import read_trusted

_log = logging.getLogger(__name__)

FRESH_S = 600.0
STALE_S = 86_400.0
REFETCH_S = 30.0
BYTES_MAX = 262_144
KEYS_MAX = 64
_TIMEOUT_S = 5.0
_ALGORITHMS = frozenset({"EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_KEY_TYPES = frozenset({"OKP", "EC", "RSA"})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


_RSA_BITS_MIN = 2048
_RSA_BITS_MAX = 8192
"""The work of a verification grows with the square of the size."""
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_ED25519_PRIME = 2**255 - 19
_ED25519_LOW_ORDER = frozenset(
    {
        0,
        1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
        _ED25519_PRIME - 1,
    }
)
"""The `y` of the eight points of low order (RFC 8032): under such a key anybody can make signatures."""


class JwksError(Exception):
    """The document cannot be fetched, or is not a JWKS document."""


class FetchDocument(Protocol):
    """Fetches a document."""

    async def __call__(self, url: str) -> bytes:
        """The document; raises JwksError."""
        ...


class KeySet:
    """The keys of one issuer."""

    def __init__(
        self, url: str, fetch: FetchDocument, clock: Clock, *, setting: str = "identity.issuers: jwks_url"
    ) -> None:
        """Raises StartupError, which names the setting, when keys may not be fetched from this URL."""
        _check_url(url, setting)
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def find(self, kid: object) -> jwt.PyJWK | None:
        """The key of this name, None when there is none; raises JwksError when no keys can be fetched."""
        name = kid if isinstance(kid, str) else ""
        if name in self._keys and self._age_s() < FRESH_S:
            return self._keys[name]
        await self._refresh(name)
        if self._age_s() > STALE_S:
            raise JwksError(f"no keys of {self._url}")
        return self._keys.get(name)

    async def _refresh(self, name: str) -> None:
        """Fetch, unless another task just did, or a fetch just failed."""
        async with self._fetching:
            now = self._clock.monotonic()
            if name in self._keys and self._age_s() < FRESH_S:
                return
            if self._tried_at is not None and now - self._tried_at < REFETCH_S:
                return
            self._tried_at = now
            try:
                self._keys = _usable_keys(await self._fetch(self._url))
            except JwksError as error:
                _log.warning("the keys of an issuer cannot be fetched: %s", error)
            else:
                self._fetched_at = now

    def _age_s(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock.monotonic() - self._fetched_at


class DocumentFetcher(FetchDocument):
    """Fetches over https (http from this machine only), or reads a file; follows no redirect."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` None uses the network."""
        self._client = httpx.AsyncClient(
            verify=read_trusted(), timeout=_TIMEOUT_S, follow_redirects=False, transport=transport
        )

    async def __call__(self, url: str) -> bytes:
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if parts.scheme == "file":
                    return await asyncio.to_thread(_read, Path(unquote(parts.path)))
                return await self._get(url)
        except (OSError, TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise JwksError(f"{url}: {type(error).__name__} {error}") from error

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _get(self, url: str) -> bytes:
        body = bytearray()
        async with self._client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise JwksError(f"{url} answers {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BYTES_MAX:
                    raise JwksError(f"{url} is larger than {BYTES_MAX} bytes")
        return bytes(body)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        body = file.read(BYTES_MAX + 1)
    if len(body) > BYTES_MAX:
        raise JwksError(f"{path} is larger than {BYTES_MAX} bytes")
    return body


def _check_url(url: str, setting: str) -> None:
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if local or parts.scheme in {"https", "file"}:
        return
    raise StartupError(f"{setting} must be https:// or file:///, and {url!r} is neither.")


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


def _usable_keys(body: bytes) -> dict[str, jwt.PyJWK]:
    """The keys of a document that may sign tokens; others are skipped. Raises JwksError when it is malformed."""
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JwksError(f"not a JWKS document: {error}") from error
    found: dict[str, jwt.PyJWK] = {}
    for entry in document.keys[:KEYS_MAX]:
        if entry.get("use", "sig") != "sig" or str(entry.get("kty")) not in _KEY_TYPES:
            continue
        if "alg" in entry and str(entry["alg"]) not in _ALGORITHMS:
            continue
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.algorithm_name in _ALGORITHMS and _is_strong(key.key):
            found[str(entry.get("kid", ""))] = key
    return found


def _is_strong(key: object) -> bool:
    """Whether nobody but its owner can sign for a key, and verifying costs little."""
    if isinstance(key, RSAPublicKey):
        return _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, _CURVES)
    if isinstance(key, Ed25519PublicKey):
        y = int.from_bytes(key.public_bytes_raw(), "little") % 2**255
        return y % _ED25519_PRIME not in _ED25519_LOW_ORDER
    return False
