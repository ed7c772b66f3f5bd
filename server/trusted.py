"""Whom this process trusts when it calls others over TLS."""

from __future__ import annotations

import functools
import ssl

import httpx


@functools.cache
def read_trusted() -> ssl.SSLContext:
    """The certificates of authorities, or those that SSL_CERT_FILE names: read once, for that takes some 25 ms."""
    return httpx.create_ssl_context()
