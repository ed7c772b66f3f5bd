"""A commerce for tests: the HTTP contract over a socket, with a book of payments in memory, or with scripted answers.

It holds a caller to the contract: a token for this request, by this deployment's key, and a key for each POST.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
import msgspec

from protocol.commerce.contract import Approval, NewPayment, PartOfPayment, PaymentReply, request_digest
from protocol.ids import new_id
from server.identity.signing_keys import SigningKeys

_SEEN = ("version", "amount_minor", "currency", "payee")
_AFTER = {"decline": "declined", "cancel": "cancelled", "refund": "refunded", "capture": "paid", "approve": "paid"}


@dataclass(frozen=True)
class Asked:
    """A request as it came, and what its token said."""

    method: str
    path: str
    key: str
    body: bytes
    claims: dict[str, Any]


class FakeCommerce:
    """Serves the contract. `script`: raw answers, or None for silence, given before its own are."""

    def __init__(self, keys: SigningKeys) -> None:
        self.keys = keys
        self.url = ""
        self.asked: deque[Asked] = deque(maxlen=1000)
        self.script: deque[bytes | None] = deque()
        self.payments: dict[UUID, PaymentReply] = {}
        self.arrived = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self._answers: dict[str, tuple[bytes, bytes]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, one after the other."""
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                pairs = [line.partition(": ") for line in head[1:]]
                headers = {name.lower(): value for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                answer = self._take(method, path, headers, body)
                if answer is None:
                    await reader.read()
                    return
                writer.write(answer)
                await writer.drain()

    def _take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        key = headers.get("idempotency-key", "")
        token = headers.get("authorization", "").rpartition(" ")[2]
        public = self.keys.find_accepted(jwt.get_unverified_header(token)["kid"])
        assert public is not None, "signed with another key"
        options: jwt.types.Options = {"verify_exp": False, "verify_iat": False}  # the caller has a clock of its own
        claims = jwt.decode(token, public, algorithms=["EdDSA"], audience="commerce", options=options)
        assert claims["digest"] == request_digest(method, path, key, body)
        assert 0 < claims["exp"] - claims["iat"] <= 60
        assert "iss" not in claims, "an access token of the chat would have one"
        self.asked.append(Asked(method, path, key, body, claims))
        self.arrived.set()
        if self.script:
            return self.script.popleft()
        return self._answer_once(method, path, key, body)

    def _answer_once(self, method: str, path: str, key: str, body: bytes) -> bytes:
        if method == "GET":
            return self._answer(path, body)
        what = hashlib.sha256(path.encode() + b"\n" + body).digest()
        if key not in self._answers:
            self._answers[key] = (what, self._answer(path, body))
        known, answer = self._answers[key]
        return answer if known == what else refusal("key_reused", 409)

    def _answer(self, path: str, body: bytes) -> bytes:
        _, _, _, *named = path.split("/")
        if not named:
            return self._make(msgspec.json.decode(body, type=NewPayment))
        payment = self.payments.get(UUID(named[0]))
        if payment is None:
            return refusal("payment_not_found", 404)
        if len(named) > 1:
            if named[1] == "approve":
                seen = msgspec.json.decode(body, type=Approval)
                is_now = Approval(**{name: getattr(payment, name) for name in _SEEN})
                if msgspec.structs.replace(seen, proof=None) != is_now:
                    return refusal("changed", 409)
            elif named[1] in ("refund", "capture"):
                msgspec.json.decode(body, type=PartOfPayment)
            payment = msgspec.structs.replace(payment, state=_AFTER[named[1]], version=payment.version + 1)
            self.payments[payment.id] = payment
        return response(200, msgspec.json.encode(payment))

    def _make(self, new: NewPayment) -> bytes:
        state = "requested" if new.intent == "request" else "held" if new.capture == "later" else "paid"
        payment = PaymentReply(
            id=UUID(bytes=new_id()), version=1, state=state, payer=new.payer, payee=new.payee,
            amount_minor=new.amount_minor, currency=new.currency, dialog=new.dialog, order=new.order,
        )  # fmt: skip
        self.payments[payment.id] = payment
        return response(201, msgspec.json.encode(payment))


def response(status: int, body: bytes, *headers: str) -> bytes:
    """An HTTP answer in bytes."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "content-type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def refusal(code: str, status: int = 409, retry_after_s: float | None = None) -> bytes:
    """An HTTP answer that refuses."""
    return response(status, msgspec.json.encode({"code": code, "message": "no", "retry_after_s": retry_after_s}))


@contextlib.asynccontextmanager
async def fake_commerce(keys: SigningKeys) -> AsyncIterator[FakeCommerce]:
    """A commerce that serves, on any port of this machine."""
    commerce = FakeCommerce(keys)
    server = await asyncio.start_server(commerce.serve, "127.0.0.1", 0)
    commerce.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield commerce
    finally:
        server.close()
        for writer in commerce.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
