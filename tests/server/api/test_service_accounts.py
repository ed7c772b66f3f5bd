"""Services append events over HTTP, and nothing that they may not."""

import asyncio
import base64
import uuid
from typing import Any

import httpx
import msgspec
import pytest

from protocol import ids
from protocol.bodies import AnyBody, Posted, Ref
from protocol.kinds import Kind
from tests.support.api_world import ANN, BO, ApiWorld, Me, error

pytestmark = pytest.mark.anyio


async def service(admin: Me, *kinds: str) -> tuple[str, str]:
    """A new service: its id and its key."""
    answer = await admin.ask("POST", "/v1/admin/services", {"name": "orders", "kinds": list(kinds)})
    assert answer.status_code == 201, answer.text
    return answer.json()["service"], answer.json()["key"]


def self_dialog(me: Me) -> bytes:
    return ids.self_dialog_id(ids.from_text(me.principal))


async def append(api: ApiWorld, key: str, dialog: bytes, n: int = 1, **other: Any) -> httpx.Response:
    body = {"n": n, "kind": "order", "payload": base64.b64encode(b"{}").decode(), **other}
    return await api.ask("POST", f"/v1/dialogs/{ids.to_text(dialog)}/events", body, token=key)


async def newest(api: ApiWorld, dialog: bytes) -> tuple[bytes, int, Any]:
    row = await api.pool.fetchrow("SELECT * FROM journal WHERE dialog_id = $1 ORDER BY seq DESC LIMIT 1", dialog)
    assert row is not None
    return row["author_id"], row["messages"], msgspec.msgpack.decode(row["body"], type=AnyBody)


async def test_an_event_of_a_service_is_in_the_timeline(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    name, key = await service(admin, "order")
    answer = await append(
        api,
        key,
        self_dialog(ann),
        content_type="application/json",
        ref={"type": "order", "id": "A-17"},
        expires_at_ms=2_000_000_000_000,
    )
    assert (answer.status_code, answer.json()["seq"]) == (200, 2)
    author, messages, body = await newest(api, self_dialog(ann))
    assert (ids.to_text(author), messages) == (name, 1)
    assert isinstance(body, Posted)
    assert (body.kind, body.payload, body.header.ref) == (Kind.ORDER, b"{}", Ref("order", "A-17"))
    assert (body.header.content_type, body.header.expires_at_ms) == ("application/json", 2_000_000_000_000)


async def test_a_repetition_is_answered_alike_and_appended_once(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    answers = await asyncio.gather(*(append(api, key, self_dialog(ann)) for _ in range(5)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert answers[0].status_code == 200
    assert await api.pool.fetchval("SELECT count(*) FROM journal WHERE dialog_id = $1", self_dialog(ann)) == 2


async def test_another_event_under_the_same_number_is_a_conflict(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    await append(api, key, self_dialog(ann))
    assert error(await append(api, key, self_dialog(ann), content_type="text/plain")) == (409, "conflict")


async def test_a_key_posts_only_the_kinds_it_is_for(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    assert error(await append(api, key, self_dialog(ann), kind="payment")) == (403, "not_allowed")
    for kind in ("message", "signal", "MESSAGE", "nothing"):
        assert error(await append(api, key, self_dialog(ann), kind=kind)) == (400, "invalid_argument")
    for kinds in ([], ["message"], ["order", "message"], ["nothing"]):
        answer = await admin.ask("POST", "/v1/admin/services", {"name": "x", "kinds": kinds})
        assert error(answer) == (400, "invalid_argument")


async def test_a_dialog_of_another_tenant_does_not_exist(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    await api.pool.execute("INSERT INTO tenants VALUES (2, 'shop')")
    await api.pool.execute("UPDATE heads SET tenant_id = 2 WHERE dialog_id = $1", self_dialog(ann))
    theirs, nobodys = await append(api, key, self_dialog(ann)), await append(api, key, ids.new_id())
    assert error(theirs) == (404, "dialog_not_found")
    assert theirs.content == nobodys.content


async def test_keys_and_tokens_are_not_mistaken_for_each_other(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    assert error(await append(api, ann.access_token, self_dialog(ann))) == (403, "not_allowed")
    assert error(await api.ask("GET", "/v1/me", token=key)) == (403, "not_allowed")
    for wrong in ("tck_", key[:-1], key + "A", "tck_" + "A" * 43):
        assert error(await append(api, wrong, self_dialog(ann))) == (401, "token_invalid")


async def test_a_suspended_service_is_out(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    name, key = await service(admin, "order")
    await admin.ask("POST", f"/v1/admin/principals/{name}/suspend")
    assert error(await append(api, key, self_dialog(ann))) == (403, "suspended")


async def test_a_service_acts_for_a_business_and_for_nobody_else(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    business = ids.new_id()
    await api.pool.execute("INSERT INTO principals VALUES ($1, 1, 3, 1, false, NULL, 0, NULL)", business)
    for who in (ann.principal, str(uuid.uuid4())):
        assert error(await append(api, key, self_dialog(ann), acting_for=who)) == (404, "principal_not_found")
    answer = await append(api, key, self_dialog(ann), acting_for=ids.to_text(business))
    assert answer.status_code == 200
    assert (await newest(api, self_dialog(ann)))[2].acting_for == business


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0},
        {"n": -1},
        {"n": 2**53},
        {"n": 10**400},
        {"n": 1.5},
        {"n": "one"},
        {"payload": "no base64!"},
        {"payload": base64.b64encode(b"x" * 60_001).decode()},
        {"content_type": "x" * 129},
        {"ref": {"type": "", "id": "1"}},
        {"ref": {"type": "order"}},
        {"expires_at_ms": -1},
        {"acting_for": "me"},
        {"author": str(uuid.uuid4())},
    ],
)
async def test_an_event_of_bad_form_is_refused(api: ApiWorld, change: dict[str, Any]) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    status, code = error(await append(api, key, self_dialog(ann), **change))
    assert (status, code) in {(400, "invalid_argument"), (400, "malformed")}
    assert await api.pool.fetchval("SELECT count(*) FROM journal WHERE dialog_id = $1", self_dialog(ann)) == 1


async def test_the_largest_payload_fits(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    payload = base64.b64encode(b"x" * 60_000).decode()
    assert (await append(api, key, self_dialog(ann), payload=payload)).status_code == 200


async def test_keys_are_kept_as_hashes_and_every_deed_of_an_admin_is_in_the_audit(api: ApiWorld) -> None:
    admin = await api.admin()
    name, key = await service(admin, "order", "payment")
    row = await api.pool.fetchrow("SELECT * FROM api_keys")
    assert row is not None
    assert key.encode() not in row["key_hash"]
    assert sorted(row["kinds"]) == [Kind.PAYMENT, Kind.ORDER]
    deeds = await api.pool.fetch("SELECT * FROM audit WHERE action = 'service.created'")
    assert [(ids.to_text(deed["actor_id"]), ids.to_text(deed["subject_id"])) for deed in deeds] == [
        (admin.principal, name)
    ]


async def test_events_of_one_service_are_limited_apart_from_others(api: ApiWorld) -> None:
    admin, bo = await api.admin(), await api.sign_in(BO)
    (_, key), (_, other) = await service(admin, "order"), await service(admin, "order")
    refused = [await append(api, key, ids.new_id(), n) for n in range(1, 1002)]
    assert {answer.status_code for answer in refused[:1000]} == {404}
    assert error(refused[1000]) == (429, "rate_limited")
    assert (await append(api, other, self_dialog(bo))).status_code == 200
