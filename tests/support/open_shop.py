"""A shop of the commerce service, over HTTP: a business with a wallet and an owner, and what it sells."""

from __future__ import annotations

from typing import Any, Self

from tests.support.commerce_world import CommerceWorld, Party, approval_of

IMAGE = "https://example.com/soup.png"


class OpenShop:
    """`business` is the business with its own token, `owner` the person who owns it."""

    def __init__(self, world: CommerceWorld, business: Party, owner: Party) -> None:
        self.world = world
        self.business = business
        self.owner = owner

    @classmethod
    async def open(cls, world: CommerceWorld, **more: Any) -> Self:
        """A business that sells in THB."""
        business, owner = await world.person(business=True), await world.person()
        new = {"id": business.id, "owner": owner.id, "name": "Noodles", "currencies": ["THB"], **more}
        answer = await world.admin.post("businesses", new)
        assert answer.status_code == 201, answer.text
        return cls(world, business, owner)

    def product(self, **more: Any) -> dict[str, Any]:
        """A product, not stored."""
        return {
            "business": self.business.id, "currency": "THB", "name": "Soup", "images": [IMAGE], "status": "active",
            "ships": False, **more,
        }  # fmt: skip

    async def sell(self, price: int, stock: int = 0, **more: Any) -> dict[str, Any]:
        """A variant of a new product, so many of which are there."""
        product = await self.owner.post("products", self.product(**more))
        assert product.status_code == 201, product.text
        new = {"product": product.json()["id"], "sku": product.json()["id"], "price_minor": price}
        variant = await self.owner.post("variants", new)
        assert variant.status_code == 201, variant.text
        if not stock:
            return dict(variant.json())
        counted = await self.owner.post("stock", {"variant": variant.json()["id"], "move": "received", "change": stock})
        assert counted.status_code == 200, counted.text
        return dict(counted.json())

    async def place(self, person: Party, **more: Any) -> Any:
        """The answer to an order of what is in their cart, at the price that it shows."""
        shipping = f"?shipping={more['shipping']}" if "shipping" in more else ""
        cart = await person.read(f"carts/{self.business.id}{shipping}")
        new = {"business": self.business.id, "currency": "THB", "total_minor": cart["total_minor"], **more}
        return await person.post("orders", new)

    async def put(self, person: Party, variant: dict[str, Any], quantity: int = 1) -> Any:
        """The answer to putting something into a cart."""
        return await person.post(f"carts/{self.business.id}/lines", {"variant": variant["id"], "quantity": quantity})

    async def buy(self, person: Party, variant: dict[str, Any], quantity: int = 1, **more: Any) -> dict[str, Any]:
        """An order of one line that is placed."""
        assert (await self.put(person, variant, quantity)).status_code == 200
        answer = await self.place(person, **more)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def pay(self, person: Party, order: dict[str, Any]) -> None:
        """The customer approves the payment of an order."""
        payment = await person.read(f"payments/{order['payment']}")
        answer = await person.post(f"payments/{order['payment']}/approve", approval_of(payment))
        assert answer.status_code == 200, answer.text
