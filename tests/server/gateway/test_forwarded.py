"""Forwarded headers: of trusted proxies only, and read from the right."""

import pytest

from server.gateway.forwarded import TrustedProxies, normalize_address

PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48"]


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:51234"], "198.51.100.1"),
        ("2001:db8:ffff::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
    ],
)
def test_x_forwarded_for(peer: str, values: list[str], client: str) -> None:
    assert TrustedProxies(PROXIES, "x-forwarded-for").find_client(peer, values) == client


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (['For="[2001:db8::7]:4711";proto=https;by=10.0.0.1'], "2001:db8::7"),
        (["for=203.0.113.9, proto=http;for=198.51.100.1"], "198.51.100.1"),
        (["for=_hidden"], "10.0.0.1"),
        (["for=unknown, for=10.0.0.2"], "10.0.0.2"),
        (["proto=https"], "10.0.0.1"),
        (["198.51.100.1"], "10.0.0.1"),
    ],
)
def test_forwarded(values: list[str], client: str) -> None:
    assert TrustedProxies(PROXIES, "forwarded").find_client("10.0.0.1", values) == client


def test_nobody_is_trusted_by_default() -> None:
    assert TrustedProxies([], "x-forwarded-for").find_client("10.0.0.1", ["198.51.100.1"]) == "10.0.0.1"


@pytest.mark.parametrize("address", ["::ffff:10.0.0.1", "2001:DB8:FFFF::1", "2001:db8:ffff::1%eth0"])
def test_every_form_of_a_proxys_address_is_trusted(address: str) -> None:
    assert TrustedProxies(PROXIES, "x-forwarded-for").trusts(address)


def test_what_is_no_address_is_not_trusted() -> None:
    assert not TrustedProxies(["0.0.0.0/0"], "x-forwarded-for").trusts("")


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example", ""])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"network|address|host bits"):
        TrustedProxies([network], "x-forwarded-for")


@pytest.mark.parametrize(
    ("text", "address"),
    [("fe80::1%eth0", "fe80::1"), ("[2001:db8::1]", "2001:db8::1"), ("2001:DB8::1", "2001:db8::1"), ("x", None)],
)
def test_an_address_has_one_form(text: str, address: str | None) -> None:
    assert normalize_address(text) == address
