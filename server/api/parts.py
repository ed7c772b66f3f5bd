"""What the handlers work with."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.di import NamedDependency

from server.clock import Clock
from server.config import IdentitySettings, LimitSettings
from server.identity.limits import Limits
from server.identity.profiles import Profiles
from server.identity.services import ServiceDesk
from server.identity.sign_in import SignInDesk
from server.tokens import Tokens
from storage.identity import IdentityStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """Handed over by whoever puts identity together."""

    store: IdentityStore
    clock: Clock
    tokens: Tokens
    desk: SignInDesk
    profiles: Profiles
    services: ServiceDesk
    limits: Limits
    settings: IdentitySettings
    rates: LimitSettings


Parts = NamedDependency[ApiParts]
"""A handler's parameter."""
