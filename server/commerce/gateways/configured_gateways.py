"""The gateways of a deployment: a TOML file that has a section for each, by its name.

    [simulated]
    url = "https://gateway.example"
    api_key_file = "simulated.key"
    webhook_secret_file = "simulated.secret"
    currencies = ["THB"]
    methods = ["card", "promptpay", "bank"]

`bank` is for withdrawals. Files are relative to this one. The first gateway that has a method and a currency is taken.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from protocol.commerce.currencies import is_known
from server.clock import Clock
from server.commerce.gateways.gateway_contract import Gateway
from server.commerce.gateways.simulated_gateway import GatewayAccess, SimulatedGateway
from server.startup_error import StartupError

GATEWAYS_MAX = 16
_Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,30}$")]
Method = Literal["card", "promptpay", "qris", "bank"]


class GatewayEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section of a gateway."""

    url: str
    api_key_file: str
    webhook_secret_file: str
    currencies: Annotated[list[str], msgspec.Meta(min_length=1, max_length=20)]
    methods: Annotated[list[Method], msgspec.Meta(min_length=1)]
    tenant: Annotated[int, msgspec.Meta(ge=1)] = 1
    key_window_s: Annotated[int, msgspec.Meta(ge=60)] = 23 * 3600
    settle_s: Annotated[int, msgspec.Meta(ge=1)] = 60
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=10)] = 10.0
    code_life_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 900


class ConfiguredGateway(msgspec.Struct, frozen=True):
    """A gateway, for which tenant, and what it is used for. `code_life_s`: how long a QR code may be paid."""

    engine: Gateway
    tenant: int
    currencies: Sequence[str]
    methods: Sequence[Method]
    code_life_s: int = 900


class ConfiguredGateways:
    """All gateways of this process."""

    def __init__(self, gateways: Sequence[ConfiguredGateway] = ()) -> None:
        self.all = gateways

    def find(self, name: str) -> ConfiguredGateway | None:
        """The gateway of a name."""
        return next((each for each in self.all if each.engine.name == name), None)

    def choose(self, tenant: int, method: Method, currency: str) -> ConfiguredGateway | None:
        """The gateway for a method and a currency; None if there is none."""
        fits = (
            each
            for each in self.all
            if each.tenant == tenant and method in each.methods and currency in each.currencies
        )
        return next(fits, None)

    async def aclose(self) -> None:
        """Close what they have open."""
        for each in self.all:
            await each.engine.aclose()


def open_gateways(path: Path | None, clock: Clock) -> ConfiguredGateways:
    """The gateways of the file; none without one. Raises StartupError."""
    if path is None:
        return ConfiguredGateways()
    try:
        entries = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), dict[_Name, GatewayEntry])
        opened = [_open(path.parent, name, entry, clock) for name, entry in entries.items()]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise StartupError(f"commerce_service.gateways: {path} cannot be used: {error}.") from None
    if len(opened) > GATEWAYS_MAX:
        raise StartupError(f"commerce_service.gateways: at most {GATEWAYS_MAX} gateways.")
    return ConfiguredGateways(opened)


def _open(folder: Path, name: str, entry: GatewayEntry, clock: Clock) -> ConfiguredGateway:
    if unknown := [each for each in entry.currencies if not is_known(each)]:
        raise StartupError(f"commerce_service.gateways: {name} has the unknown currency {unknown[0]}.")
    access = GatewayAccess(
        url=entry.url,
        api_key=(folder / entry.api_key_file).read_text(encoding="utf-8").strip(),
        webhook_secret=(folder / entry.webhook_secret_file).read_text(encoding="utf-8").strip(),
        key_window_s=entry.key_window_s,
        settle_s=entry.settle_s,
        timeout_s=entry.timeout_s,
    )
    return ConfiguredGateway(
        SimulatedGateway(name, access, clock), entry.tenant, entry.currencies, entry.methods, entry.code_life_s
    )
