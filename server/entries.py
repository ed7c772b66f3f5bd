"""What the journal gets of an event of content, whether a session or a service posts it."""

from __future__ import annotations

import msgspec

from protocol.bodies import Edited, Posted, Reacted, tag_of
from protocol.kinds import KINDS
from storage.rows import Entry

_encode = msgspec.msgpack.Encoder().encode
_POSTED, _EDITED, _REACTED = tag_of(Posted), tag_of(Edited), tag_of(Reacted)


def make_entry(dialog: bytes, author: bytes, device: bytes, n: int, body: Posted | Edited | Reacted) -> Entry:
    """The entry of a body under the device's number `n`; what the flush judges by is taken from the body."""
    if isinstance(body, Posted):
        header, rule = body.header, KINDS[body.kind]
        return Entry(
            dialog,
            author,
            device,
            n,
            _POSTED,
            _encode(body),
            counts=rule.counts_unread,
            target=header.reply_to,
            keys_seq=header.keys_seq if rule.by_members else None,  # a service has no keys that could be stale
            expires_at_ms=header.expires_at_ms,
        )
    if isinstance(body, Edited):
        keys_seq = body.header.keys_seq
        return Entry(dialog, author, device, n, _EDITED, _encode(body), target=body.target, keys_seq=keys_seq)
    return Entry(dialog, author, device, n, _REACTED, _encode(body), target=body.target)
