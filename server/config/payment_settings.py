"""The sections of the configuration about payments: how the chat calls commerce, commerce itself, and its relay."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from server.config.setting_types import Count, Port, Seconds, Secret, WholeSeconds


class CommerceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where payments are made: a service with the HTTP contract of `protocol/commerce/contract.py`."""

    url: str = ""
    """https://host:port of the service, or http:// in a network of your own. Empty: there are no payments here."""
    timeout_s: Annotated[float, Meta(gt=0, le=2)] = 2.0
    """A command about a payment that has no answer after this long is refused with `unavailable`, and may be
    repeated."""
    calls_max: Count = 64
    """Commands about payments that this node works on at once; further ones are refused with `unavailable`."""
    calls_per_device_max: Count = 4
    """Of these, those of one device; further ones are refused with `rate_limited`."""


class CommerceServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`tchat commerce`: the service that keeps wallets and payments, a process and a database of its own."""

    host: str = "127.0.0.1"
    """Address of its port. In development it must be a loopback address."""
    port: Port = 7430
    """Its port: HTTP, for the chat and for platform services. 0 takes any free one."""
    postgres_url: str = ""
    """postgresql://user@host:port/database of the ledger, without the password; never the chat's. Empty means the
    embedded PostgreSQL in `data_dir`."""
    postgres_password: Secret = Secret()
    """Password for `postgres_url`."""
    postgres_password_file: Path | None = None
    """File that holds `postgres_password`."""
    data_dir: Path = Path(".tchat-commerce")
    """Folder for what must survive a restart; relative to this file. Only one process at a time can use it."""
    failover_is_synchronous: bool = False
    """True: a standby that takes over has every commit (`synchronous_standby_names`), so the books go on. Else they are
    read-only until they are reconciled. Set it to false for the start after you have recovered a base backup."""
    write_connections_max: Count = 12
    """Database connections for steps: each business step is one call on one of them."""
    read_connections_max: Count = 8
    """Further ones, for reads."""
    statement_timeout_s: Seconds = 5.0
    """A read that takes longer is cancelled. A step is never cancelled: when it takes longer, its connection is closed,
    and its caller is asked to repeat it (`unavailable`)."""
    requests_max: Count = 500
    """Requests that are worked on at once; further ones are refused with `unavailable`."""
    requests_per_caller_per_s: Count = 50
    """Requests of one person, bot or business; further ones are refused with `rate_limited`. Each process counts by
    itself."""
    requests_per_service_per_s: Count = 2000
    """Requests of one platform service, likewise."""
    body_bytes_max: Count = 65_536
    """Largest body of a request; a larger one is refused with 413."""
    jwks_url: str = "http://127.0.0.1:7420/.well-known/jwks.json"
    """Where the public keys of the chat are, as a JWKS document: https://..., file:///..., or http:// of this machine.
    Tokens that they sign are accepted: those of one request, and, for reads, access tokens of `identity.issuer`."""
    digest_key: Secret = Secret()
    """Key (32 bytes in base64) of the digests by which a repeated request is compared with the first one; the same on
    every process and for ever. In development it is created in the data folder."""
    digest_key_file: Path | None = None
    """File that holds `digest_key`."""
    personal_key: Secret = Secret()
    """Key (32 bytes in base64) that wraps the keys of people's personal data. In development it is created in the data
    folder. Without it, no personal data can be read."""
    personal_key_file: Path | None = None
    """File that holds `personal_key`."""
    key_dir: Path | None = None
    """Folder of the first copy of the keys of people, outside of the database and of its backups. Empty means a folder
    in `data_dir`, which production refuses."""
    second_key_dir: Path | None = None
    """Folder of their second copy: on another disk. A copy that is lost is made again from the other."""
    gateways: Path | None = None
    """TOML file that names the payment gateways (docs/gateways.md); relative to this file. None without."""
    sealing_key: Secret = Secret()
    """Key (32 bytes in base64) under which the bodies of webhooks are kept for seven days; the same on every process.
    In development it is created in the data folder."""
    sealing_key_file: Path | None = None
    """File that holds `sealing_key`."""
    timezone: str = "Asia/Bangkok"
    """Time zone in which the days and months of a person's limits begin, unless it is set for them."""
    reference_currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "THB"
    """Currency in which limits and `proof_above_minor` are counted; others need a rate."""
    day_max_minor: Annotated[int, Meta(ge=0, le=10**15)] = 5_000_000
    """What a person may pay in a day, in minor units of the reference currency, unless it is set for them."""
    month_max_minor: Annotated[int, Meta(ge=0, le=10**15)] = 50_000_000
    """What a person may pay in a month, likewise."""
    proof_above_minor: Annotated[int, Meta(ge=0, le=10**15)] = 500_000
    """Above this amount, in minor units of the reference currency, a person pays only with a signature of their
    device, or a step-up of the platform."""
    step_up_jwks_url: str = ""
    """Where the public keys are with which the platform signs step-ups: a JWKS document, as for `jwks_url`. Empty:
    there are no step-ups."""
    quote_life_s: WholeSeconds = 60
    """How long the offer of an exchange holds."""
    expire_interval_s: Seconds = 5.0
    """Pause after all payments that were due are expired. A payment that is read is expired at once."""
    admin_host: str = "127.0.0.1"
    """Address of its private port: health and metrics. Never expose it."""
    admin_port: Port = 7432
    """Its private port. 0 takes any free one."""


class RelaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`tchat relay`: announces states of payments in the dialogs of the chat. Several may run."""

    chat_url: str = "http://127.0.0.1:7420"
    """https://host:port of the chat's public port, or http:// in a network of your own."""
    api_key: Secret = Secret()
    """API key of a service of the chat that may post payments in all dialogs (`kinds` payment, `all_dialogs`). All
    relays of a tenant use the same service. Renew the key, never make another service: numbers would begin anew."""
    api_key_file: Path | None = None
    """File that holds `api_key`. It is read again when the chat refuses the key."""
    tenant: Count = 1
    """The tenant of this service. Payments of other tenants need relays of their own."""
    postgres_url: str = ""
    """postgresql://user@host:port/database of the ledger, without the password; empty means the embedded one in
    `data_dir`."""
    postgres_password: Secret = Secret()
    """Password for `postgres_url`."""
    postgres_password_file: Path | None = None
    """File that holds `postgres_password`."""
    data_dir: Path = Path(".tchat-commerce")
    """Folder of the embedded PostgreSQL of `tchat commerce`, which must run."""
    lease_s: Annotated[float, Meta(ge=1)] = 15.0
    """What a relay that ended had begun is taken over by another after this long."""
    places_max: Count = 32
    """Dialogs in which this relay posts at the same time; in each it posts one event after the other."""
    admin_host: str = "127.0.0.1"
    """Address of its private port: health and metrics. Never expose it."""
    admin_port: Port = 7431
    """Its private port. 0 takes any free one."""
    drain_timeout_s: Seconds = 10.0
    """Longest time from SIGTERM to the exit; in it, what is under way is finished."""
