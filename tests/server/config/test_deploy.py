"""The configuration of the nodes in `compose.yaml` is one with which a node would start."""

import re
from pathlib import Path

from server.config.load import load

_ROOT = Path(__file__).parents[3]
_SECRETS = {
    "TCHAT__STORAGE__POSTGRES_PASSWORD": "a password",
    "TCHAT__IDENTITY__PHONE_KEY": "a key",
    "TCHAT__IDENTITY__SIGNING_KEY": "a key",
}
_COMPOSE = (_ROOT / "compose.yaml").read_text()


def test_the_configuration_of_the_nodes_breaks_no_rule() -> None:
    config = load(_ROOT / "deploy" / "node.toml", _SECRETS)
    assert config.server.mode == "production"
    assert set(_SECRETS) == set(re.findall(r"^ +(TCHAT__\w+):", _COMPOSE, re.MULTILINE))


def test_the_proxy_that_is_trusted_is_the_one_of_the_containers() -> None:
    config = load(_ROOT / "deploy" / "node.toml", _SECRETS)
    assert list(config.gateway.trusted_proxies) == re.findall(r"ipv4_address: (\S+)", _COMPOSE)


def test_the_hosts_that_are_configured_are_services() -> None:
    config = load(_ROOT / "deploy" / "node.toml", _SECRETS)
    hosts = re.findall(r"//(?:\w+@)?(\w+)", config.storage.postgres_url + " ".join(config.cluster.redis_urls))
    services = set(re.findall(r"^  (\w+):$", _COMPOSE, re.MULTILINE))
    assert {*hosts, *config.storage.cql_hosts} <= services
