"""Rules that tie two keys together, or a key and a limit of the protocol: one function each.

A rule returns what is wrong, as a sentence that begins with the key and says what to set, or None. `load` checks all of
them, so a node never starts with settings that contradict each other.
"""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from protocol.limits import TOKEN_CHARS_MAX
from protocol.public_keys import BadKeyError, read_curve25519
from server.config.message_sizes import largest_command, largest_event, largest_service_event
from server.config.postgres_connections import EMBEDDED_MAX, count_connections
from server.config.settings import Config, name_variable

_PROXY_BITS_MIN = {4: 8, 6: 7}
"""The widest networks that an organisation has: 10.0.0.0/8 and fc00::/7 are examples."""
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_TOKEN_HEADER_BYTES = len("Authorization: Bearer \r\n") + TOKEN_CHARS_MAX


def find_broken_rules(config: Config) -> Iterator[str]:
    """What is wrong with a configuration, one sentence for each rule that it breaks."""
    return (sentence for rule in RULES if (sentence := rule(config)) is not None)


def development_is_local(config: Config) -> str | None:
    """Development shows sign-in codes in the log, so only this machine may reach it."""
    server = config.server
    if server.mode != "development":
        return None
    hosts = (
        ("server.host", server.host),
        ("server.admin_host", server.admin_host),
        ("commerce_service.host", config.commerce_service.host),
        ("commerce_service.admin_host", config.commerce_service.admin_host),
        ("relay.admin_host", config.relay.admin_host),
    )
    for key, host in hosts:
        if not _is_loopback(host):
            return (
                f"{key}: development serves this machine only and {host} is not a loopback address: "
                'set 127.0.0.1, or server.mode = "production".'
            )
    return None


def production_logs_no_codes(config: Config) -> str | None:
    """A sign-in code in the log signs in everybody who can read the log."""
    if config.server.mode == "development" or config.identity.code_sender != "log":
        return None
    return (
        'identity.code_sender: "log" writes every sign-in code to the log and is refused in production: '
        'set a sender of your own, or "none" if people sign in with tokens of other issuers only.'
    )


def postgres_url_has_no_password(config: Config) -> str | None:
    """A URL is printed in logs and errors."""
    for section, url in (
        ("storage", config.storage.postgres_url),
        ("commerce_service", config.commerce_service.postgres_url),
        ("relay", config.relay.postgres_url),
    ):
        if urlsplit(url).password:
            return (
                f"{section}.postgres_url: the password must not be in the URL: "
                f"set {name_variable(section, 'postgres_password')}, or {section}.postgres_password_file."
            )
    return None


def moderators_key_is_a_public_key(config: Config) -> str | None:
    """Reports that nobody can open would be lost."""
    try:
        if config.reports.moderators_key:
            read_curve25519(config.reports.moderators_key)
    except BadKeyError as error:
        return f"reports.moderators_key: {error}: set the public key that `tchat reports key` prints."
    return None


def cql_hosts_have_no_port(config: Config) -> str | None:
    """All hosts have the same port."""
    for host in config.storage.cql_hosts:
        if not host or (":" in host and _address(host) is None):
            return f"storage.cql_hosts: {host!r} is no host: set names or addresses, and the port in storage.cql_port."
    return None


def cql_user_has_a_password(config: Config) -> str | None:
    """One without the other signs nobody in."""
    storage = config.storage
    if bool(storage.cql_user) == bool(storage.cql_password):
        return None
    return (
        "storage.cql_user: a user has a password, and a password a user: "
        f"set storage.cql_user and {name_variable('storage', 'cql_password')}, or neither."
    )


def payment_urls_are_addresses(config: Config) -> str | None:
    """What is wrong with them would show only when somebody pays."""
    for key, url in (("commerce.url", config.commerce.url), ("relay.chat_url", config.relay.chat_url)):
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        fits = host and parts.scheme in ("http", "https") and not (parts.username or parts.query or parts.fragment)
        if url and not fits:
            return f"{key}: set http:// or https:// with a host, and without user name, query and fragment."
    return None


def books_are_not_the_chats(config: Config) -> str | None:
    """Both databases have tables of the same name, and each version of the one would refuse the other's."""
    url = config.commerce_service.postgres_url
    if not url or url != config.storage.postgres_url:
        return None
    return "commerce_service.postgres_url: this is the database of the chat: name another one."


def workers_have_redis(config: Config) -> str | None:
    """Each worker is a node, and nodes tell each other through Redis what is new."""
    if config.server.workers == 1 or config.cluster.redis_urls:
        return None
    return (
        f"server.workers: {config.server.workers} workers tell each other through Redis what is new: "
        "set cluster.redis_urls, or 1."
    )


