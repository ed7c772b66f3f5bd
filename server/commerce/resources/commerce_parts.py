"""What the handlers of commerce work with."""

from __future__ import annotations

from dataclasses import dataclass

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from server.commerce.authentication import Authentication
from server.commerce.chains import Chains
from server.commerce.charging import Charging
from server.commerce.gateways.webhook_keeping import WebhookKeeping
from server.commerce.payment_steps import PaymentSteps
from server.commerce.personal.personal_parts import PersonalParts
from server.commerce.platform_terms import PlatformTerms
from server.commerce.reconciling import Reconciling
from server.commerce.shops.shop_parts import ShopParts
from server.commerce.wallet_keeping import WalletKeeping


@dataclass(frozen=True, slots=True, kw_only=True)
class CommerceParts:
    """The parts that the resources serve; the process creates them."""

    authentication: Authentication
    payments: PaymentSteps
    wallets: WalletKeeping
    chains: Chains
    terms: PlatformTerms
    personal: PersonalParts
    shops: ShopParts
    charging: Charging
    reconciling: Reconciling
    webhooks: WebhookKeeping


InCommerce = NamedDependency[SkipValidation[CommerceParts]]
"""A handler's parameter, named `parts`."""
