"""A service announces payments over HTTP: in dialogs as their requester, in `self` dialogs, and with a renewed key."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from protocol import ids
from protocol.bodies import AnyBody, Posted
from protocol.commerce.payment_notice import CONTENT_TYPE, REF_TYPE
from tests.support.api_world import ANN, BO, ApiWorld, Me, error

pytestmark = pytest.mark.anyio


def event(n: int, kind: str = "payment", **other: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"n": n, "kind": kind, "payload": base64.b64encode(b'{"version":1}').decode(), **other}


async def announcer(admin: Me, **grants: Any) -> tuple[str, str]:
    """A new service that may announce payments and orders: its id and key."""
    wish = {"name": "relay", "kinds": ["payment", "order"], **(grants or {"all_dialogs": True})}
    answer = await admin.ask("POST", "/v1/admin/services", wish)
    assert answer.status_code == 201, answer.text
    return answer.json()["service"], answer.json()["key"]


async def to_self(api: ApiWorld, key: str, principal: str, body: dict[str, Any]) -> httpx.Response:
    return await api.ask("POST", f"/v1/principals/{principal}/self/events", body, token=key)


async def to_dialog(api: ApiWorld, key: str, of: Me, body: dict[str, Any]) -> httpx.Response:
    dialog = ids.to_text(ids.self_dialog_id(ids.from_text(of.principal)))
    return await api.ask("POST", f"/v1/dialogs/{dialog}/events", body, token=key)


async def bodies_of(api: ApiWorld, me: Me) -> list[Posted]:
    """What services have posted to somebody's `self` dialog."""
    rows = await api.pool.fetch(
        "SELECT body FROM journal WHERE dialog_id = $1 ORDER BY seq", ids.self_dialog_id(ids.from_text(me.principal))
    )
    found = [msgspec.msgpack.decode(row["body"], type=AnyBody) for row in rows]
    return [body for body in found if isinstance(body, Posted)]


