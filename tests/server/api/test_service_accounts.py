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
from protocol.kinds import DAY_MS, Kind
from tests.support.api_world import ANN, BO, ApiWorld, Me, error

pytestmark = pytest.mark.anyio


async def service(admin: Me, *kinds: str, **grants: Any) -> tuple[str, str]:
    """A new service: its id and its key, granted all dialogs or what is given."""
    wish = {"name": "orders", "kinds": list(kinds), **(grants or {"all_dialogs": True})}
    answer = await admin.ask("POST", "/v1/admin/services", wish)
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


async def test_a_notice_of_the_platform_ends_after_its_days_or_before(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "system", "order")
    ends_ms = api.clock.wall_ms() + 90 * DAY_MS
    said = [("system", None), ("system", ends_ms + 1), ("system", 99), ("order", None)]
    for n, (kind, expires_at_ms) in enumerate(said, 1):
        await append(api, key, self_dialog(ann), n=n, kind=kind, expires_at_ms=expires_at_ms)
    rows = await api.pool.fetch("SELECT expires_at_ms FROM journal WHERE tag = 1 ORDER BY seq")
    assert [row[0] for row in rows] == [ends_ms, ends_ms, 99, None]


async def test_a_key_posts_only_the_kinds_it_is_for(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    assert error(await append(api, key, self_dialog(ann), kind="payment")) == (403, "not_allowed")
    for kind in ("message", "signal", "MESSAGE", "nothing"):
        assert error(await append(api, key, self_dialog(ann), kind=kind)) == (400, "invalid_argument")
    for kinds in ([], ["message"], ["order", "message"], ["nothing"]):
        answer = await admin.ask("POST", "/v1/admin/services", {"name": "x", "kinds": kinds, "all_dialogs": True})
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


async def business(api: ApiWorld, *dialogs: bytes) -> str:
    """A new business, which is a member of these dialogs."""
    new = ids.new_id()
    await api.pool.execute("INSERT INTO principals VALUES ($1, 1, 3, 1, false, NULL, 0, NULL)", new)
    for dialog in dialogs:
        await api.pool.execute("INSERT INTO members VALUES ($1, $2, 1, true, '{[1,)}', 1, 0)", dialog, new)
    return ids.to_text(new)


async def test_a_service_acts_for_the_businesses_of_its_key_and_for_nobody_else(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    granted, other = await business(api), await business(api)
    _, key = await service(admin, "order", businesses=[granted], all_dialogs=True)
    for who in (ann.principal, str(uuid.uuid4()), other):
        assert error(await append(api, key, self_dialog(ann), acting_for=who)) == (403, "not_allowed")
    answer = await append(api, key, self_dialog(ann), acting_for=granted)
    assert answer.status_code == 200
    assert ids.to_text((await newest(api, self_dialog(ann)))[2].acting_for) == granted


async def test_a_key_writes_only_in_dialogs_of_which_its_business_is_a_member(api: ApiWorld) -> None:
    admin, ann, bo = await api.admin(), await api.sign_in(ANN), await api.sign_in(BO)
    with_ann, with_bo = await business(api, self_dialog(ann)), await business(api, self_dialog(bo))
    _, key = await service(admin, "order", businesses=[with_ann])
    assert (await append(api, key, self_dialog(ann))).status_code == 200
    assert (await append(api, key, self_dialog(ann), 2, acting_for=with_ann)).status_code == 200
    theirs, nobodys = await append(api, key, self_dialog(bo)), await append(api, key, ids.new_id())
    assert error(theirs) == (404, "dialog_not_found")
    assert theirs.content == nobodys.content
    _, both = await service(admin, "order", businesses=[with_ann, with_bo])
    assert error(await append(api, both, self_dialog(ann), acting_for=with_bo)) == (404, "dialog_not_found")


async def test_a_business_that_was_removed_gives_its_key_no_entry_but_the_answers_of_before(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order", businesses=[await business(api, self_dialog(ann))])
    first = await append(api, key, self_dialog(ann))
    await api.pool.execute("UPDATE members SET member = false WHERE principal_id <> $1", ids.from_text(ann.principal))
    assert (await append(api, key, self_dialog(ann))).content == first.content
    assert error(await append(api, key, self_dialog(ann), 2)) == (404, "dialog_not_found")


async def test_a_key_is_granted_businesses_of_its_platform_or_all_dialogs(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    for grants, refused in (
        ({}, (400, "invalid_argument")),
        ({"businesses": []}, (400, "invalid_argument")),
        ({"businesses": [ann.principal]}, (404, "principal_not_found")),
        ({"businesses": [await business(api), str(uuid.uuid4())]}, (404, "principal_not_found")),
    ):
        answer = await admin.ask("POST", "/v1/admin/services", {"name": "x", "kinds": ["order"], **grants})
        assert error(answer) == refused
    assert await api.pool.fetchval("SELECT count(*) FROM api_keys") == 0


async def test_a_key_of_before_grants_acts_for_every_business(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await service(admin, "order")
    await api.pool.execute("UPDATE api_keys SET businesses = NULL")
    assert (await append(api, key, self_dialog(ann), acting_for=await business(api))).status_code == 200
    nobody = await append(api, key, self_dialog(ann), 2, acting_for=ann.principal)
    assert error(nobody) == (404, "principal_not_found")


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
