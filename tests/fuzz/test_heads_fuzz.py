"""Random first bytes: a head or a PROXY header is parsed, refused or incomplete, however it is split."""

from hypothesis import given
from hypothesis import strategies as st

from server.gateway import proxy_header, request_head
from server.gateway.forwarded import TrustedProxies
from server.gateway.request_head import HeadError, RequestHead

LIMIT = 200

pieces = st.one_of(
    st.sampled_from(
        [
            *(
                "GET",
                "POST",
                " ",
                "/",
                "HTTP/1.1",
                "\r\n",
                "\r\n\r\n",
                "\n",
                "\r",
                ":",
                "Host: a",
                "Upgrade: websocket",
            ),
            *(
                "Content-Length: 5",
                "Content-Length",
                "Transfer-Encoding: chunked",
                "\t",
                "GET / HTTP/1.1\r\nHost: a\r\n",
            ),
        ]
    ).map(str.encode),
    st.binary(max_size=5),
)
heads = st.lists(pieces, max_size=20).map(b"".join)


def read(data: bytes, step: int) -> RequestHead | int | None:
    """The head, the status of its refusal, or None if it is incomplete; `step` bytes arrive at a time."""
    buffer, seen = bytearray(), 0
    for start in range(0, len(data), step):
        buffer += data[start : start + step]
        try:
            size = request_head.find_end(buffer, seen, LIMIT)
            if size is not None:
                return request_head.parse(buffer[:size])
        except HeadError as error:
            return error.status
        seen = len(buffer)
    return None


@given(heads, st.integers(1, 50))
def test_a_head_is_parsed_the_same_however_it_is_split(data: bytes, step: int) -> None:
    assert read(data, step) == read(data, len(data) or 1)


@given(heads)
def test_an_accepted_head_is_unambiguous_about_its_body(data: bytes) -> None:
    head = read(data, len(data) or 1)
    if isinstance(head, RequestHead):
        assert len(head.get_values("content-length")) + len(head.get_values("transfer-encoding")) <= 1
        assert head.size <= LIMIT
        assert head.has_body in (True, False)


@given(
    st.one_of(st.just(b"PROXY TCP4 "), st.just(b"\r\n\r\n\x00\r\nQUIT\n"), st.just(b"")),
    st.one_of(st.binary(max_size=120), st.text("0123456789.: \r\nTCP46", max_size=120).map(str.encode)),
)
def test_a_proxy_header_is_parsed_refused_or_incomplete(prefix: bytes, rest: bytes) -> None:
    try:
        header = proxy_header.parse(prefix + rest)
    except proxy_header.ProxyHeaderError:
        return
    if isinstance(header, proxy_header.ProxyHeader):
        assert 0 < header.size <= len(prefix + rest)
        assert proxy_header.parse(prefix + rest + b"more") == header


@given(st.sampled_from(["x-forwarded-for", "forwarded"]), st.lists(st.text(max_size=30), max_size=3))
def test_a_forwarded_header_never_raises(header: str, values: list[str]) -> None:
    TrustedProxies(["0.0.0.0/0", "::/0"], header).find_client("10.0.0.1", values)
