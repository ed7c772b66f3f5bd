"""The bodies of webhooks as they are kept: sealed by AES-GCM, with the name of their gateway."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


def seal_body(sealing_key: bytes, name: str, body: bytes) -> bytes:
    """The body of a webhook of this gateway, sealed."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(sealing_key).encrypt(nonce, body, name.encode())


def open_body(sealing_key: bytes, name: str, sealed: bytes) -> bytes:
    """The body again, for who looks into it. Raises InvalidTag if another key sealed it."""
    return AESGCM(sealing_key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
