"""Terms of shops: roles of staff and what each may do, states of businesses and products, movements of stock."""

from __future__ import annotations

import enum


class StaffRight(enum.IntFlag):
    """What somebody may do for a business."""

    STAFF = 1
    """Name staff and give them roles."""
    BUSINESS = 2
    """Change what the business says of itself, and how it ships."""
    CATALOGUE = 4
    STOCK = 8
    ORDERS = 16
    """Read orders, process, ship and deliver them."""
    MONEY = 32
    """Act for the business with its money: request, capture, refund, read its wallets."""


class StaffRole(enum.IntEnum):
    """The role of a person in a business."""

    OWNER = 1
    MANAGER = 2
    SELLER = 3
    PACKER = 4

    @property
    def text(self) -> str:
        """The name over HTTP."""
        return self.name.lower()


RIGHTS_OF: dict[StaffRole, StaffRight] = {
    StaffRole.OWNER: ~StaffRight(0),
    StaffRole.MANAGER: StaffRight.BUSINESS
    | StaffRight.CATALOGUE
    | StaffRight.STOCK
    | StaffRight.ORDERS
    | StaffRight.MONEY,
    StaffRole.SELLER: StaffRight.CATALOGUE | StaffRight.STOCK | StaffRight.ORDERS,
    StaffRole.PACKER: StaffRight.STOCK | StaffRight.ORDERS,
}
"""Role by role what it allows. To cancel an order, or to refund it, needs MONEY."""


class ShopStatus(enum.IntEnum):
    """Whether a business, product, variant or way of shipping takes part in new orders, and who sees it."""

    DRAFT = 1
    """Only staff see it."""
    ACTIVE = 2
    CLOSED = 3
    """Only staff see it; orders of before go on."""

    @property
    def text(self) -> str:
        """The name over HTTP."""
        return self.name.lower()


class StockMove(enum.IntEnum):
    """Why stock changes."""

    RECEIVED = 1
    CORRECTED = 2
    RESERVED = 3
    RELEASED = 4
    SOLD = 5
    RETURNED = 6

    @property
    def text(self) -> str:
        """The name over HTTP."""
        return self.name.lower()


class LineKind(enum.IntEnum):
    """What a line of an order is for."""

    PRODUCT = 1
    SHIPPING = 2


STATUS_BY_TEXT: dict[str, ShopStatus] = {status.text: status for status in ShopStatus}
ROLE_BY_TEXT: dict[str, StaffRole] = {role.text: role for role in StaffRole}

STAFF_MAX = 200
"""People of one business."""
BUSINESSES_OF_PERSON_MAX = 20
"""Businesses in which one person may be staff: each of their requests looks them up."""
SHIPPING_OPTIONS_MAX = 50
VARIANTS_MAX = 100
"""Variants of one product."""
CART_LINES_MAX = 100
QUANTITY_MAX = 10_000
"""Of one line."""
STOCK_MAX = 10**12
"""Of one variant, with what is reserved."""
ORDER_REQUEST_S_MAX = 3_600
"""How long an order that is not paid may reserve stock: whoever has a wallet may order, also with nothing in it."""
PENDING_ORDERS_MAX = 5
"""Orders of one customer at one business that are not paid."""
ATTRIBUTES_MAX = 40
IMAGES_MAX = 20


def tax_of(amount_minor: int, basis_points: int) -> int:
    """The tax on an amount, which is added to it: halves upward. The database computes the same."""
    return (amount_minor * basis_points + 5000) // 10_000
