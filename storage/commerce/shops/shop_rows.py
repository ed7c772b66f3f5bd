"""What the stores of shops take and give. Amounts are minor units, times microseconds since 1970."""

from __future__ import annotations

import msgspec

from protocol.commerce.order_states import OrderEvent, OrderState
from protocol.commerce.shop_terms import ORDER_REQUEST_S_MAX, LineKind, ShopStatus, StaffRole, StockMove


class BusinessRow(msgspec.Struct, frozen=True, kw_only=True):
    """A business as it is now."""

    business: bytes
    tenant: int
    name: str
    description: str
    currencies: list[str]
    status: ShopStatus
    version: int = 1


class StaffRow(msgspec.Struct, frozen=True):
    """A person of the staff of a business."""

    business: bytes
    person: bytes
    role: StaffRole
    since_us: int


class ShippingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A way of shipping, and what it costs without tax."""

    option: bytes
    business: bytes
    name: str
    currency: str
    price: int
    tax_basis_points: int
    status: ShopStatus
    version: int = 1


class ProductRow(msgspec.Struct, frozen=True, kw_only=True):
    """A product as it is now; `ships`: it is sent to somewhere."""

    product: bytes
    business: bytes
    tenant: int
    name: str
    description: str
    category: str
    currency: str
    tax_basis_points: int
    ships: bool
    images: list[str]
    attributes: dict[str, str]
    status: ShopStatus
    version: int = 1


class VariantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A variant of a product, which is what is sold; `tracked`: it has a stock, else there is always enough."""

    variant: bytes
    product: bytes
    business: bytes
    tenant: int
    sku: str
    name: str
    price: int
    tracked: bool
    attributes: dict[str, str]
    status: ShopStatus
    version: int = 1
    available: int = 0


class StockRow(msgspec.Struct, frozen=True):
    """How many of a variant can be sold, and how many orders hold."""

    variant: bytes
    available: int
    reserved: int


class MovementRow(msgspec.Struct, frozen=True):
    """A movement of stock, with what there was after it."""

    movement_no: int
    at_us: int
    move: StockMove
    available_change: int
    reserved_change: int
    available_after: int
    reserved_after: int
    order: bytes | None
    actor: bytes


class CartLineRow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a cart with what it costs now; `active`: it can be ordered."""

    line_no: int
    product: bytes
    variant: bytes
    sku: str
    name: str
    variant_name: str
    currency: str
    quantity: int
    unit_price: int
    amount: int
    tax: int
    tracked: bool
    active: bool
    available: int


class NewOrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """An order of what is in the customer's cart. `total` is what the customer saw."""

    order: bytes
    payment: bytes
    tenant: int
    customer: bytes
    business: bytes
    currency: str
    total: int
    shipping: bytes | None = None
    address: bytes | None = None
    dialog: bytes | None = None
    later: bool = False
    request_us: int = ORDER_REQUEST_S_MAX * 1_000_000
    hold_us: int = 7 * 86_400_000_000


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it is now."""

    order: bytes
    tenant: int
    business: bytes
    customer: bytes
    number: int
    payment: bytes
    dialog: bytes | None
    address: bytes | None
    currency: str
    subtotal: int
    tax: int
    shipping: int
    total: int
    state: OrderState
    version: int
    placed_us: int
    moved_us: int


class OrderLineRow(msgspec.Struct, frozen=True):
    """A line of an order, as it was when it was placed. `amount` is without `tax`."""

    line_no: int
    kind: LineKind
    product: bytes | None
    variant: bytes | None
    sku: str
    name: str
    variant_name: str
    quantity: int
    unit_price: int
    tax_basis_points: int
    amount: int
    tax: int


class OrderVersionRow(msgspec.Struct, frozen=True):
    """What happened to an order: a line of its audit."""

    version: int
    at_us: int
    event: OrderEvent
    state: OrderState
    actor: bytes
