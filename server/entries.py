"""What the journal gets of an event of content, whether a session or a service posts it."""

from __future__ import annotations

import msgspec

from protocol.bodies import Edited, Posted, Reacted, tag_of
from protocol.kinds import KINDS
from storage.rows import Entry

_encode = msgspec.msgpack.Encoder().encode
_POSTED, _EDITED, _REACTED = tag_of(Posted), tag_of(Edited), tag_of(Reacted)


def make_entry(dialog: bytes, author: bytes, device: bytes, n: int, body: Posted | Edited | Reacted) -> Entry:
    """The entry of a body under the device's number `n`; what the flush judges by is taken from the body.

    Services write in the clear, and a reaction that is withdrawn has nothing to seal. A `content_type` would tell what
    is sealed: an envelope that has one is none.
    """
    header = body.header
    session = None if header.content_type else header.session
    if isinstance(body, Posted):
        rule = KINDS[body.kind]
        return Entry(
            dialog,
            author,
            device,
            n,
            _POSTED,
            _encode(body),
            counts=rule.counts_unread,
            target=header.reply_to,
            keys_seq=header.keys_seq if rule.by_members else None,
            expires_at_ms=header.expires_at_ms,
            session=session,
            share=header.share,
            requester=body.requester,
        )
    withdrawn = isinstance(body, Reacted) and not body.payload
    return Entry(
        dialog,
        author,
        device,
        n,
        _EDITED if isinstance(body, Edited) else _REACTED,
        _encode(body),
        target=body.target,
        keys_seq=None if withdrawn else header.keys_seq,
        session=session,
        share=header.share,
    )
