"""What the handlers work with."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from server.config.settings import IdentitySettings
from server.identity.accounts import Accounts
from server.identity.profiles import Profiles
from server.identity.service_accounts import ServiceAccounts
from server.identity.sign_in import SignInFlow
from server.identity.tokens import Tokens
from server.payments.commerce_tokens import PersonTokens
from server.webhooks.endpoints import Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The parts of identity that the API serves; the node creates them."""

    tokens: Tokens
    sign_in_flow: SignInFlow
    profiles: Profiles
    service_accounts: ServiceAccounts
    accounts: Accounts
    webhooks: Webhooks
    person_tokens: PersonTokens
    settings: IdentitySettings


Parts = NamedDependency[SkipValidation[ApiParts]]
"""A handler's parameter."""
