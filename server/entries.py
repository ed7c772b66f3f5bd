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
    header = body.header
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
            keys_seq=header.keys_seq if rule.by_members else None,  # a service has no keys that could be stale
            expires_at_ms=header.expires_at_ms,
            session=header.session,
            share=header.share,
        )
    judged = isinstance(body, Edited) or header.session is not None  # clients that do not seal send reactions without
    return Entry(
        dialog,
        author,
        device,
        n,
        _EDITED if isinstance(body, Edited) else _REACTED,
        _encode(body),
        target=body.target,
        keys_seq=header.keys_seq if judged else None,
        session=header.session,
        share=header.share,
    )
