"""A lean client whose deliveries, acks and connects a tally checks and times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from loadtest.lean_client import BINARY, Address, LeanClient
from loadtest.pieces import Frame, PieceReader
from loadtest.tally import Tally
from protocol.bodies import Header, tag_of
from protocol.codec import MSGPACK
from protocol.commands import Send
from protocol.events import DialogState, HeartbeatReply, KeySlices, MissedChanges, ReceiptChanged, TypingChanged
from protocol.replies import Acked, Failed, Synced
from protocol.share_commands import ConfirmSlices

SEND_ID = 1
"""The id of every send of a load; other commands have higher ones, so that replies tell them apart."""

ASK_ID = SEND_ID + 1
"""The id of what is asked: one question of a client at a time."""

_ID_AT = 2
_ARRAY_16 = 0xDC
_ACK_HEAD = MSGPACK.encode(Acked(SEND_ID, b"", 0, 0, 0, 0))[: _ID_AT + 1]
_FAILED, _SYNCED = tag_of(Failed), tag_of(Synced)
_STATE = tag_of(DialogState)
_MAY_COME = (Synced, DialogState, MissedChanges, ReceiptChanged, TypingChanged)
_LOOK_S = 0.01
_PLAIN = Header()
_decode_ack = msgspec.msgpack.Decoder(Acked).decode


def _nothing(client: CheckingClient) -> None:
    """What follows an ack, until a load says otherwise."""


class CheckingClient(LeanClient):
    """`timed`: latencies of what comes count. `is_here`: connected and caught up. `then` follows each ack of a send."""

    def __init__(self, token: str, tally: Tally, pieces: PieceReader) -> None:
        super().__init__(token, self._note_broken)
        self.heads: dict[bytes, int] = {}
        self.caught_up: dict[bytes, int] = {}
        self.headers: dict[bytes, Header] = {}
        """What the messages of this client carry in its sealed dialogs."""
        self.catching_up = self.is_here = False
        self.timed = False
        self.then: Callable[[CheckingClient], None] = _nothing
        self.receiver = CheckingClient._take_unasked  # type: ignore[assignment]
        self.tally = tally
        self._pieces = pieces
        self._due_ns: dict[int, int] = {}

    async def connect(self, address: Address, source: str | None = None) -> None:
        began_ns = time.monotonic_ns()
        self.catching_up = True
        await super().connect(address, source)
        self.catching_up = False
        self.caught_up = dict(self.heads)
        self.is_here = True
        self.tally.connected += 1
        self.tally.take_connect(began_ns)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_here:
            self.is_here = False
            self.tally.connected -= 1
        super().connection_lost(exc)

    def post(self, dialog: bytes, payload: bytes, due_ns: int) -> None:
        """Send a message that was due then."""
        n = self.next_n()
        self._due_ns[n] = due_ns
        self.tally.sent += 1
        self.send(Send(SEND_ID, dialog, n, payload, self.headers.get(dialog, _PLAIN)))

    @property
    def unanswered(self) -> int:
        """How many of its messages have no answer yet."""
        return len(self._due_ns)

    async def await_answers(self, at_most_s: float = 10.0) -> None:
        """Wait until each send is answered."""
        for _ in range(int(at_most_s / _LOOK_S)):
            if not self._due_ns:
                return
            await asyncio.sleep(_LOOK_S)

    def take_frames(self, data: bytes) -> int:
        piece = self._pieces.read(data)
        heads = self.heads
        for item in piece.items:
            if isinstance(item, Frame):
                self.take_frame(item.first, item.payload)
            elif heads.get(item.dialog, 0) + 1 == item.first:
                heads[item.dialog] = item.last
            else:
                self.tally.take_leap(self, item)
        self.tally.delivered += piece.events
        if self.timed and piece.stamps and not self.catching_up:  # then it may be what came before already
            self.tally.take_stamps(piece.stamps, self.principal)
        return piece.size

    def take_frame(self, first: int, payload: bytes) -> None:
        if payload.startswith(_ACK_HEAD):
            self._take_ack(payload)
            return
        tag = _read_tag(payload) if first == BINARY else 0
        if tag == _FAILED and payload[_ID_AT] == SEND_ID and self._due_ns:
            self._take_refusal(payload)
        else:
            if tag in {_STATE, _SYNCED}:
                self._take_state(payload)
            super().take_frame(first, payload)

    def _note_broken(self, why: str) -> None:
        self.tally.note_broken(why)

    def _take_ack(self, payload: bytes) -> None:
        ack = _decode_ack(payload)
        due_ns = self._due_ns.pop(ack.n, None)
        if due_ns is None:
            self.tally.note_odd(f"a second ack of n {ack.n}")
            return
        self.tally.take_ack(ack.dialog, ack.seq, due_ns)
        self.then(self)

    def _take_refusal(self, payload: bytes) -> None:
        """It does not say of which send: one fewer is under way."""
        refusal = MSGPACK.decode_server(payload)
        assert isinstance(refusal, Failed)
        self._due_ns.pop(next(iter(self._due_ns)))
        self.tally.note_refused(f"{refusal.code}: {refusal.message}")

    def _take_state(self, payload: bytes) -> None:
        """A dialog that is new to this client begins where the server says; what it knows must go on where it was.

        A server that catches up may begin earlier, with what the client has already: it says so before, each time.
        """
        message = MSGPACK.decode_server(payload)
        if isinstance(message, Synced) and not message.recovered:
            self.heads.clear()
        elif isinstance(message, DialogState):
            before = message.first_seq - 1
            self.heads[message.dialog] = min(before, self.heads.get(message.dialog, before))

    def _take_unasked(self, payload: bytes) -> None:
        message = MSGPACK.decode_server(payload)
        if isinstance(message, HeartbeatReply):
            self.position = message.position or self.position
        elif isinstance(message, KeySlices):
            self.send(ConfirmSlices(0, [each.number for each in message.slices]))
        elif not isinstance(message, _MAY_COME):
            self.tally.note_odd(type(message).__name__)


def _read_tag(payload: bytes) -> int:
    """The tag of a message; it follows the length of the array, which takes three bytes from 16 elements on."""
    return payload[3] if payload[0] == _ARRAY_16 else payload[1]
