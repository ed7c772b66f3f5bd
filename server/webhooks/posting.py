"""One signed request (Standard Webhooks) to an address that its owner chose: to nowhere that only this server reaches.

Invariants: a name is resolved once, every address of it is checked, and the request goes to the one that was checked;
the certificate is checked for the name. No redirect is followed, no proxy of the environment is used, no connection is
kept for another host, and of an answer only the status is read, within TIMEOUT_S.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx

from server.networks import parse_address
from server.trusted import read_trusted

TIMEOUT_S = 10.0
URL_CHARS_MAX = 2000
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
_NOWHERE = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "192.88.99.0/24")
)
"""What translates to other addresses, which are not seen here."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a name; raises OSError."""


class PostError(Exception):
    """The receiver did not take it; the text says why. `gone`: it wants nothing more."""

    def __init__(self, text: str, *, gone: bool = False) -> None:
        super().__init__(text)
        self.gone = gone


def sign(secret: str, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a request: its id, its time, and the signature of both with the body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{signature}",
    }


def check_url(url: str, *, private: bool) -> str:
    """What is wrong with an address for webhooks, as a sentence; empty if nothing. `private`: http is fine, too."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        return "must begin with https://"
    if not host or parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        return "must have a host, no user name, and only printable ASCII characters"
    return f"up to {URL_CHARS_MAX} characters" if len(url) > URL_CHARS_MAX else ""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Poster:
    """Posts to public addresses; with `private` to any."""

    def __init__(self, *, private: bool, resolve: Resolve = resolve) -> None:
        self._private = private
        self._resolve = resolve
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
            verify=read_trusted(),
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Post; raises PostError unless the answer is a success."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._post(url, headers, body)
        except TimeoutError as error:
            raise PostError(f"no answer within {TIMEOUT_S:.0f} s") from error
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise PostError(f"{type(error).__name__}: {error}"[:200]) from error
        if not 200 <= status < 300:
            raise PostError(f"the answer is {status}", gone=status == httpx.codes.GONE)

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        target = httpx.URL(url)
        address = await self._find_address(target)
        request = self._client.build_request(
            "POST",
            target.copy_with(host=address),
            headers={**headers, "host": target.netloc.decode("ascii")},
            content=body,
            extensions={"sni_hostname": target.host, "timeout": httpx.Timeout(TIMEOUT_S).as_dict()},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()
        return response.status_code

    async def _find_address(self, target: httpx.URL) -> str:
        port = target.port or (443 if target.scheme == "https" else 80)
        addresses = await self._resolve(target.host, port)
        if not addresses:
            raise PostError("the name has no address")
        if not self._private and not all(is_public(address) for address in addresses):
            raise PostError("the address is not public")
        return addresses[0]


def is_public(text: str) -> bool:
    """Whether everybody reaches this address, and nobody somewhere else by it."""
    address = parse_address(text)
    if any(address in network for network in _NOWHERE):
        return False
    return address.is_global and not address.is_multicast
