"""The Litestar app. It has no lifespan hooks: the node opens and closes its parts."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Router, get
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from server.api import bots, commerce, people, service_accounts, sign_in, webhooks
from server.api.auth import provide_account, provide_admin, provide_caller, provide_owner, provide_service_account
from server.api.parts import ApiParts, Parts
from server.http.docs_page import DocsPage
from server.http.errors import answer_failure


def create_api(parts: ApiParts, *, body_bytes_max: int) -> Litestar:
    """The HTTP API of one node, to be put behind its `Edge`."""
    return Litestar(
        route_handlers=[_keys_at("/.well-known/jwks.json"), _v1()],
        dependencies={"parts": Provide(lambda: parts, sync_to_thread=False)},
        exception_handlers={Exception: answer_failure},
        request_max_body_size=body_bytes_max,
        openapi_config=_openapi(),
        logging_config=None,
    )


def _v1() -> Router:
    for_everybody = [sign_in.send_code, sign_in.sign_in, sign_in.refresh, _keys_at("/jwks")]
    for_people = Router(
        path="/",
        route_handlers=[
            sign_in.list_sign_ins,
            sign_in.end_sign_in,
            sign_in.end_other_sign_ins,
            people.own_profile,
            people.change_profile,
            people.delete_self,
            people.person,
            people.find_person,
            commerce.make_token,
        ],
        dependencies={"caller": Provide(provide_caller)},
        security=[{"access_token": []}],
    )
    for_admins = Router(
        path="/",
        route_handlers=[
            service_accounts.suspend,
            service_accounts.reinstate,
            service_accounts.create_service,
            service_accounts.renew_service_key,
            bots.create_business,
        ],
        dependencies={"caller": Provide(provide_caller), "admin": Provide(provide_admin)},
        security=[{"access_token": []}],
    )
    for_service_accounts = Router(
        path="/",
        route_handlers=[
            service_accounts.append_event,
            service_accounts.append_to_self,
            service_accounts.read_mode,
            service_accounts.read_epoch,
            service_accounts.list_posted_dialogs,
            service_accounts.list_posted_events,
        ],
        dependencies={"service_account": Provide(provide_service_account)},
        security=[{"api_key": []}],
    )
    for_owners = Router(
        path="/",
        route_handlers=[bots.create_bot, bots.list_bots, bots.renew_key, bots.delete_bot],
        dependencies={"owner": Provide(provide_owner)},
        security=[{"access_token": []}, {"api_key": []}],
    )
    for_accounts = Router(
        path="/",
        route_handlers=[
            bots.sign_in_by_key,
            webhooks.set_webhook,
            webhooks.read_webhook,
            webhooks.resume_webhook,
            webhooks.remove_webhook,
        ],
        dependencies={
            "service_account": Provide(provide_service_account),
            "account": Provide(provide_account),
        },
        security=[{"api_key": []}],
    )
    with_keys = [for_service_accounts, for_owners, for_accounts]
    return Router(path="/v1", route_handlers=[*for_everybody, for_people, for_admins, *with_keys])


def _keys_at(path: str) -> Any:
    @get(path, sync_to_thread=False)
    def public_keys(parts: Parts) -> dict[str, list[dict[str, str]]]:
        """The public keys of our access tokens, as a JWK set (RFC 7517)."""
        return parts.tokens.keys.as_jwks()

    return public_keys


def _openapi() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer")
    return OpenAPIConfig(
        title="tchat",
        version="1",
        description=(
            "Sign-in, profiles, people, bots and businesses, and the events of services. A refusal is "
            '{"code", "message", "retry_after_s"}; the codes are those of the protocol. Conversations go through '
            "the websocket."
        ),
        path="/v1/docs",
        render_plugins=[DocsPage(), JsonRenderPlugin()],
        use_handler_docstrings=True,
        components=Components(security_schemes={"access_token": bearer, "api_key": bearer}),
    )
