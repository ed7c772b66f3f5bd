"""What the handlers of shops work with, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass

from server.commerce.shops.business_keeping import BusinessKeeping
from server.commerce.shops.catalogue_keeping import CatalogueKeeping
from server.commerce.shops.order_addresses import OrderAddresses
from server.commerce.shops.order_steps import OrderSteps
from server.commerce.shops.shop_access import JudgedSteps
from server.commerce.step_keys import StepKeys
from storage.commerce.ledger import Ledger
from storage.commerce.shops.businesses import Businesses
from storage.commerce.shops.catalogue import Catalogue
from storage.commerce.shops.orders import Orders
from storage.postgres.pool import Pool
from storage.postgres.write_connections import WriteConnections


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopParts:
    """The parts that the resources of shops serve."""

    businesses: BusinessKeeping
    catalogue: CatalogueKeeping
    orders: OrderSteps


def make_shops(
    ledger: Ledger,
    businesses: Businesses,
    keys: StepKeys,
    addresses: OrderAddresses,
    *,
    writes: WriteConnections,
    reads: Pool,
) -> ShopParts:
    """Shops over the database of commerce."""
    steps = JudgedSteps(ledger)
    return ShopParts(
        businesses=BusinessKeeping(businesses, steps, keys),
        catalogue=CatalogueKeeping(Catalogue(writes, reads), steps, keys),
        orders=OrderSteps(Orders(writes, reads), businesses, steps, keys, addresses),
    )
