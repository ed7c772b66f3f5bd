"""What the handlers work with."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.di import NamedDependency

from server.clock import Clock
from server.config.settings import IdentitySettings, LimitSettings
from server.identity.limits import Limits
from server.identity.profiles import Profiles
from server.identity.service_accounts import ServiceAccounts
from server.identity.sign_in import SignInFlow
from server.identity.tokens import Tokens
from storage.identity import IdentityStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """Handed over by whoever puts identity together."""

    store: IdentityStore
    clock: Clock
    tokens: Tokens
    desk: SignInFlow
    profiles: Profiles
    services: ServiceAccounts
    limits: Limits
    settings: IdentitySettings
    rates: LimitSettings


Parts = NamedDependency[ApiParts]
"""A handler's parameter."""
