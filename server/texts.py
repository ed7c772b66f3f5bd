"""Short texts that people and services choose and others read: names, descriptions, addresses of pictures.

Control characters and overrides of the writing direction are refused: they forge lines, titles and names on the screens
of others. Marks that right-to-left names and joined emoji need are allowed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from protocol.errors import ErrorCode
from server.refusals import RequestRefusedError

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
ONE_LINE = rf"^[^{_CONTROL}]*(?![\s\S])"
"""The pattern of one line, for types of fields; its end also refuses a newline as the last character."""
_NOT_IN_LINE = re.compile(rf"[{_CONTROL}]")


def check_line(field: str, text: str) -> None:
    """Raise RequestRefusedError unless the text is one line without control characters."""
    if _NOT_IN_LINE.search(text):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"{field}: one line, without control characters")


def check_paragraphs(field: str, text: str) -> None:
    """Raise RequestRefusedError if the text has control characters beside newlines and tabs."""
    if _NOT_IN_LINE.search(text.replace("\n", "").replace("\t", "")):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"{field}: no control characters beside newline and tab")


def check_https(field: str, text: str) -> None:
    """Raise RequestRefusedError unless the text is an https URL, or empty."""
    try:
        parts = urlsplit(text)
        good = not text or (parts.scheme == "https" and bool(parts.hostname) and text.isprintable() and " " not in text)
    except ValueError:
        good = False
    if not good:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"{field}: an https URL, or empty")
