"""Bots and businesses: who makes them, how their devices sign in, and what ends it."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import httpx
import pytest

from protocol import ids
from protocol.close_codes import CloseCode
from protocol.dialog_types import DialogType, Mode
from tests.support.api_world import ANN, ApiWorld, Me, error

pytestmark = pytest.mark.anyio


async def made(api: ApiWorld, token: str, name: str = "Remy") -> tuple[str, str]:
    """A new bot: its id and key."""
    answer = await api.ask("POST", "/v1/bots", {"name": name}, token=token)
    assert answer.status_code == 201, answer.text
    return answer.json()["principal"], answer.json()["key"]


async def business(admin: Me, name: str = "Shop") -> tuple[str, str]:
    """A new business: its id and key."""
    answer = await admin.ask("POST", "/v1/admin/businesses", {"name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()["principal"], answer.json()["key"]


async def sign_in(api: ApiWorld, key: str, device: str | None = None) -> httpx.Response:
    named: dict[str, Any] = {"platform": "bot", "app_version": "1", "name": "agent", "device_id": device}
    return await api.ask("POST", "/v1/sign-in/key", {"device": named}, token=key)


async def names(api: ApiWorld, token: str) -> list[tuple[str, str]]:
    answer = await api.ask("GET", "/v1/bots", token=token)
    return [(line["type"], line["name"]) for line in answer.json()]


async def test_a_bot_signs_in_with_its_key_and_is_itself(api: ApiWorld) -> None:
    admin = await api.admin()
    bot, key = await made(api, admin.access_token)
    answer = (await sign_in(api, key)).json()
    assert answer["principal"] == bot
    me = (await api.ask("GET", "/v1/me", token=answer["access_token"])).json()
    assert (me["principal"], me["display_name"], me["findable"], me["admin"]) == (bot, "Remy", False, False)
    assert await api.pool.fetchval(
        "SELECT type FROM heads WHERE dialog_id = $1", ids.self_dialog_id(ids.from_text(bot))
    )


async def test_a_device_that_signs_in_again_keeps_its_sign_in(api: ApiWorld) -> None:
    _, key = await made(api, (await api.admin()).access_token)
    first = (await sign_in(api, key)).json()
    again = (await sign_in(api, key, first["device"])).json()
    other = (await sign_in(api, key)).json()
    assert (again["device"], again["sign_in"]) == (first["device"], first["sign_in"])
    assert other["sign_in"] != first["sign_in"]
    assert api.sessions.closed == []


async def test_a_key_that_is_renewed_ends_all_that_was_opened_with_it(api: ApiWorld) -> None:
    admin = await api.admin()
    bot, key = await made(api, admin.access_token)
    signed_in = (await sign_in(api, key)).json()
    renewed = await api.ask("POST", f"/v1/bots/{bot}/key", token=admin.access_token)
    assert renewed.json()["principal"] == bot
    assert error(await sign_in(api, key)) == (401, "token_invalid")
    assert error(await api.ask("GET", "/v1/me", token=signed_in["access_token"])) == (401, "signed_out")
    assert api.sessions.closed == [(bot, CloseCode.SIGNED_OUT)]
    assert (await sign_in(api, renewed.json()["key"], signed_in["device"])).json()["device"] == signed_in["device"]


async def test_a_deleted_bot_is_out(api: ApiWorld) -> None:
    admin = await api.admin()
    bot, key = await made(api, admin.access_token)
    signed_in = (await sign_in(api, key)).json()
    assert (await api.ask("DELETE", f"/v1/bots/{bot}", token=admin.access_token)).status_code == 204
    assert error(await sign_in(api, key)) == (401, "token_invalid")
    assert error(await api.ask("GET", "/v1/me", token=signed_in["access_token"])) == (401, "signed_out")
    assert api.sessions.closed == [(bot, CloseCode.DELETED)]
    assert await names(api, admin.access_token) == []
    assert error(await api.ask("DELETE", f"/v1/bots/{bot}", token=admin.access_token)) == (404, "principal_not_found")


async def test_a_suspended_bot_is_out_until_it_is_reinstated(api: ApiWorld) -> None:
    admin = await api.admin()
    bot, key = await made(api, admin.access_token)
    await admin.ask("POST", f"/v1/admin/principals/{bot}/suspend")
    assert error(await sign_in(api, key)) == (403, "suspended")
    assert (await api.ask("GET", "/v1/bots", token=admin.access_token)).json()[0]["suspended"]
    await admin.ask("POST", f"/v1/admin/principals/{bot}/reinstate")
    assert (await sign_in(api, key)).status_code == 200


async def test_a_business_has_bots_of_its_own_and_nobody_elses(api: ApiWorld) -> None:
    admin = await api.admin()
    (shop, key), (_, other_key) = await business(admin), await business(admin, "Other")
    platforms, _ = await made(api, admin.access_token, "Helper")
    own, _ = await made(api, key, "Seller")
    assert await names(api, key) == [("bot", "Seller")]
    assert await names(api, other_key) == []
    assert sorted(await names(api, admin.access_token)) == [
        ("bot", "Helper"),
        ("business", "Other"),
        ("business", "Shop"),
    ]
    for wrong, token in ((own, other_key), (own, admin.access_token), (platforms, key), (shop, key)):
        assert error(await api.ask("POST", f"/v1/bots/{wrong}/key", token=token)) == (404, "principal_not_found")
        assert error(await api.ask("DELETE", f"/v1/bots/{wrong}", token=token)) == (404, "principal_not_found")


async def test_agents_of_a_business_are_devices_of_it(api: ApiWorld) -> None:
    shop, key = await business(await api.admin())
    agents = [(await sign_in(api, key)).json() for _ in range(7)]  # more than the sign-ins of a person
    assert {agent["principal"] for agent in agents} == {shop}
    assert len({agent["device"] for agent in agents}) == 7
    listed = (await api.ask("GET", "/v1/sign-ins", token=agents[0]["access_token"])).json()
    assert {line["device"] for line in listed} == {agent["device"] for agent in agents}


async def test_the_device_of_somebody_else_is_not_signed_in(api: ApiWorld) -> None:
    ann = await api.sign_in(ANN)
    _, key = await made(api, (await api.admin()).access_token)
    assert error(await sign_in(api, key, ann.device)) == (403, "wrong_person")


async def test_only_admins_and_businesses_make_bots(api: ApiWorld) -> None:
    ann, admin = await api.sign_in(ANN), await api.admin()
    _, bots_key = await made(api, admin.access_token)
    wish = {"name": "orders", "kinds": ["order"], "all_dialogs": True}
    services_key = (await admin.ask("POST", "/v1/admin/services", wish)).json()["key"]
    for token in (ann.access_token, bots_key, services_key):
        assert error(await api.ask("POST", "/v1/bots", {"name": "x"}, token=token)) == (403, "not_allowed")
    assert error(await ann.ask("POST", "/v1/admin/businesses", {"name": "x"})) == (403, "not_allowed")
    assert error(await sign_in(api, services_key)) == (403, "not_allowed")
    assert error(await sign_in(api, ann.access_token)) == (403, "not_allowed")


async def test_bots_are_listed_page_by_page(api: ApiWorld) -> None:
    admin = await api.admin()
    bots = sorted([(await made(api, admin.access_token))[0] for _ in range(3)])
    after = await api.ask("GET", f"/v1/bots?after={bots[0]}", token=admin.access_token)
    assert [line["principal"] for line in after.json()] == bots[1:]
    assert error(await api.ask("GET", "/v1/bots?after=x", token=admin.access_token)) == (400, "invalid_argument")


async def test_accounts_are_bounded(api: ApiWorld) -> None:
    admin = await api.admin()
    own = ids.NIL
    await api.pool.executemany(
        "WITH p AS (INSERT INTO principals (principal_id, tenant_id, type, created_at_ms) VALUES ($1, 1, 2, 0)) "
        "INSERT INTO accounts VALUES ($1, 1, $2, 2, 0)",
        [(ids.new_id(), own) for _ in range(1000)],
    )
    answer = await api.ask("POST", "/v1/bots", {"name": "one more"}, token=admin.access_token)
    assert error(answer) == (403, "not_allowed")


async def test_a_bot_posts_messages_over_http_where_it_is_a_member(api: ApiWorld) -> None:
    ann, admin = await api.sign_in(ANN), await api.admin()
    bot, key = await made(api, admin.access_token)
    dialog = ids.new_id()
    body = {"n": 1, "kind": "message", "payload": base64.b64encode(b"hello").decode()}
    path = f"/v1/dialogs/{ids.to_text(dialog)}/events"
    assert error(await api.ask("POST", path, body, token=key)) == (404, "dialog_not_found")
    await _put_into(api, dialog, Mode.OPEN, ann.principal, bot)
    answers = [await api.ask("POST", path, body, token=key) for _ in range(2)]
    assert [(answer.status_code, answer.json()["seq"]) for answer in answers] == [(200, 1), (200, 1)]
    assert error(await api.ask("POST", path, {**body, "n": 2, "kind": "order"}, token=key)) == (403, "not_allowed")
    acting = {**body, "n": 2, "acting_for": str(uuid.uuid4())}
    assert error(await api.ask("POST", path, acting, token=key)) == (403, "not_allowed")


async def test_a_bot_cannot_post_in_the_clear_where_dialogs_are_sealed(api: ApiWorld) -> None:
    ann, admin = await api.sign_in(ANN), await api.admin()
    bot, key = await made(api, admin.access_token)
    dialog = ids.new_id()
    await _put_into(api, dialog, Mode.SEALED, ann.principal, bot)
    body = {"n": 1, "kind": "message", "payload": base64.b64encode(b"hello").decode()}
    answer = await api.ask("POST", f"/v1/dialogs/{ids.to_text(dialog)}/events", body, token=key)
    assert answer.status_code in (400, 409)


async def _put_into(api: ApiWorld, dialog: bytes, mode: Mode, *members: str) -> None:
    await api.pool.execute(
        "INSERT INTO heads (dialog_id, tenant_id, type, mode, admins_only, seq, messages, roster_seq, keys_seq, "
        "member_count, admin_count, xid) VALUES ($1, 1, $2, $3, false, 0, 0, 1, 1, 2, 0, pg_current_xact_id())",
        dialog,
        DialogType.DIRECT,
        mode,
    )
    for member in members:
        await api.pool.execute(
            "INSERT INTO members VALUES ($1, $2, 1, true, '{[1,)}', 1, 0)", dialog, ids.from_text(member)
        )
