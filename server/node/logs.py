"""Logs: one record in one line, as JSON unless a person reads them in a terminal; counted by level.

Ids go into fields of their own, given as `extra`: those of `IDS`. Invariant: no record carries content, a token, a
code, a key or a phone number (but for the sign-in codes that a development server shows). PostgreSQL quotes rows in the
details of its errors, so details are left out, of tracebacks, too.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import socket
from collections import Counter
from typing import Literal, TextIO

IDS = ("address", "principal", "device", "sign_in", "dialog")
"""Fields that a record may have, besides those of the node."""

RECORDS: Counter[str] = Counter({"error": 0, "warning": 0})
"""Records since the start, by level."""

_NODE: dict[str, str | int] = {"node": socket.gethostname()}
_DETAIL = re.compile(r"(?:\n|\\n)(?:DETAIL|HINT|CONTEXT):.*?(?=\n\n(?:The above|During handling)|\Z)", re.DOTALL)


def configure(level: str, form: Literal["auto", "text", "json"], stream: TextIO) -> None:
    """Log to `stream` from now on: records from `level` on, as text if `auto` and it is a terminal."""
    as_text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    handler.addFilter(_count)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else it logs the address of each request, which has ids


def name_node(name: str, incarnation: int | None = None) -> None:
    """Put its name, and the incarnation once it is known, into every record from now on."""
    _NODE["node"] = name
    if incarnation is not None:
        _NODE["incarnation"] = incarnation


def _count(record: logging.LogRecord) -> bool:
    RECORDS[record.levelname.lower()] += 1
    return True


def _without_details(record: logging.LogRecord) -> tuple[str, str]:
    """The message, and the traceback if there is one."""
    traceback = ""
    if record.exc_info:
        traceback = _DETAIL.sub("", logging.Formatter().formatException(record.exc_info))
    return _DETAIL.sub("", record.getMessage()), traceback


def _ids(record: logging.LogRecord) -> dict[str, str]:
    return {name: value for name in IDS if (value := getattr(record, name, None))}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object in one line; its time is UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        message, traceback = _without_details(record)
        at = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
            **_NODE,
            **_ids(record),
        }
        if traceback:
            fields["traceback"] = traceback
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A record for a person at a terminal: one line, and its traceback below; its time is local."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines."""
        message, traceback = _without_details(record)
        at = dt.datetime.fromtimestamp(record.created).astimezone().isoformat(" ", timespec="milliseconds")[:23]
        ids = "".join(f" {name}={value}" for name, value in _ids(record).items())
        line = f"{at} {record.levelname} {record.name}: {message}{ids}".replace("\n", "\\n")
        return f"{line}\n{traceback}" if traceback else line
