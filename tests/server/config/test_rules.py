"""The rules between keys: the defaults keep all of them, and each is broken one step beyond its boundary."""

from inspect import isfunction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.config import rules
from server.config.message_sizes import largest_command, largest_event, largest_service_event
from server.config.rules import RULES, find_broken_rules
from server.config.setting_types import Secret
from server.config.settings import Config, IssuerSettings

COMMAND, EVENT, BODY = largest_command(), largest_event(), largest_service_event()
PRODUCTION = {"server__mode": "production", "identity__code_sender": "none"}
NODES = {
    "cluster__redis_urls": ("redis://r",),
    "identity__signing_key": Secret("one"),
    "identity__phone_key": Secret("another"),
}
READABLE = Path("/etc/passwd")
"""A file that every user may read, everywhere."""
TOKEN_HEADER = len("Authorization: Bearer \r\n") + 8192


def issuer(name: str) -> IssuerSettings:
    return IssuerSettings(issuer=name, audience="chat", jwks_url="https://id.example/keys", tenant=2)


def config(**changes: Any) -> Config:
    """The defaults with some keys changed: `section__key=value`."""
    changed = Config()
    for name, value in changes.items():
        section, key = name.split("__")
        part = msgspec.structs.replace(getattr(changed, section), **{key: value})
        changed = msgspec.structs.replace(changed, **{section: part})
    return changed


