"""The first request head of a connection, parsed strictly (RFC 9112).

If the request is not for a websocket, two parsers see it: this one, which decides which protocol the connection speaks,
and that of the HTTP server. A head that two parsers may read differently is refused here: otherwise request smuggling
becomes possible.
"""

import re

import msgspec

_END = b"\r\n\r\n"
_method_start = re.compile(rb"[A-Z]{1,16}(?: |\Z)")
_request_line = re.compile(r"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD = r"([-!#$%&'*+.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)\r\n"
"""A line `name: value`. No part gives back what it has matched: else many spaces would take seconds to refuse."""
_field = re.compile(_FIELD)
_fields = re.compile(f"(?:{_FIELD})*+")
_digits = re.compile(r"[0-9]{1,18}")


class HeadError(Exception):
    """The bytes are not an acceptable request head."""

    def __init__(self, status: int, reason: str) -> None:
        """`status` and `reason`, one sentence, go into the response."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestHead(msgspec.Struct, frozen=True):
    """A request head without ambiguity."""

    method: str
    target: str
    minor_version: int
    """0 or 1, for HTTP/1.0 or HTTP/1.1."""
    fields: list[tuple[str, str]]
    """In order; names in lower case, values stripped."""
    size: int
    """In bytes, with the empty line."""

    def get_values(self, name: str) -> list[str]:
        """Return all values of one field, in order."""
        return [value for field, value in self.fields if field == name]

    def get_tokens(self, name: str) -> set[str]:
        """Return the members of a comma-separated field, in lower case."""
        return {token.strip().lower() for value in self.get_values(name) for token in value.split(",")}

    @property
    def wants_websocket(self) -> bool:
        """Whether this is a request for a websocket, valid or not."""
        return any(name == "upgrade" for name, _ in self.fields) and "websocket" in self.get_tokens("upgrade")

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return any(
            name == "transfer-encoding" or (name == "content-length" and int(value) > 0) for name, value in self.fields
        )


def find_end(data: bytes | bytearray, seen: int, size_max: int) -> int | None:
    """Find the end of the head, after its empty line; None while the head is incomplete.

    `seen` is the number of bytes searched before. Raises `HeadError` as soon as the head cannot become acceptable.
    """
    if not data:
        return None
    if not seen and data[:2] == b"\x16\x03":
        raise HeadError(400, "this port speaks plain HTTP: connect with TLS to the proxy in front of it")
    if seen <= 16 and _method_start.match(data) is None:
        raise HeadError(400, "this is not an HTTP request")
    end = data.find(_END, max(0, seen - 3))
    size = len(data) if end < 0 else end + len(_END)
    if size > size_max:
        raise HeadError(431, f"the request head is larger than {size_max} bytes")
    if data.count(b"\n", seen, size) != data.count(b"\r\n", max(0, seen - 1), size):
        raise HeadError(400, "a line ends in LF without CR")
    return None if end < 0 else size


def parse(head: bytes | bytearray) -> RequestHead:
    """Parse a whole head, as measured by `find_end`. Raises `HeadError` if it is malformed or ambiguous."""
    first, _, rest = head[:-2].decode("latin-1").partition("\r\n")
    match = _request_line.fullmatch(first)
    if match is None:
        raise HeadError(400, "the request line is not 'METHOD target HTTP/1.1'")
    if _fields.fullmatch(rest) is None:  # a folded line, a space before the colon, a control character
        raise HeadError(400, "a header line is not 'name: value'")
    fields = [(name.lower(), value.rstrip(" \t")) for name, value in _field.findall(rest)]
    request = RequestHead(match[1], match[2], int(match[3]), fields, len(head))
    names = [name for name, _ in fields]
    if "content-length" in names or "transfer-encoding" in names:
        _check_framing(request)
    hosts = names.count("host")
    if hosts > 1 or hosts < request.minor_version:
        raise HeadError(400, "there must be exactly one Host header")
    return request


def _check_framing(request: RequestHead) -> None:
    """Refuse a head that does not say clearly where the body ends (RFC 9112, section 6.3)."""
    lengths, codings = request.get_values("content-length"), request.get_values("transfer-encoding")
    if lengths and codings:
        raise HeadError(400, "Content-Length and Transfer-Encoding exclude each other")
    if len(lengths) > 1:
        raise HeadError(400, "there is more than one Content-Length")
    if lengths and _digits.fullmatch(lengths[0]) is None:
        raise HeadError(400, "Content-Length is not a number")
    if codings and (request.minor_version == 0 or [coding.lower() for coding in codings] != ["chunked"]):
        raise HeadError(400, "the only accepted Transfer-Encoding is 'chunked', in HTTP/1.1")