async def test_a_state_of_a_payment_comes_to_the_self_dialog_of_a_party_once(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await announcer(admin)
    first = await to_self(api, key, ann.principal, event(1))
    again = await to_self(api, key, ann.principal, event(1))
    assert (first.status_code, first.json()) == (200, again.json())
    assert [body.payload for body in await bodies_of(api, ann)] == [b'{"version":1}']


async def test_only_states_of_payments_come_there_and_only_with_a_key_for_all_dialogs(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await announcer(admin)
    assert error(await to_self(api, key, ann.principal, event(1, "order"))) == (403, "not_allowed")
    shop = await admin.ask("POST", "/v1/admin/businesses", {"name": "shop"})
    _, bounded = await announcer(admin, businesses=[shop.json()["principal"]])
    assert error(await to_self(api, bounded, ann.principal, event(1))) == (403, "not_allowed")
    assert error(await to_self(api, shop.json()["key"], ann.principal, event(1))) == (403, "not_allowed")
    assert await bodies_of(api, ann) == []


def state_event(n: int, payment: UUID, *, of: UUID | None = None, version: int = 1) -> dict[str, Any]:
    """A state of a payment in the form that readers believe; its `ref` names the payment `of`."""
    payload = base64.b64encode(b'{"payment":"%s","version":%d}' % (str(payment).encode(), version)).decode()
    return event(n, content_type=CONTENT_TYPE, ref={"type": REF_TYPE, "id": str(of or payment)}) | {"payload": payload}


async def test_only_a_key_for_all_dialogs_says_what_readers_believe(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, relay = await announcer(admin)
    shop = (await admin.ask("POST", "/v1/admin/businesses", {"name": "shop"})).json()["principal"]
    _, of_shop = await announcer(admin, businesses=[shop])
    said, payment = state_event(1, uuid4()), uuid4()
    assert error(await to_dialog(api, of_shop, ann, said)) == (403, "not_allowed")
    for wrong in (state_event(1, payment, of=uuid4()), state_event(1, payment, version=2**31), said | {"ref": None}):
        assert error(await to_dialog(api, relay, ann, wrong)) == (400, "invalid_argument")
    assert await bodies_of(api, ann) == []
    assert (await to_dialog(api, relay, ann, said)).status_code == 200


async def test_who_does_not_exist_or_is_of_another_platform_is_not_found(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await announcer(admin)
    assert error(await to_self(api, key, ids.to_text(ids.new_id()), event(1))) == (404, "principal_not_found")
    await api.pool.execute("INSERT INTO tenants VALUES (2, 'shop')")
    await api.pool.execute("UPDATE principals SET tenant_id = 2 WHERE principal_id = $1", ids.from_text(ann.principal))
    await api.pool.execute("UPDATE heads SET tenant_id = 2")
    assert error(await to_self(api, key, ann.principal, event(2))) == (404, "principal_not_found")


async def test_the_first_version_is_judged_as_its_requester_and_the_event_names_nobody(api: ApiWorld) -> None:
    admin, ann, bo = await api.admin(), await api.sign_in(ANN), await api.sign_in(BO)
    _, key = await announcer(admin)
    stranger = await to_dialog(api, key, ann, event(1, requester=bo.principal))
    assert error(stranger) == (404, "dialog_not_found")
    member = await to_dialog(api, key, ann, event(1, requester=ann.principal))
    later = await to_dialog(api, key, ann, event(2))
    assert (member.status_code, later.status_code) == (200, 200)
    requesters = [body.requester for body in await bodies_of(api, ann)]
    assert requesters == [None, None]


async def test_nothing_but_a_payment_has_a_requester(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await announcer(admin)
    order = await to_dialog(api, key, ann, event(1, "order", requester=ann.principal))
    assert error(order) == (400, "invalid_argument")
    shop = await admin.ask("POST", "/v1/admin/businesses", {"name": "shop"})
    message = await to_dialog(api, shop.json()["key"], ann, event(1, "message", requester=ann.principal))
    assert error(message) == (403, "not_allowed")


async def test_a_renewed_key_stays_the_same_device_so_what_is_sent_again_is_not_doubled(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    service, old = await announcer(admin)
    first = await to_self(api, old, ann.principal, event(1))
    answer = await admin.ask("POST", f"/v1/admin/services/{service}/key")
    assert (answer.status_code, answer.json()["service"]) == (200, service)
    new = answer.json()["key"]
    assert error(await to_self(api, old, ann.principal, event(1))) == (401, "token_invalid")
    again = await to_self(api, new, ann.principal, event(1))
    assert (again.status_code, again.json()) == (200, first.json())
    other = await to_self(api, new, ann.principal, event(1, content_type="text/plain"))
    assert error(other) == (409, "conflict")
    assert (await to_self(api, new, ann.principal, event(2))).status_code == 200
    assert len(await bodies_of(api, ann)) == 2
    deeds = await api.pool.fetch("SELECT actor_id, subject_id FROM audit WHERE action = 'service.key_renewed'")
    assert [tuple(deed) for deed in deeds] == [(ids.from_text(admin.principal), ids.from_text(service))]


async def test_the_key_of_a_service_is_renewed_by_admins_of_its_platform_alone(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    service, key = await announcer(admin)
    assert error(await ann.ask("POST", f"/v1/admin/services/{service}/key")) == (403, "not_allowed")
    for nobody in (ann.principal, ids.to_text(ids.new_id())):
        answer = await admin.ask("POST", f"/v1/admin/services/{nobody}/key")
        assert error(answer) == (404, "principal_not_found")
    shop = (await admin.ask("POST", "/v1/admin/businesses", {"name": "shop"})).json()["principal"]
    assert error(await admin.ask("POST", f"/v1/admin/services/{shop}/key")) == (404, "principal_not_found")
    assert (await to_self(api, key, ann.principal, event(1))).status_code == 200


async def test_a_service_for_all_dialogs_learns_the_mode_of_each_of_its_platform(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await announcer(admin)
    dialog = ids.to_text(ids.self_dialog_id(ids.from_text(ann.principal)))
    for mode, name in ((1, "sealed"), (2, "open")):
        await api.pool.execute("UPDATE heads SET mode = $1 WHERE dialog_id = $2", mode, ids.from_text(dialog))
        answer = await api.ask("GET", f"/v1/dialogs/{dialog}/mode", token=key)
        assert (answer.status_code, answer.json()) == (200, {"mode": name})
    shop = (await admin.ask("POST", "/v1/admin/businesses", {"name": "shop"})).json()["principal"]
    _, bounded = await announcer(admin, businesses=[shop])
    assert error(await api.ask("GET", f"/v1/dialogs/{dialog}/mode", token=bounded)) == (403, "not_allowed")
    nobodys = f"/v1/dialogs/{ids.to_text(ids.new_id())}/mode"
    assert error(await api.ask("GET", nobodys, token=key)) == (404, "dialog_not_found")
    await api.pool.execute("UPDATE heads SET deleted = true WHERE dialog_id = $1", ids.from_text(dialog))
    assert error(await api.ask("GET", f"/v1/dialogs/{dialog}/mode", token=key)) == (404, "dialog_not_found")


async def test_a_service_learns_the_epoch(api: ApiWorld) -> None:
    _, key = await announcer(await api.admin())
    epoch = await api.pool.fetchval("SELECT epoch FROM deployment")
    answer = await api.ask("GET", "/v1/epoch", token=key)
    assert (answer.status_code, answer.json()) == (200, {"epoch": epoch})
    assert error(await api.ask("GET", "/v1/epoch", token=f"{key}x")) == (401, "token_invalid")


async def test_what_a_service_appends_does_not_count_against_its_address(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await announcer(admin)
    address = "203.0.113.77"
    path = f"/v1/principals/{ann.principal}/self/events"
    appended = [await api.ask("POST", path, event(n), token=key, address=address) for n in range(1, 121)]
    assert {answer.status_code for answer in appended} == {200}
    wrong = [await api.ask("POST", path, event(1), token="tck_none", address=address) for _ in range(101)]
    assert [answer.status_code for answer in wrong] == [401] * 100 + [429]
