"""What limits count as one client."""

import pytest

from server.networks import neighbourhood_of, network_of, parse_address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:cb00:7109", "203.0.113.9"),
        ("", ""),
        ("unix", "unix"),
        ("no:address", "no:address"),
        ("203.0.113.09", "203.0.113.09"),
    ],
)
def test_a_subscriber_is_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_network_folded_again_stays_the_same() -> None:
    assert network_of(network_of("2001:db8::1")) == network_of("2001:db8::1")


@pytest.mark.parametrize("text", ["", "x", "203.0.113.9:80", "[2001:db8::1]", "2001:db8::/64"])
def test_other_texts_are_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        parse_address(text)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("", ""),
    ],
)
def test_a_neighbourhood_is_what_a_site_gets(address: str, network: str) -> None:
    assert neighbourhood_of(address) == network
