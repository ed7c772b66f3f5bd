"""The first request head of a connection, read strictly (RFC 9112).

Two parsers see these bytes when the request is not for a websocket: this one, which decides where the connection
goes, and the HTTP server's. Whatever two parsers may read differently is refused here: it is what request
smuggling is made of.
"""

import re

import msgspec

_END = b"\r\n\r\n"
_method_start = re.compile(rb"[A-Z]{1,16}(?: |\Z)")
_request_line = re.compile(r"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/1\.([01])")
_field = re.compile(r"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_digits = re.compile(r"[0-9]{1,18}")


class HeadError(Exception):
    """The bytes are no acceptable request head."""

    def __init__(self, status: int, reason: str) -> None:
        """`status` is what to answer with, `reason` one sentence for whoever sent the request."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestHead(msgspec.Struct, frozen=True):
    """A request head that has one meaning only."""

    method: str
    target: str
    minor_version: int
    """0 or 1: of HTTP/1."""
    fields: list[tuple[str, str]]
    """Names in lower case, values stripped, in order."""
    size: int
    """Bytes, the empty line included."""

    def values(self, name: str) -> list[str]:
        """All values of one field, in order."""
        return [value for field, value in self.fields if field == name]

    def tokens(self, name: str) -> set[str]:
        """The members of a comma-separated field, in lower case."""
        return {token.strip().lower() for value in self.values(name) for token in value.split(",")}

    @property
    def wants_websocket(self) -> bool:
        """Whether this asks for a websocket, well or badly."""
        return "websocket" in self.tokens("upgrade")

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return bool(self.values("transfer-encoding")) or any(int(size) for size in self.values("content-length"))


def find_end(data: bytes | bytearray, seen: int, size_max: int) -> int | None:
    """Find where the head ends, its empty line included; None if it has not yet ended.

    `seen` bytes have been looked at before. Raise `HeadError` as soon as no acceptable head can come of it.
    """
    if not data:
        return None
    if not seen and data[:2] == b"\x16\x03":
        raise HeadError(400, "this port speaks plain HTTP; TLS ends in the proxy in front of it")
    if seen <= 16 and _method_start.match(data) is None:
        raise HeadError(400, "this is not an HTTP request")
    end = data.find(_END, max(0, seen - 3))
    size = len(data) if end < 0 else end + len(_END)
    if size > size_max:
        raise HeadError(431, f"the request head is larger than {size_max} bytes")
    line = data.find(b"\n", seen, size)
    while line >= 0:
        if data[line - 1] != 0x0D:
            raise HeadError(400, "a line ends in LF without CR")
        line = data.find(b"\n", line + 1, size)
    return None if end < 0 else size


def parse(head: bytes | bytearray) -> RequestHead:
    """Parse a whole head, as `find_end` measured it. Raise `HeadError` if it is malformed or ambiguous."""
    first, *lines = head[: -len(_END)].decode("latin-1").split("\r\n")
    match = _request_line.fullmatch(first)
    if match is None:
        raise HeadError(400, "the request line is not 'METHOD target HTTP/1.1'")
    fields = []
    for line in lines:
        field = _field.fullmatch(line)
        if field is None:  # a fold, a space before the colon, a control character
            raise HeadError(400, "a header line is not 'name: value'")
        fields.append((field[1].lower(), field[2].rstrip(" \t")))
    request = RequestHead(match[1], match[2], int(match[3]), fields, len(head))
    _check_framing(request)
    hosts = len(request.values("host"))
    if hosts > 1 or hosts < request.minor_version:
        raise HeadError(400, "there must be exactly one Host header")
    return request


def _check_framing(request: RequestHead) -> None:
    """Refuse whatever leaves open where the body ends (RFC 9112, section 6.3)."""
    lengths, codings = request.values("content-length"), request.values("transfer-encoding")
    if lengths and codings:
        raise HeadError(400, "Content-Length and Transfer-Encoding exclude each other")
    if len(lengths) > 1:
        raise HeadError(400, "there is more than one Content-Length")
    if lengths and _digits.fullmatch(lengths[0]) is None:
        raise HeadError(400, "Content-Length is not a number")
    if codings and (request.minor_version == 0 or [coding.lower() for coding in codings] != ["chunked"]):
        raise HeadError(400, "the only Transfer-Encoding is 'chunked', in HTTP/1.1")
