"""URLs, and what the server at one uses."""

import os
import socket
from collections.abc import Iterator

import psutil
import pytest

from loadtest.issuer import Issuer
from loadtest.lean_client import Address, LoadError
from loadtest.own_server import merge
from loadtest.target import RemoteServer, Usage, usage_of


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:7420", Address("127.0.0.1", 7420)),
        ("ws://localhost:1/v1/ws", Address("127.0.0.1", 1)),
        ("https://chat.example", Address("chat.example", 443, tls=True)),
        ("wss://chat.example:8443", Address("chat.example", 8443, tls=True)),
    ],
)
def test_a_url_says_where_the_server_is(url: str, address: Address) -> None:
    assert RemoteServer(url, Issuer()).address == address


@pytest.mark.parametrize("url", ["", "127.0.0.1:7420", "ftp://chat.example", "http://", "http://a:b", "http://a:99999"])
def test_what_is_no_url_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(LoadError, match="no URL of a server"):
        RemoteServer(url, Issuer())


def test_of_a_process_that_listens_here_the_usage_is_known(port: int) -> None:
    usage = RemoteServer(f"http://127.0.0.1:{port}", Issuer()).usage()
    assert usage.tchat_s > 0
    assert usage.tchat_bytes > 2**20


def test_of_a_server_elsewhere_nothing_is_known() -> None:
    assert RemoteServer("http://127.0.0.2:9", Issuer()).usage() == Usage()


def test_usage_since_an_earlier_one_is_the_cpu_time_between() -> None:
    assert Usage(5.0, 7.0, 30, 40).since(Usage(1.0, 2.0, 10, 20)) == Usage(4.0, 5.0, 30, 40)


def test_the_usage_of_a_process_is_what_the_kernel_counts() -> None:
    own = psutil.Process(os.getpid())
    before, usage = own.cpu_times(), usage_of(own)
    assert usage.tchat_s >= before.user + before.system


def test_settings_are_changed_one_by_one() -> None:
    assert merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": {"z": 4}}) == {"a": {"x": 1, "y": 3}, "b": {"z": 4}}
