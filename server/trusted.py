"""Whom this process trusts when it calls others over TLS."""

from __future__ import annotations

import functools
import ssl

import httpx

from server.startup_error import StartupError


@functools.cache
def read_trusted() -> ssl.SSLContext:
    """The usual authorities; those that SSL_CERT_FILE or SSL_CERT_DIR names, instead. Raises StartupError.

    They are read once, for that takes some 25 ms.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise StartupError(f"The certificates that SSL_CERT_FILE names cannot be read ({error}).") from error
