"""The PROXY protocol's header, both versions: complete, incomplete and malformed."""

import ipaddress
import struct

import pytest

from server.gateway.proxy_header import NeedMore, ProxyHeader, ProxyHeaderError, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_2(family: int, body: bytes, *, command: int = 0x21) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def addresses(source: str, destination: str, port: int = 51234) -> bytes:
    packed = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return packed + struct.pack("!HH", port, 443)


V1 = b"PROXY TCP4 192.0.2.7 203.0.113.1 51234 443\r\n"
V2 = version_2(0x11, addresses("192.0.2.7", "203.0.113.1"))


@pytest.mark.parametrize(
    ("header", "address", "port"),
    [
        (V1, "192.0.2.7", 51234),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n", "2001:db8::7", 51234),
        (b"PROXY UNKNOWN\r\n", None, 0),
        (b"PROXY UNKNOWN whatever it says\r\n", None, 0),
        (V2, "192.0.2.7", 51234),
        (version_2(0x21, addresses("2001:db8::7", "2001:db8::1")), "2001:db8::7", 51234),
        (version_2(0x11, addresses("192.0.2.7", "203.0.113.1") + b"\x04\x00\x02xx"), "192.0.2.7", 51234),
        (version_2(0x00, b"", command=0x20), None, 0),
        (version_2(0x31, bytes(216)), None, 0),
    ],
    ids=["v1", "v1 ipv6", "v1 unknown", "v1 unknown more", "v2", "v2 ipv6", "v2 with tlv", "v2 local", "v2 unix"],
)
def test_a_header_names_the_client_and_its_own_size(header: bytes, address: str | None, port: int) -> None:
    assert parse(header + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(header), address, port)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_any_prefix_of_a_header_needs_more(header: bytes) -> None:
    for end in range(len(header)):
        assert parse(bytearray(header[:end])) == NeedMore()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PROPFIND / HTTP/1.1", b"POST", b"\x16\x03\x01", b"\r\nGET"])
def test_anything_else_is_no_header(data: bytes) -> None:
    assert parse(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.7 203.0.113.1 51234\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 51234 443\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 70000 443\r\n",
        b"PROXY TCP4 192.0.2.7 203.0.113.1 -1 443\r\n",
        b"PROXY TCP4 192.0.2.\xff 203.0.113.1 1 443\r\n",
        b"PROXY TCP4  192.0.2.7 203.0.113.1 1 443\r\n",
        b"PROXY UDP4 192.0.2.7 203.0.113.1 1 443\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 " + b"1" * 100,
        version_2(0x11, b"short"),
        version_2(0x11, b"", command=0x31),
        version_2(0x11, b"", command=0x22),
    ],
)
def test_a_malformed_header_is_an_error(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse(data)
