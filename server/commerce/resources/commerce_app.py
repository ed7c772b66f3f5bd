"""The Litestar app of commerce. It has no lifespan hooks: the process opens and closes its parts."""

from __future__ import annotations

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from server.commerce.resources import (
    address_resource,
    business_resource,
    catalogue_resource,
    erasure_resource,
    export_resource,
    gateway_resource,
    legal_resource,
    order_resource,
    payment_resource,
    terms_resource,
    transfer_resource,
    wallet_resource,
)
from server.commerce.resources.asking import provide_asker, provide_keyed
from server.commerce.resources.commerce_parts import CommerceParts
from server.http.docs_page import DocsPage
from server.http.errors import answer_failure


def create_commerce(parts: CommerceParts, *, body_bytes_max: int) -> Litestar:
    """The HTTP API of commerce, to be put behind its `CommerceEdge`."""
    bearer = SecurityScheme(type="http", scheme="bearer")
    return Litestar(
        route_handlers=[_v1()],
        dependencies={"parts": Provide(lambda: parts, sync_to_thread=False), "asker": Provide(provide_asker)},
        exception_handlers={Exception: answer_failure},
        request_max_body_size=body_bytes_max,
        openapi_config=OpenAPIConfig(
            title="tchat commerce",
            version="1",
            description=(
                "Wallets and payments. Every POST needs the header `Idempotency-Key`: its first final answer is kept, "
                'refusals too. A refusal is {"code", "message", "retry_after_s"}.'
            ),
            path="/v1/docs",
            render_plugins=[DocsPage(), JsonRenderPlugin()],
            use_handler_docstrings=True,
            components=Components(
                security_schemes={
                    **dict.fromkeys(("request_token", "api_key", "access_token"), bearer),
                    "webhook_signature": SecurityScheme(
                        type="apiKey", name="webhook-signature", security_scheme_in="header"
                    ),
                }
            ),
        ),
        logging_config=None,
    )


def _v1() -> Router:
    reads = Router(
        path="/",
        route_handlers=[
            payment_resource.read_payment,
            payment_resource.list_payments,
            wallet_resource.list_wallets,
            wallet_resource.read_statement,
            address_resource.list_addresses,
            address_resource.read_address,
            erasure_resource.read_erasure,
            business_resource.list_businesses,
            business_resource.read_business,
            business_resource.list_staff,
            business_resource.list_shipping,
            catalogue_resource.list_products,
            catalogue_resource.read_product,
            catalogue_resource.list_variants,
            catalogue_resource.list_stock,
            catalogue_resource.list_movements,
            order_resource.list_carts,
            order_resource.read_cart,
            order_resource.list_orders,
            order_resource.read_order,
            order_resource.read_order_address,
            gateway_resource.read_top_up,
            gateway_resource.list_top_ups,
            gateway_resource.read_withdrawal,
            gateway_resource.list_withdrawals,
            legal_resource.read_identity,
            legal_resource.read_legal_copy,
            export_resource.read_export,
            export_resource.read_export_part,
        ],
        security=[{"request_token": []}, {"access_token": []}, {"api_key": []}],
    )
    steps = Router(
        path="/",
        route_handlers=[
            payment_resource.create_payment,
            payment_resource.approve_payment,
            payment_resource.decline_payment,
            payment_resource.cancel_payment,
            payment_resource.capture_payment,
            payment_resource.refund_payment,
            wallet_resource.open_wallet,
            transfer_resource.make_quote,
            transfer_resource.use_quote,
            address_resource.create_address,
            address_resource.replace_address,
            address_resource.delete_address,
            erasure_resource.erase_person,
            business_resource.change_business,
            business_resource.place_staff,
            business_resource.offer_shipping,
            catalogue_resource.create_product,
            catalogue_resource.change_product,
            catalogue_resource.create_variant,
            catalogue_resource.change_variant,
            catalogue_resource.change_stock,
            order_resource.put_into_cart,
            order_resource.place_order,
            order_resource.process_order,
            order_resource.ship_order,
            order_resource.deliver_order,
            order_resource.cancel_order,
            order_resource.refund_order,
            gateway_resource.create_top_up,
            gateway_resource.create_withdrawal,
            legal_resource.set_identity,
            legal_resource.keep_legal_copy,
            export_resource.begin_export,
        ],
        dependencies={"keyed": Provide(provide_keyed)},
        security=[{"request_token": []}, {"api_key": []}],
    )
    of_services = Router(
        path="/",
        route_handlers=[
            transfer_resource.post_transfers,
            terms_resource.set_fee_rule,
            terms_resource.set_rate,
            terms_resource.set_limits,
            business_resource.create_business,
            gateway_resource.release_suspense,
        ],
        dependencies={"keyed": Provide(provide_keyed)},
        security=[{"api_key": []}],
    )
    reads_of_services = Router(
        path="/",
        route_handlers=[gateway_resource.read_reconciliation, gateway_resource.list_suspense],
        security=[{"api_key": []}],
    )
    of_gateways = Router(path="/", route_handlers=[gateway_resource.take_webhook], security=[{"webhook_signature": []}])
    return Router(path="/v1", route_handlers=[reads, steps, of_services, reads_of_services, of_gateways])