CASES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    *(
        (
            {"commerce__url": right},
            {"commerce__url": wrong},
            "commerce.url: set http:// or https:// with a host, and without user name, query and fragment.",
        )
        for right, wrong in (
            ("https://pay.example:7430/chat", "ftp://pay.example"),
            ("http://127.0.0.1:1", "http://127.0.0.1:99999"),
            ("https://[::1]", "https://"),
            ("https://pay.example", "https://me:secret@pay.example"),
            ("https://pay.example", "https://pay.example/?a=1"),
        )
    ),
    (
        {"relay__chat_url": "https://chat.example"},
        {"relay__chat_url": "chat.example"},
        "relay.chat_url: set http:// or https:// with a host, and without user name, query and fragment.",
    ),
    (
        {
            "storage__postgres_url": "postgresql://x@db/chat",
            "commerce_service__postgres_url": "postgresql://x@db/books",
        },
        {"storage__postgres_url": "postgresql://x@db/chat", "commerce_service__postgres_url": "postgresql://x@db/chat"},
        "commerce_service.postgres_url: this is the database of the chat: name another one.",
    ),
    (
        {"reports__moderators_key": "CQ" + 40 * "A" + "A"},  # the base point
        {"reports__moderators_key": 43 * "A"},
        ("reports.moderators_key: a Curve25519 key of low order: set the public key that `tchat reports key` prints."),
    ),
    (
        {"gateway__message_bytes_max": COMMAND},
        {"gateway__message_bytes_max": COMMAND - 1},
        (
            f"gateway.message_bytes_max: {COMMAND - 1} bytes do not fit the largest command of a client: "
            f"set at least {COMMAND}."
        ),
    ),
    (
        {"gateway__http_body_bytes_max": BODY},
        {"gateway__http_body_bytes_max": BODY - 1},
        (
            f"gateway.http_body_bytes_max: {BODY - 1} bytes do not fit the largest event of a service: "
            f"set at least {BODY}."
        ),
    ),
    (
        {"gateway__head_bytes_max": TOKEN_HEADER},
        {"gateway__head_bytes_max": TOKEN_HEADER - 1},
        (
            f"gateway.head_bytes_max: {TOKEN_HEADER - 1} bytes do not fit the longest access token, "
            f"without the other headers: set at least {TOKEN_HEADER}."
        ),
    ),
    (
        {"sessions__outbox_bytes_max": EVENT},
        {"sessions__outbox_bytes_max": EVENT - 1},
        (
            f"sessions.outbox_bytes_max: {EVENT - 1} bytes do not fit the largest event of a timeline: "
            f"set at least {EVENT}."
        ),
    ),
    (
        {"eraser__dialog_deletion_grace_days": 30},
        {"eraser__dialog_deletion_grace_days": 29},
        (
            "eraser.dialog_deletion_grace_days: 29 days are less than sync.position_age_max_days = 30: a client "
            "may never learn that a dialog was deleted: set at least 30."
        ),
    ),
    (
        {"pipeline__queue_rows_max": 500},
        {"pipeline__queue_rows_max": 499},
        (
            "pipeline.queue_rows_max: 499 rows can never fill a flush of pipeline.batch_rows_max = 500: "
            "set at least 500."
        ),
    ),
    (
        {"pipeline__batch_rows_max": 20_000},
        {"pipeline__batch_rows_max": 20_001},
        (
            "pipeline.queue_rows_max: 20000 rows can never fill a flush of pipeline.batch_rows_max = 20001: "
            "set at least 20001."
        ),
    ),
    (
        {"sessions__in_flight_sends_max": 20_000},
        {"sessions__in_flight_sends_max": 20_001},
        (
            "pipeline.queue_rows_max: 20000 rows refuse sends of a single session, which may have "
            "sessions.in_flight_sends_max = 20001 unanswered: set at least 20001."
        ),
    ),
    (
        {"pipeline__retry_max_s": 15.0},
        {"pipeline__retry_max_s": 15.1},
        (
            "pipeline.retry_max_s: must lie between pipeline.retry_first_s and pipeline.retry_total_s: "
            "set 0.05 to 15.0, not 15.1."
        ),
    ),
    (
        {"pipeline__retry_max_s": 0.05},
        {"pipeline__retry_max_s": 0.04},
        (
            "pipeline.retry_max_s: must lie between pipeline.retry_first_s and pipeline.retry_total_s: "
            "set 0.05 to 15.0, not 0.04."
        ),
    ),
    (
        {"sessions__idle_timeout_s": 25.1},
        {"sessions__idle_timeout_s": 25.0},
        (
            "sessions.idle_timeout_s: must be longer than sessions.heartbeat_s, or idle clients are disconnected: "
            "set more than 25.0."
        ),
    ),
    (
        {"pipeline__queue_bytes_max": EVENT},
        {"pipeline__queue_bytes_max": EVENT - 1},
        (
            f"pipeline.queue_bytes_max: {EVENT - 1} bytes do not fit the largest event of a timeline: "
            f"set at least {EVENT}."
        ),
    ),
    (
        {"gateway__trusted_proxies": ("10.0.0.0/8", "2001:db8::1")},
        {"gateway__trusted_proxies": ("10.0.0.0/8", "10.0.0.1/8")},
        "gateway.trusted_proxies: 10.0.0.1/8 has host bits set: set addresses or networks, such as 10.0.0.0/8.",
    ),
    (
        {"gateway__trusted_proxies": ("10.0.0.0/8", "fc00::/7")},
        {"gateway__trusted_proxies": ("0.0.0.0/0",)},
        (
            "gateway.trusted_proxies: 0.0.0.0/0 is wider than any network of yours, so strangers could name any client "
            "address: set the addresses of your proxies."
        ),
    ),
    (
        {"gateway__trusted_proxies": ("0.0.0.0/8", "8000::/8")},
        {"gateway__trusted_proxies": ("::/1", "8000::/1")},
        (
            "gateway.trusted_proxies: ::/0 is wider than any network of yours, so strangers could name any client "
            "address: set the addresses of your proxies."
        ),
    ),
    (
        {**PRODUCTION, "server__admin_host": "0.0.0.0", "server__admin_is_guarded": True},
        {**PRODUCTION, "server__admin_host": "0.0.0.0"},
        (
            "server.admin_host: 0.0.0.0 may be reached by strangers, and the private port has no sign-in: set an "
            "address of your private network, or server.admin_is_guarded = true if a firewall keeps them out."
        ),
    ),
    (
        {**PRODUCTION, "server__admin_host": "10.0.0.11"},
        {**PRODUCTION, "server__admin_host": "8.8.8.8"},
        (
            "server.admin_host: 8.8.8.8 may be reached by strangers, and the private port has no sign-in: set an "
            "address of your private network, or server.admin_is_guarded = true if a firewall keeps them out."
        ),
    ),
    (
        {"identity__issuers": (issuer("shop"), issuer("bank"))},
        {"identity__issuers": (issuer("shop"), issuer("tchat"))},
        "identity.issuers: 'tchat' is taken by another issuer or by identity.issuer: rename one.",
    ),
    (
        {"identity__phone_key_file": READABLE},
        {**PRODUCTION, "identity__phone_key_file": READABLE},
        (f"identity.phone_key_file: every user of this machine may read {READABLE}: chmod o= {READABLE}"),
    ),
    (
        {"server__host": "localhost", "server__admin_host": "::1"},
        {"server__admin_host": "192.0.2.1"},
        (
            "server.admin_host: development serves this machine only and 192.0.2.1 is not a loopback address: "
            'set 127.0.0.1, or server.mode = "production".'
        ),
    ),
    (
        {"server__mode": "production", "server__host": "0.0.0.0", "identity__code_sender": "none"},
        {"server__mode": "production"},
        (
            'identity.code_sender: "log" writes every sign-in code to the log and is refused in production: '
            'set a sender of your own, or "none" if people sign in with tokens of other issuers only.'
        ),
    ),
    (
        {"server__workers": 2, **NODES},
        {"server__workers": 2},
        "server.workers: 2 workers tell each other through Redis what is new: set cluster.redis_urls, or 1.",
    ),
    (
        {"server__workers": 14, **NODES},
        {"server__workers": 15, **NODES},
        (
            "server.workers: 15 may need 510 connections, and the embedded PostgreSQL has 500 at most: set fewer "
            "workers, a smaller storage.connections_max, or storage.postgres_url."
        ),
    ),
    (
        {"server__workers": 2, "cluster__redis_urls": ("redis://r",)},
        NODES,
        (
            "cluster.redis_urls: nodes share a database, and the embedded one has a single server: set "
            "storage.postgres_url, more than one of server.workers, or leave it empty."
        ),
    ),
    (
        {**NODES, "storage__postgres_url": "postgresql://user@host/database"},
        {**NODES, "storage__postgres_url": "postgresql://user@host/database", "identity__phone_key": Secret()},
        (
            "cluster.redis_urls: nodes that share a database have the same keys: set TCHAT__IDENTITY__SIGNING_KEY and "
            "TCHAT__IDENTITY__PHONE_KEY, or identity.signing_key_file and identity.phone_key_file."
        ),
    ),
    (
        {"storage__postgres_url": "postgresql://user@host/database"},
        {"storage__postgres_url": "postgresql://user:hunter2@host/database"},
        (
            "storage.postgres_url: the password must not be in the URL: "
            "set TCHAT__STORAGE__POSTGRES_PASSWORD, or storage.postgres_password_file."
        ),
    ),
    (
        {"storage__cql_hosts": ("10.0.0.1", "scylla.example", "2001:db8::1")},
        {"storage__cql_hosts": ("10.0.0.1", "scylla.example:9042")},
        (
            "storage.cql_hosts: 'scylla.example:9042' is no host: set names or addresses, and the port in "
            "storage.cql_port."
        ),
    ),
    (
        {"storage__cql_user": "tchat", "storage__cql_password": Secret("x")},
        {"storage__cql_user": "tchat"},
        (
            "storage.cql_user: a user has a password, and a password a user: set storage.cql_user and "
            "TCHAT__STORAGE__CQL_PASSWORD, or neither."
        ),
    ),
]
"""For each rule: keys at the boundary, keys one step beyond it, and what the rule then says."""


def test_the_defaults_break_no_rule() -> None:
    assert list(find_broken_rules(Config())) == []


@pytest.mark.parametrize(("kept", "broken", "sentence"), CASES)
def test_a_rule_holds_up_to_its_boundary_and_says_what_to_set_beyond(
    kept: dict[str, Any], broken: dict[str, Any], sentence: str
) -> None:
    assert list(find_broken_rules(config(**kept))) == []
    assert list(find_broken_rules(config(**broken))) == [sentence]


def test_every_rule_has_a_case_above() -> None:
    broken = {rule for rule in RULES for _, changes, _ in CASES if rule(config(**changes)) is not None}
    assert broken == set(RULES)


def test_every_rule_is_checked() -> None:
    written = {each for name, each in vars(rules).items() if isfunction(each) and each.__module__ == rules.__name__}
    assert {each for each in written if not each.__name__.startswith("_")} - {find_broken_rules} == set(RULES)