def embedded_postgres_fits_the_workers(config: Config) -> str | None:
    """Each worker has connections of its own."""
    connections = count_connections(config)
    if config.storage.postgres_url or connections <= EMBEDDED_MAX:
        return None
    return (
        f"server.workers: {config.server.workers} may need {connections} connections, and the embedded PostgreSQL has "
        f"{EMBEDDED_MAX} at most: set fewer workers, a smaller storage.connections_max, or storage.postgres_url."
    )


def a_shared_database_is_configured(config: Config) -> str | None:
    """The embedded PostgreSQL serves the workers of the server that starts it."""
    if not config.cluster.redis_urls or config.storage.postgres_url or config.server.workers > 1:
        return None
    return (
        "cluster.redis_urls: nodes share a database, and the embedded one has a single server: "
        "set storage.postgres_url, more than one of server.workers, or leave it empty."
    )


def nodes_share_their_keys(config: Config) -> str | None:
    """Keys that each node made for itself would refuse the others' tokens, and not find the others' people."""
    identity = config.identity
    if not config.cluster.redis_urls or (identity.signing_key and identity.phone_key):
        return None
    if not config.storage.postgres_url:  # all nodes are workers on one data folder, where the keys are
        return None
    return (
        "cluster.redis_urls: nodes that share a database have the same keys: "
        f"set {name_variable('identity', 'signing_key')} and {name_variable('identity', 'phone_key')}, "
        "or identity.signing_key_file and identity.phone_key_file."
    )


def proxies_are_networks(config: Config) -> str | None:
    """The gateway compares client addresses with these networks."""
    for text in config.gateway.trusted_proxies:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            return f"gateway.trusted_proxies: {error}: set addresses or networks, such as 10.0.0.0/8."
    return None


