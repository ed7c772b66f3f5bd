"""The payments of a dialog, as the events that are loaded show them: of each the notice with the highest version."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from protocol.bodies import Ref
from protocol.commerce.payment_notice import CONTENT_TYPE, PaymentNotice, decode_notice
from protocol.kinds import Kind
from tchat.fold.message import Message

_NO_REF = Ref("", "")


def newest_notices(messages: Iterable[Message]) -> dict[bytes, PaymentNotice]:
    """By payment its newest notice, in whatever order the messages come. What cannot be read is passed over."""
    newest: dict[bytes, PaymentNotice] = {}
    for message in messages:
        notice = _read(message)
        if notice is not None:
            known = newest.get(notice.payment.bytes)
            if known is None or notice.version > known.version:
                newest[notice.payment.bytes] = notice
    return newest


def _read(message: Message) -> PaymentNotice | None:
    if message.posted is None or message.posted.kind is not Kind.PAYMENT or message.header.content_type != CONTENT_TYPE:
        return None
    ref = message.header.ref or _NO_REF
    try:
        return decode_notice(message.payload, (ref.type, ref.id))
    except msgspec.MsgspecError:  # it names another payment, or is of a newer version that this one cannot read
        return None
