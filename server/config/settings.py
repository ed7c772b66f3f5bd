"""The configuration: one struct per section of `config.toml`, with the default, the bounds and the meaning of each key.

The sections about payments are in `payment_settings.py`.

To add a key, add a field with its default and a docstring below it, then run `make docs`: `config.toml`,
`docs/config.md` and `tchat config` are generated from here. The unit is the end of a key's name. A rule that ties two
keys together, or a key and a limit of the protocol, is in `rules.py`.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.config.payment_settings import CommerceServiceSettings, CommerceSettings, RelaySettings
from server.config.setting_types import Count, Keyspace, PerSecond, Port, Seconds, Secret, WholeSeconds, Workers

CONFIG_VERSION = 1
ENVIRONMENT_PREFIX = "TCHAT__"


def name_variable(section: str, key: str) -> str:
    """Return the environment variable that sets a key."""
    return f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server listens, where its data is, how it stops."""

    mode: Literal["development", "production"] = "development"
    """"development" serves this machine only and shows sign-in codes in the log; "production" does neither."""
    host: str = "127.0.0.1"
    """Address of the public port. In development it must be a loopback address."""
    port: Port = 7420
    """The public port: websockets and the HTTP API. 0 takes any free one."""
    workers: Workers = 1
    """Processes that serve the public port, each a node of its own: a node uses one core. More than one need
    `cluster.redis_urls`. The private port is that of all of them together."""
    admin_host: str = "127.0.0.1"
    """Address of the private port, loopback or of your private network. Never expose it: it has no sign-in."""
    admin_is_guarded: bool = False
    """True: strangers cannot reach `admin_host` (a firewall, a container's network), so it may be any address."""
    admin_port: Port = 7421
    """The private port: health and metrics. 0 takes any free one."""
    data_dir: Path = Path(".tchat")
    """Folder for what must survive a restart; relative to this file. Only one server at a time can use it."""
    drain_timeout_s: Seconds = 10.0
    """Longest time from SIGTERM to the exit; in it, in-flight sends finish and clients are asked to reconnect."""
    drain_spread_s: Seconds = 5.0
    """Each client of a draining node reconnects after a random delay of at most this."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is logged. No level logs the text of messages."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """A record is one line: "text" for people, "json" for machines; "auto" is text where the log is a terminal."""


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The public port: what each connection may send and how long it may take."""

    message_bytes_max: Count = 131_072
    """Largest websocket message, its fragments joined; a larger one closes the connection with 1009."""
    rare_frames_per_s: PerSecond = 20.0
    """Pings, pongs and fragments of one connection, on average; ten seconds' worth may come at once, more close it with
    4004."""
    unauthenticated_bytes_max: Count = 16_384
    """What a client may send before it has authenticated; more closes the connection with 4004. It is also what may
    wait to be sent to it."""
    http_body_bytes_max: Count = 131_072
    """Largest body of an HTTP request; a larger one is refused with 413."""
    head_bytes_max: Count = 16_384
    """Largest head of a request (request line and headers); the limit holds for a PROXY header, too."""
    write_high_water_bytes: Count = 65_536
    """A connection pauses when more than this many bytes wait to be sent; it resumes at a quarter of that."""

    handshake_timeout_s: Seconds = 10.0
    """From the TCP connection to the end of its first request head; then the connection is closed."""
    close_timeout_s: Seconds = 5.0
    """From the server's close frame to the end of the TCP connection, even if the client does not answer."""
    http_request_timeout_s: Seconds = 30.0
    """For an HTTP request to arrive in full, and for a client that has stopped reading its response."""
    http_idle_timeout_s: WholeSeconds = 15
    """Between two requests on one HTTP connection; then the connection is closed."""

    connections_max: Count = 100_000
    """Open connections of this node, of all its workers together, websockets and HTTP; further ones are refused with
    503."""
    connections_per_address_max: Count = 2_000
    """Open connections of one client address (in IPv6, of one /64 network); further ones are refused with 429. Mobile
    networks put many people behind one address."""
    connects_per_s: PerSecond = 2_000.0
    """New connections of this node, of all its workers together, on average; one second's worth may come at once."""
    connects_per_address_per_s: PerSecond = 200.0
    """New connections of one client address, on average; one second's worth may come at once."""
    retry_after_s: WholeSeconds = 10
    """The Retry-After of a connection refused because of a number of open connections, or because the node stops."""

    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of your proxies: only their PROXY and forwarded headers may name the client's address."""
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    """The header that your proxies set. The other one is ignored: proxies pass it on as the client sent it."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose web pages may open a websocket; empty allows all. A client without an Origin is no web page."""


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One connected device: its time-outs, its queues, its rates."""

    auth_timeout_s: Seconds = 10.0
    """From the end of the handshake to a valid `authenticate`; then the connection is closed."""
    heartbeat_s: Seconds = 25.0
    """Both sides send a heartbeat when they have sent nothing else for this long."""
    position_interval_s: Seconds = 3.0
    """A busy client gets a new position this often, besides those of heartbeats: a cut then costs seconds of events."""
    idle_timeout_s: Seconds = 60.0
    """A connection that has sent nothing for this long is closed."""
    outbox_bytes_max: Count = 1_048_576
    """Bytes that may wait for one slow connection; above it the session lags, and catches up on content later."""
    held_frames_max: Count = 600
    """Live events kept in memory while a session catches up; above it they are read from the timeline instead."""
    missed_dialogs_max: Count = 10_000
    """Dialogs in which a lagging session may miss events; above it the connection is closed: reconnect and resume."""
    lag_timeout_s: Seconds = 30.0
    """A session that lags for this long is closed as a slow consumer: reconnect and resume."""
    in_flight_sends_max: Count = 64
    """Sends of one session that may wait for their ack; further commands wait in its mailbox."""
    mailbox_max: Count = 256
    """Mailbox of one session: commands that wait to be handled; at this number the server stops reading from it."""
    mailbox_bytes_max: Count = 131_072
    """Bytes of the commands in the mailbox of one session; at this number the server stops reading from it."""
    sends_per_s: PerSecond = 20.0
    """Sends of one device, on average; a large one counts as several (`send_unit_bytes` of the protocol). Above a rate
    the commands of a device wait; they are not refused."""
    sends_burst: Count = 100
    """Sends of one device that may come at once."""
    commands_per_s: PerSecond = 50.0
    """Other commands of one device, on average; larger commands count as several (protocol/commands.py)."""
    commands_burst: Count = 200
    """Other commands of one device that may come at once."""
    principal_rate_factor: Annotated[float, Meta(ge=1)] = 3.0
    """How many times the rates of one device all devices of a person, bot or business may use together."""


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The write pipeline: how sends are batched into flushes."""

    lanes: Count = 1
    """Flushes that may run at once; a dialog is always in the same lane. Each lane has a database connection of its
    own, beside `storage.connections_max`, and there are two more for other writes."""
    batch_rows_max: Count = 500
    """Most rows of one flush. With more, a busy node writes less often to its sockets, and locks dialogs for longer."""
    queue_rows_max: Count = 20_000
    """Rows that may wait for the lanes of this node; further sends are refused with `unavailable`."""
    queue_bytes_max: Count = 67_108_864
    """Memory that these rows may take; further sends are refused with `unavailable`."""
    retry_first_s: Seconds = 0.05
    """Pause before the first retry of a failed flush; it doubles with each retry."""
    retry_max_s: Seconds = 2.0
    """Longest pause between two retries."""
    retry_total_s: Seconds = 15.0
    """Rows that could not be flushed for this long are refused with `unavailable`."""


class EraserSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Erasing in the background: expired messages, those older than their dialog keeps them, parts of deleted ones."""

    interval_s: Seconds = 10.0
    """Pause after everything that was due is erased."""
    step_rows: Count = 500
    """Rows of each sort that one step changes at most. A step is one short transaction."""
    dialog_deletion_grace_days: Count = 30
    """From the deletion of a group or channel to its erasure. Until then its members can read it. States of payments,
    orders and bookings go with it: the ledger keeps what must be kept."""


class SyncSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconnecting client receives."""

    window_events: Count = 50
    """Newest events of each dialog in a windowed snapshot."""
    events_max: Count = 5_000
    """A client that has missed more events receives a windowed snapshot instead (`recovered: false`)."""
    position_age_max_days: Count = 30
    """A position older than this counts as none (`recovered: false`). With an archive, content a day older than this is
    deleted from PostgreSQL once it is archived; then a send that is repeated so late does not get its ack again."""
    page_events: Count = 200
    """Events that catch-up reads from a timeline at a time."""


class RoomSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Rooms: the rosters of active dialogs that this node keeps in memory."""

    rooms_max: Count = 50_000
    """Rooms of this node; above it the least recently used are dropped."""


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Several nodes on one database."""

    redis_urls: tuple[str, ...] = ()
    """redis://host:port of the Redis instances through which nodes tell each other what is new. Empty: this node serves
    its database alone, and a second one is refused. Otherwise nodes share the database, and must all have the same."""
    redis_password: Secret = Secret()
    """Password for all of `redis_urls`."""
    redis_password_file: Path | None = None
    """File that holds `redis_password`."""
    lease_s: Seconds = 10.0
    """A node that has shown no sign of life for this long is ended by the others: it stops, and its clients
    reconnect."""


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL: the embedded one, or your own; and, if you have one, a CQL server for old timelines."""

    postgres_url: str = ""
    """postgresql://user@host:port/database, without the password; empty means the embedded PostgreSQL."""
    postgres_password: Secret = Secret()
    """Password for `postgres_url`."""
    postgres_password_file: Path | None = None
    """File that holds `postgres_password`."""
    failover_is_synchronous: bool = False
    """True: a standby that takes over has every commit (`synchronous_standby_names`), so clients go on where they were.
    Set it to false for the start after you have recovered a base backup."""
    connections_max: Count = 16
    """Database connections of this node for all but flushes and timelines' reads."""
    read_connections_max: Count = 8
    """Further ones, for reads of timelines. At most half of them read pages of history, members and snapshots."""
    read_timeout_s: Seconds = 5.0
    """A read of a timeline that takes longer is cancelled, and its client asked to try again (`unavailable`)."""
    statement_timeout_s: Seconds = 10.0
    """Any other statement that takes longer is cancelled. A flush is never cancelled: when it takes longer, its
    connection is closed, and it asks for the outcome of its rows on a new one."""
    cql_hosts: tuple[str, ...] = ()
    """Hosts of a ScyllaDB or Apache Cassandra in the data centre of this node: timelines are copied there. Empty: they
    are in PostgreSQL alone."""
    cql_port: Port = 9042
    """The port of these hosts."""
    cql_local_dc: str = ""
    """Their data centre, as the CQL server names it. Empty: that of the host that answers first."""
    cql_tls_ca: Path | None = None
    """File with the certificates of the authorities to trust: set, the connection is TLS, and the certificate of each
    host must name its address."""
    cql_keyspace: Keyspace = "tchat"
    """Its keyspace. `tchat migrate` makes it, with three copies of each row if there are as many hosts."""
    cql_user: str = ""
    """Its user; empty: it asks for none."""
    cql_password: Secret = Secret()
    """Password of `cql_user`."""
    cql_password_file: Path | None = None
    """File that holds `cql_password`."""


class IssuerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A platform whose access tokens are accepted: `[[identity.issuers]]`."""

    issuer: str
    """The `iss` that its tokens must carry."""
    audience: str
    """The `aud` that its tokens must carry."""
    jwks_url: str
    """Where its public keys are, as a JWKS document: https://... or file:///..."""
    tenant: Count
    """The tenant that its people belong to."""


class IdentitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Sign-up, sign-in and tokens."""

    countries: tuple[str, ...] = ("TH", "SG", "ID", "MY", "PH", "VN")
    """Countries whose phone numbers may sign up (ISO 3166-1 alpha-2)."""
    locales: tuple[str, ...] = ("en", "th", "id", "ms", "fil", "vi")
    """Languages a profile may choose; the first is the default."""
    code_sender: str = "log"
    """How one-time codes are sent. "log" writes them to the server's log and is refused in production; "none" turns
    sign-in by phone number off; "package.module:name" is a sender of your own (server/identity/code_sender.py)."""
    code_ttl_s: WholeSeconds = 300
    """How long a one-time code is valid."""
    code_attempts_max: Count = 5
    """Wrong guesses after which a code is no longer valid."""
    access_token_ttl_s: WholeSeconds = 3_600
    """How long an access token is valid."""
    refresh_token_ttl_s: WholeSeconds = 2_592_000
    """How long a refresh token is valid; each use returns a new one."""
    sign_ins_max: Count = 5
    """Active sign-ins of one person; one more ends the oldest."""
    key_sign_ins_max: Count = 100
    """Active sign-ins of one bot or business with its API key, such as the agents of a business; one more ends the
    oldest."""
    bots_max: Count = 1_000
    """Bots of one business; and bots and businesses of the platform itself."""
    who_may_add: Literal["everybody", "known", "nobody"] = "known"
    """Who may add people to groups and channels, unless their profile says it. "known": those to whom they have written
    directly; others can invite them."""
    deletion_grace_days: Count = 30
    """From a person's request to be deleted to the erasure of them and of all that they wrote; signing in before then
    cancels the request."""
    issuer: str = "tchat"
    """The `iss` of our own tokens."""
    audience: str = "tchat"
    """The `aud` of our own tokens."""
    issuers: tuple[IssuerSettings, ...] = ()
    """Other platforms whose tokens are accepted: `[[identity.issuers]]` with issuer, audience, jwks_url, tenant."""
    signing_key: Secret = Secret()
    """Ed25519 private key (PEM) that signs access tokens; in development it is created in the data folder. To rotate
    it, put the new key first and keep the old one (private or public) after it: tokens of both are accepted."""
    signing_key_file: Path | None = None
    """File that holds `signing_key`."""
    phone_key: Secret = Secret()
    """Key (32 bytes in base64) that protects phone numbers; in development it is created in the data folder. With
    several keys, one per line, the first encrypts; the last indexes the numbers and must never change."""
    phone_key_file: Path | None = None
    """File that holds `phone_key`."""


class RateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of the HTTP API, and what one person may do in a day; above them, the refusal says the time to wait.

    A node that serves alone counts by itself, since its start. Nodes that share a database count together, in Redis;
    each by itself while Redis is away.
    """

    requests_per_address_per_s: PerSecond = 50.0
    """Requests of one address, on average; two seconds' worth may come at once. All addresses of one network (a /24 in
    IPv4, a /48 in IPv6) may send eight times as many. Events of services count by `events_per_service_per_s` alone."""
    codes_per_h: Count = 3_600
    """One-time codes sent by all nodes together; a tenth may come at once. Each costs you an SMS: set what you can
    afford."""
    codes_per_country_per_h: Count = 1_800
    """One-time codes sent to the numbers of one country; a tenth may come at once."""
    codes_per_number_per_h: Count = 5
    """One-time codes sent to one phone number at the request of one network: a /24 in IPv4, a /48 in IPv6."""
    codes_per_number_per_day: Count = 40
    """One-time codes sent to one phone number and not used; one such network may request a quarter of them."""
    codes_per_address_per_h: Count = 60
    """One-time codes requested from one address."""
    codes_per_neighbourhood_per_h: Count = 240
    """One-time codes requested from one network: a /24 in IPv4, a /48 in IPv6."""
    wrong_codes_per_number_per_h: Count = 15
    """Wrong one-time codes for one phone number from one address."""
    wrong_codes_per_address_per_h: Count = 120
    """Wrong one-time codes from one address."""
    refreshes_per_sign_in_per_h: Count = 60
    """Uses of refresh tokens of one sign-in."""
    lookups_per_person_per_h: Count = 120
    """Searches by phone number of one person."""
    dialogs_per_person_max: Count = 10_000
    """Dialogs that one person may be in. It bounds the work of their sync."""
    direct_dialogs_per_person_per_day: Count = 50
    """Direct dialogs that one person may begin: first messages to strangers."""
    dialogs_per_person_per_day: Count = 100
    """Groups and channels that one person may create."""
    additions_per_person_per_day: Count = 200
    """People whom one person may add to dialogs, or invite; a larger list needs the whole of a day."""
    key_claims_per_person_per_h: Count = 5_000
    """Keys of others' devices that one person may claim; above it they get fallback keys, which others get, too."""
    key_claims_per_device_per_h: Count = 200
    """One-time keys of one device that others may claim; above it they get its fallback key."""
    device_log_entries_per_person_per_day: Count = 100
    """Entries that one person may append to their device log: devices added, changed and removed."""
    device_messages_per_person_per_h: Count = 2_000
    """Messages that one person may send to devices outside of dialogs: to verify them, and to hand keys on."""
    reports_per_person_per_day: Count = 50
    """Sealed messages that one person may report, those that are refused included."""
    reports_about_person_per_day: Count = 200
    """Reports of what one person wrote that are taken."""
    backup_values_per_person: Count = 50_000
    """Sessions in the backup of one person, each 400 bytes here; above it nothing is added."""
    payments_per_person_per_h: Count = 120
    """Commands about payments of one person, bot or business, repetitions included."""
    payment_reads_per_person_per_h: Count = 2_000
    """Payments that one person, bot or business may look up."""
    commerce_tokens_per_person_per_h: Count = 600
    """Tokens with which one person may ask commerce without a command: to order, to top up, to keep addresses."""
    events_per_service_per_s: PerSecond = 500.0
    """Events appended by one service, on average; two seconds' worth may come at once."""


class ReportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What members report to the moderators of the platform: sealed messages, with the proof that they were sent."""

    moderators_key: str = ""
    """Public key, in base64, to which reports are encrypted. `tchat reports key` makes it, and the private key that
    opens them. Empty: reports are refused."""
    kept_days: Count = 90
    """A report is deleted after so many days."""


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Webhooks: the events of bots, posted to addresses that the owners of their keys choose."""

    private_addresses: bool = False
    """Whether webhooks may go to addresses that are not public, and over http. Then whoever has the key of a bot can
    have this server send requests to whatever it reaches."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an operator can set."""

    server: ServerSettings = ServerSettings()
    gateway: GatewaySettings = GatewaySettings()
    sessions: SessionSettings = SessionSettings()
    pipeline: PipelineSettings = PipelineSettings()
    eraser: EraserSettings = EraserSettings()
    sync: SyncSettings = SyncSettings()
    rooms: RoomSettings = RoomSettings()
    storage: StorageSettings = StorageSettings()
    cluster: ClusterSettings = ClusterSettings()
    identity: IdentitySettings = IdentitySettings()
    limits: RateSettings = RateSettings()
    reports: ReportSettings = ReportSettings()
    webhooks: WebhookSettings = WebhookSettings()
    commerce: CommerceSettings = CommerceSettings()
    commerce_service: CommerceServiceSettings = CommerceServiceSettings()
    relay: RelaySettings = RelaySettings()