def proxies_are_yours(config: Config) -> str | None:
    """A trusted proxy names the client's address, so a stranger who counts as one has any address they like."""
    networks = [network for text in config.gateway.trusted_proxies if (network := _network(text)) is not None]
    joined: list[_Network] = [
        *ipaddress.collapse_addresses(each for each in networks if isinstance(each, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(each for each in networks if isinstance(each, ipaddress.IPv6Network)),
    ]
    for network in joined:
        if network.prefixlen < _PROXY_BITS_MIN[network.version]:
            return (
                f"gateway.trusted_proxies: {network} is wider than any network of yours, so strangers could name any "
                "client address: set the addresses of your proxies."
            )
    return None


def admin_port_is_private(config: Config) -> str | None:
    """The private ports have no sign-in."""
    if config.server.mode == "development" or config.server.admin_is_guarded:
        return None
    for section in ("server", "commerce_service", "relay"):
        host = getattr(config, section).admin_host
        if not _is_private(host):
            return (
                f"{section}.admin_host: {host} may be reached by strangers, and the private port has no sign-in: set "
                "an address of your private network, or server.admin_is_guarded = true if a firewall keeps them out."
            )
    return None


def issuers_have_names_of_their_own(config: Config) -> str | None:
    """The `iss` of a token says whose key must have signed it."""
    taken = {config.identity.issuer}
    for issuer in config.identity.issuers:
        if issuer.issuer in taken:
            return f"identity.issuers: {issuer.issuer!r} is taken by another issuer or by identity.issuer: rename one."
        taken.add(issuer.issuer)
    return None


def secret_files_are_private(config: Config) -> str | None:
    """Another user of the machine who can read a key can sign in as anybody."""
    if config.server.mode == "development":
        return None
    for section in msgspec.structs.fields(Config):
        for field in msgspec.structs.fields(section.type):
            path = getattr(getattr(config, section.name), field.name)
            if field.name.endswith("_file") and path is not None and path.stat().st_mode & stat.S_IRWXO:
                return f"{section.name}.{field.name}: every user of this machine may read {path}: chmod o= {path}"
    return None


def websocket_fits_every_command(config: Config) -> str | None:
    """A client may send every command at the limits of its fields, in either codec."""
    return _too_small(
        "gateway.message_bytes_max",
        config.gateway.message_bytes_max,
        largest_command(),
        "the largest command of a client",
    )


def body_fits_every_event(config: Config) -> str | None:
    """A service may post an event with the largest payload, which JSON carries in base64."""
    return _too_small(
        "gateway.http_body_bytes_max",
        config.gateway.http_body_bytes_max,
        largest_service_event(),
        "the largest event of a service",
    )


def head_fits_every_token(config: Config) -> str | None:
    """Every HTTP request carries an access token in its head, next to its other headers."""
    return _too_small(
        "gateway.head_bytes_max",
        config.gateway.head_bytes_max,
        _TOKEN_HEADER_BYTES,
        "the longest access token, without the other headers",
    )


def outbox_fits_every_event(config: Config) -> str | None:
    """A session whose outbox holds one event only must not lag because of it."""
    return _too_small(
        "sessions.outbox_bytes_max",
        config.sessions.outbox_bytes_max,
        largest_event(),
        "the largest event of a timeline",
    )


def queue_fits_a_flush(config: Config) -> str | None:
    """A lane takes its batch out of its queue."""
    pipeline = config.pipeline
    if pipeline.queue_rows_max >= pipeline.batch_rows_max:
        return None
    return (
        f"pipeline.queue_rows_max: {pipeline.queue_rows_max} rows can never fill a flush of pipeline.batch_rows_max = "
        f"{pipeline.batch_rows_max}: set at least {pipeline.batch_rows_max}."
    )


def queue_fits_one_session(config: Config) -> str | None:
    """A session may send everything to one dialog, which is in one lane: on an idle node none of it is refused."""
    rows, sends = config.pipeline.queue_rows_max, config.sessions.in_flight_sends_max
    if rows >= sends:
        return None
    return (
        f"pipeline.queue_rows_max: {rows} rows refuse sends of a single session, which may have "
        f"sessions.in_flight_sends_max = {sends} unanswered: set at least {sends}."
    )


def queue_fits_every_event(config: Config) -> str | None:
    """On an idle node the largest event is not refused."""
    return _too_small(
        "pipeline.queue_bytes_max",
        config.pipeline.queue_bytes_max,
        largest_event(),
        "the largest event of a timeline",
    )


def retries_fit_their_total(config: Config) -> str | None:
    """Pauses between retries grow from the first to the longest, within the total."""
    pipeline = config.pipeline
    if pipeline.retry_first_s <= pipeline.retry_max_s <= pipeline.retry_total_s:
        return None
    return (
        "pipeline.retry_max_s: must lie between pipeline.retry_first_s and pipeline.retry_total_s: "
        f"set {pipeline.retry_first_s} to {pipeline.retry_total_s}, not {pipeline.retry_max_s}."
    )


def idle_outlasts_heartbeat(config: Config) -> str | None:
    """An idle client sends nothing but heartbeats."""
    sessions = config.sessions
    if sessions.idle_timeout_s > sessions.heartbeat_s:
        return None
    return (
        "sessions.idle_timeout_s: must be longer than sessions.heartbeat_s, or idle clients are disconnected: "
        f"set more than {sessions.heartbeat_s}."
    )


def deletions_are_told_before_the_purge(config: Config) -> str | None:
    """Who comes back with a position that still counts must find that a dialog was deleted."""
    grace, age = config.eraser.dialog_deletion_grace_days, config.sync.position_age_max_days
    if grace >= age:
        return None
    return (
        f"eraser.dialog_deletion_grace_days: {grace} days are less than sync.position_age_max_days = {age}: a client "
        f"may never learn that a dialog was deleted: set at least {age}."
    )


RULES = (
    development_is_local,
    production_logs_no_codes,
    postgres_url_has_no_password,
    cql_hosts_have_no_port,
    cql_user_has_a_password,
    moderators_key_is_a_public_key,
    payment_urls_are_addresses,
    books_are_not_the_chats,
    workers_have_redis,
    embedded_postgres_fits_the_workers,
    a_shared_database_is_configured,
    nodes_share_their_keys,
    proxies_are_networks,
    proxies_are_yours,
    admin_port_is_private,
    issuers_have_names_of_their_own,
    secret_files_are_private,
    websocket_fits_every_command,
    body_fits_every_event,
    head_fits_every_token,
    outbox_fits_every_event,
    queue_fits_a_flush,
    queue_fits_one_session,
    queue_fits_every_event,
    retries_fit_their_total,
    deletions_are_told_before_the_purge,
    idle_outlasts_heartbeat,
)


def _too_small(key: str, has: int, needs: int, what: str) -> str | None:
    return None if has >= needs else f"{key}: {has} bytes do not fit {what}: set at least {needs}."


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_private(host: str) -> bool:
    """Whether only this machine or a private network reaches it; 0.0.0.0 is every address that the machine has."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_private and not address.is_unspecified


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback
