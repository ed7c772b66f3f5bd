"""Whether a webhook of a gateway is genuine and of now (Standard Webhooks).

What it says is not believed beyond that: it is a hint that an object has changed, which is then fetched. So a copy that
somebody sends again, within its age or from the gateway itself, costs one read and changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from server.startup_error import StartupError

WEBHOOK_BYTES_MAX = 65_536
WEBHOOK_AGE_S_MAX = 300
"""How far the time of a webhook may be from ours, in either direction."""
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
_SECRET_BYTES_MIN = 24
_HEADER_CHARS_MAX = 1000


class WebhookRefusedError(Exception):
    """It is not from this gateway, or not of now; the text says which, and has nothing of what was sent."""


def read_secret(text: str) -> bytes:
    """The key in a secret `whsec_...`; raises StartupError."""
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _SECRET_BYTES_MIN:
        raise StartupError(
            f"The webhook secret of a gateway must be {_SECRET_PREFIX} and the base64 of {_SECRET_BYTES_MIN} or more "
            "bytes. Copy it from the gateway's settings."
        )
    return key


def check_webhook(key: bytes, headers: Mapping[str, str], body: bytes, now_ms: int) -> None:
    """Raises WebhookRefusedError unless the holder of the key signed it less than WEBHOOK_AGE_S_MAX ago.

    `headers` have names in small letters. Nothing of the body is read before it is known to be genuine.
    """
    if len(body) > WEBHOOK_BYTES_MAX:
        raise WebhookRefusedError(f"more than {WEBHOOK_BYTES_MAX} bytes")
    parts = [headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")]
    if not all(0 < len(part) <= _HEADER_CHARS_MAX for part in parts):
        raise WebhookRefusedError("not signed")
    message_id, timestamp, signatures = parts
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    if not any([hmac.compare_digest(expected, each.encode()) for each in signatures.split(" ")]):  # noqa: C419 - all
        raise WebhookRefusedError("the signature is wrong")
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise WebhookRefusedError("its time is no number")
    if abs(now_ms - int(timestamp) * 1000) > WEBHOOK_AGE_S_MAX * 1000:
        raise WebhookRefusedError("its time is more than five minutes from now")
