"""The configuration: one struct per section of `config.toml`, its defaults, bounds and meaning in one place.

To add a key, add a field with its default and a docstring below it, then run `make docs`: `config.toml`,
`docs/config.md` and `tchat config` are all generated from here. Units come last in a key's name.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.config.gateway_settings import GatewaySettings

CONFIG_VERSION = 1
ENVIRONMENT_PREFIX = "TCHAT__"

Count = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Seconds = Annotated[float, Meta(gt=0)]
WholeSeconds = Annotated[int, Meta(ge=1)]


class Secret:
    """A text that is never printed; it comes from the environment or from the file that `<key>_file` names."""

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret()"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One node: where it listens, where its data is, how it ends."""

    mode: Literal["development", "production"] = "development"
    """"development" serves this machine only and shows sign-in codes in the log; "production" does neither."""
    host: str = "127.0.0.1"
    """Address of the public port. In development it must be a loopback address."""
    port: Port = 7420
    """The public port: websockets and the HTTP API. 0 takes any free one."""
    admin_host: str = "127.0.0.1"
    """Address of the private port. Never expose it: it has no sign-in."""
    admin_port: Port = 7421
    """The private port: health and metrics. 0 takes any free one."""
    data_dir: Path = Path(".tchat")
    """Folder for what must survive a restart; relative to this file. One server at a time uses it."""
    drain_timeout_s: Seconds = 10.0
    """From SIGTERM to the exit at the latest: in-flight sends are finished and clients told to reconnect."""
    drain_spread_s: Seconds = 5.0
    """Over how long clients of a draining node are asked to spread their reconnects."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious lines to log. No level logs what people write."""


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One connected device: its time-outs, its bounds, its rates."""

    auth_timeout_s: Seconds = 10.0
    """From the end of the handshake to a valid `authenticate`."""
    heartbeat_s: Seconds = 25.0
    """How often both sides send a heartbeat when they have nothing else to say."""
    idle_timeout_s: Seconds = 60.0
    """A connection from which nothing came for so long is closed."""
    outbox_bytes_max: Count = 1_048_576
    """Bytes that may wait for one slow connection; above it the session lags and content is caught up later."""
    held_frames_max: Count = 256
    """Live frames held back while a session catches up; above it they are read from the timeline instead."""
    missed_dialogs_max: Count = 10_000
    """Dialogs a lagging session may be behind in; above it the connection is closed: reconnect and resume."""
    lag_timeout_s: Seconds = 30.0
    """A session that lags for so long is closed with a code that says reconnect and resume."""
    in_flight_sends_max: Count = 64
    """Sends of one session that may wait for their ack; above it reading pauses."""
    mailbox_max: Count = 256
    """Commands of one session that may wait to be handled; above it reading pauses."""
    sends_per_s: Seconds = 20.0
    """Sends of one device, on average."""
    sends_burst: Count = 100
    """Sends of one device that may come at once."""
    commands_per_s: Seconds = 50.0
    """Commands other than sends of one device, on average; the larger ones (server/session/costs.py) count for more."""
    commands_burst: Count = 200
    """Commands other than sends of one device that may come at once."""


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The write pipeline: how sends are gathered into flushes."""

    lanes: Count = 2
    """Flushes that may run at once; a dialog is always in the same lane. Each uses one database connection."""
    batch_rows_max: Count = 200
    """Rows of one flush."""
    queue_rows_max: Count = 20_000
    """Rows that may wait for the lanes of this node; above it sends are refused with `unavailable`."""
    retry_first_s: Seconds = 0.05
    """Pause before a failed flush is tried again; doubles each time."""
    retry_max_s: Seconds = 2.0
    """The longest pause between two tries."""
    retry_total_s: Seconds = 15.0
    """Rows that could not be flushed for so long are refused with `unavailable`."""


class SyncSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconnecting client is sent."""

    window_events: Count = 50
    """Newest events of each dialog in a windowed snapshot."""
    events_max: Count = 5_000
    """A client that has missed more is sent a windowed snapshot instead (`recovered: false`)."""
    page_events: Count = 200
    """Events of one page."""


class RoomSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Large dialogs that are active on this node."""

    rooms_max: Count = 50_000
    """Rooms of this node; above it the ones that were quiet longest are dropped."""


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL: the embedded one, or yours."""

    postgres_url: str = ""
    """postgresql://user@host:port/database, without the password; empty means the embedded PostgreSQL."""
    postgres_password: Secret = Secret()
    """Password for `postgres_url`."""
    postgres_password_file: Path | None = None
    """File that holds `postgres_password`."""
    connections_max: Count = 16
    """Database connections of this node, lanes included."""
    statement_timeout_s: Seconds = 30.0
    """A statement that takes longer is given up; of a flush, the rows are asked for again."""


class IssuerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A platform whose access tokens are accepted: `[[identity.issuers]]`."""

    issuer: str
    """The `iss` its tokens carry."""
    audience: str
    """The `aud` its tokens must carry."""
    jwks_url: str
    """Where its public keys are, as a JWKS document: https://... or file:///..."""
    tenant: Count
    """The tenant its people belong to."""


class IdentitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Sign-up, sign-in and tokens."""

    countries: tuple[str, ...] = ("TH", "SG", "ID", "MY", "PH", "VN")
    """Countries whose phone numbers may sign up (ISO 3166-1 alpha-2)."""
    locales: tuple[str, ...] = ("en", "th", "id", "ms", "fil", "vi")
    """Languages a profile may choose; the first is the default."""
    code_sender: str = "log"
    """How one-time codes are sent. "log" writes them to the server's log and is refused in production; "none" lets
    nobody sign in by phone number; "package.module:name" is a sender of yours, see server/identity/code_sender.py."""
    code_ttl_s: WholeSeconds = 300
    """How long a one-time code is valid."""
    code_attempts_max: Count = 5
    """Wrong guesses after which a code is worthless."""
    access_token_ttl_s: WholeSeconds = 3_600
    """How long an access token is valid."""
    refresh_token_ttl_s: WholeSeconds = 2_592_000
    """How long a refresh token is valid; each use gives a new one."""
    sign_ins_max: Count = 5
    """Live sign-ins of one person; one more ends the oldest."""
    deletion_grace_days: Count = 30
    """From a person's wish to be deleted to the erasure; signing in again takes the wish back."""
    issuer: str = "tchat"
    """The `iss` of our own tokens."""
    audience: str = "tchat"
    """The `aud` of our own tokens."""
    issuers: tuple[IssuerSettings, ...] = ()
    """Other platforms whose tokens are accepted: `[[identity.issuers]]` with issuer, audience, jwks_url, tenant."""
    signing_key: Secret = Secret()
    """Ed25519 private key (PEM) that signs access tokens; in development the data folder keeps one. Tokens of further
    keys after it, private or public, are accepted too: so a key is changed."""
    signing_key_file: Path | None = None
    """File that holds `signing_key`."""
    phone_key: Secret = Secret()
    """Key (32 bytes in base64) under which phone numbers are kept; in development the data folder keeps one. Of
    several, one to a line, the first encrypts and the last, which must stay, is what numbers are found by."""
    phone_key_file: Path | None = None
    """File that holds `phone_key`."""


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of the HTTP API; over one, the answer says how long to wait (`retry_after_s`)."""

    requests_per_address_per_s: Seconds = 50.0
    """Requests of one address, on average; two seconds' worth may come at once."""
    codes_per_number_per_h: Count = 5
    """One-time codes sent to one phone number."""
    codes_per_address_per_h: Count = 60
    """One-time codes asked for from one address."""
    codes_per_device_per_h: Count = 10
    """One-time codes asked for by one device."""
    wrong_codes_per_number_per_h: Count = 15
    """Wrong one-time codes for one phone number."""
    wrong_codes_per_address_per_h: Count = 120
    """Wrong one-time codes from one address."""
    wrong_codes_per_device_per_h: Count = 30
    """Wrong one-time codes from one device."""
    refreshes_per_sign_in_per_h: Count = 60
    """Uses of refresh tokens of one sign-in."""
    lookups_per_person_per_h: Count = 120
    """Searches by phone number of one person."""
    events_per_service_per_s: Seconds = 500.0
    """Events appended by one service, on average; two seconds' worth may come at once."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an operator can set."""

    server: ServerSettings = ServerSettings()
    gateway: GatewaySettings = GatewaySettings()
    sessions: SessionSettings = SessionSettings()
    pipeline: PipelineSettings = PipelineSettings()
    sync: SyncSettings = SyncSettings()
    rooms: RoomSettings = RoomSettings()
    storage: StorageSettings = StorageSettings()
    identity: IdentitySettings = IdentitySettings()
    limits: LimitSettings = LimitSettings()
