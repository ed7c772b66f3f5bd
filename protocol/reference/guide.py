"""The guide of the reference page: a client, a conversation, what to do after each reconnect, what may be left out."""
# ruff: noqa: E501 - a row of a table cannot be wrapped

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from protocol import bodies as b
from protocol import commands as c
from protocol import events as e
from protocol import replies as r
from protocol.codec import JSON
from protocol.kinds import Kind
from protocol.reference import small_client
from protocol.reference.examples import ANN, AT_MS, BOB, EVENTS, PHONE, TEAM

_CLIENT = """\
## A client, whole

This client loses nothing, shows nothing twice and keeps its order, over any cut. It speaks json; every other client is
this one with more comfort. It leaves out: heartbeats, waiting (`retry_after_s`, back-off), the disk, and what
`missed_changes` and `history` add to what was applied.
"""

_NUMBERS = """\
Five numbers occur. A first client needs three of them:

| number | whose | a first client |
|---|---|---|
| `position` | of the server, opaque | keeps the newest and sends it in `sync` |
| `seq` | of the dialog | keeps `have`, the highest applied |
| `n` | of the device | counts up, keeps the last on disk |
| `id` | of the connection | may use `n` plus a constant, as above |
| `keys_seq` | of the dialog | ignores it in open dialogs; in sealed ones sets it when refused as `stale` |
"""

_TRANSCRIPT = """\
## A conversation, line by line

Ann's phone (`>`) and the server (`<`), under json: sign-in, a message whose answer is lost, the resume, the resend.
"""

_AFTER_EACH_RECONNECT = """\
### After each reconnect

1. `authenticate` with a token that is still valid; refresh it first if it ends within a minute. If the answer of a
   refresh was lost, use the same refresh token again within a minute: the server then answers with the pair it made.
2. `sync` with the newest kept position and *all* high-water marks of this device that may not have been stored, in
   `sync.receipts`.
3. At `synced`: if `recovered` is false, drop the state of all dialogs and the kept high-water marks (not the outbox).
   Then send every unanswered numbered command again, in order of `n`, unchanged.
4. Send `presence_subscribe` again: a connection begins with none.
5. Ask unanswered `history` and `roster` requests again; `typing` is not repeated.

**If the counter `n` was lost** (a damaged disk), begin above every `n` of the device that its timelines show: with the
time in microseconds, which is above any counter that began with 1. With a counter that is too low the answer is `conflict`
or `number_passed`. A device without its disk is best signed in as a new device, whose numbers are its own.
"""

_FIELDS_WITHOUT_EFFECT = """\
`settings.allow_media` and `settings.moderation_enabled` are kept and shown to members; the server does not read payloads,
so clients and platform services act on them. A phone number that signs in must be valid for one of the configured
countries, in development, too: for example `+6591234567` (SG), `+66812345678` (TH), `+6281234567890` (ID).
"""


def as_markdown() -> Iterator[str]:
    """The sections of the guide."""
    yield _CLIENT
    source = Path(small_client.__file__).read_text(encoding="utf-8")
    yield "```python\n" + source.split("# begin\n")[1].split("# end\n")[0].rstrip() + "\n```\n"
    yield _NUMBERS
    yield _TRANSCRIPT
    yield "```text\n" + "\n".join(_lines()) + "\n```\n"
    yield _AFTER_EACH_RECONNECT
    yield _FIELDS_WITHOUT_EFFECT


def _lines() -> Iterator[str]:
    for sign, said in conversation():
        if isinstance(said, str):
            yield f"{sign} {said}"
        else:
            yield f"{sign} {_short(said)}"


def _short(message: msgspec.Struct) -> str:
    """A message under json, without the fields that have their default."""
    return msgspec.json.encode(_without_defaults(message, msgspec.json.decode(JSON.encode(message)))).decode()


def _without_defaults(struct: msgspec.Struct, shown: dict[str, Any]) -> dict[str, Any]:
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value == field.default:
            del shown[field.name]
        elif isinstance(value, msgspec.Struct):
            shown[field.name] = _without_defaults(value, shown[field.name])
    return shown


def conversation() -> Iterator[tuple[str, str | msgspec.Struct]]:
    """What is said, in order: by the client (`>`), by the server (`<`), and notes (`#`)."""
    hello = c.Send(7, TEAM, 5, b"hello")
    again = c.Send(8, TEAM, 6, b"is this on?")
    yield "#", "The websocket is open."
    yield ">", c.Authenticate(1, "eyJhbGciOiJFZERTQSJ9...")
    yield "<", r.Authenticated(1, ANN, PHONE, AT_MS, 25.0, 64, 131_072)
    yield ">", c.Sync(2, "opaque-position-1")
    yield "<", r.Synced(2, True)
    yield "#", "A dialog changed meanwhile: its state, then what is missing. Ann has 40, so `have` is 40."
    yield "<", _state()
    yield "<", _event(41, BOB, BOB, 9, b"Ann?")
    yield "<", e.CaughtUp("opaque-position-2")
    yield "#", "Two messages, pipelined: the second does not wait for the answer to the first."
    yield ">", hello
    yield ">", again
    yield "<", r.Acked(7, TEAM, 5, 42, AT_MS + 42, 41)
    yield "<", _event(42, ANN, PHONE, 5, b"hello")
    yield "#", "The connection is cut here. Was n=6 stored? Unknown: it stays in the outbox. A new websocket:"
    yield ">", c.Authenticate(1, "eyJhbGciOiJFZERTQSJ9...")
    yield "<", r.Authenticated(1, ANN, PHONE, AT_MS + 900, 25.0, 64, 131_072)
    yield ">", c.Sync(2, "opaque-position-2")
    yield "<", r.Synced(2, True)
    yield ">", again
    yield "<", _state(seq=43)
    yield "#", "42 is known (`have` is 42): drop it. 43 is Ann's own n=6: it had been stored."
    yield "<", _event(42, ANN, PHONE, 5, b"hello")
    yield "<", _event(43, ANN, PHONE, 6, b"is this on?")
    yield "<", e.CaughtUp("opaque-position-3")
    yield "#", "The answer to the repeated n=6 is the first answer. The outbox is empty."
    yield "<", r.Acked(8, TEAM, 6, 43, AT_MS + 43, 42)


def _event(seq: int, author: bytes, device: bytes, n: int, payload: bytes) -> b.TimelineEvent:
    body = b.Posted(Kind.MESSAGE, b.Header(), payload)
    return b.TimelineEvent(TEAM, seq, author, device, n, AT_MS + seq, seq - 1, body)


def _state(seq: int = 41) -> msgspec.Struct:
    state = next(one for one in EVENTS if isinstance(one, e.DialogState))
    return msgspec.structs.replace(state, seq=seq, messages=seq - 1, keys_seq=0, first_seq=41, members=[])
