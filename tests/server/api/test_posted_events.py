"""A service reads back what it has posted itself: where, and in a dialog page by page; nothing of others."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from protocol import ids
from tests.server.api.test_payment_events import announcer, event, to_self
from tests.support.api_world import ANN, BO, ApiWorld, error

pytestmark = pytest.mark.anyio


async def test_a_service_lists_the_dialogs_in_which_it_has_posted_page_by_page(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.identity.service_accounts._DIALOGS_PER_PAGE", 2)
    admin, ann, bo = await api.admin(), await api.sign_in(ANN), await api.sign_in(BO)
    (_, key), (_, other) = await announcer(admin), await announcer(admin)
    for person, n in ((ann, 4), (ann, 7), (bo, 2)):
        assert (await to_self(api, key, person.principal, event(n))).status_code == 200
    assert (await to_self(api, other, admin.principal, event(9))).status_code == 200
    found: list[dict[str, Any]] = []
    page = (await api.ask("GET", "/v1/posted-dialogs", token=key)).json()
    while page["after"] is not None:
        found += page["dialogs"]
        page = (await api.ask("GET", f"/v1/posted-dialogs?after={page['after']}", token=key)).json()
    found += page["dialogs"]
    assert {each["principal"]: each["last_n"] for each in found} == {ann.principal: 7, bo.principal: 2}
    assert {each["dialog"] for each in found} == {
        ids.to_text(ids.self_dialog_id(ids.from_text(each.principal))) for each in (ann, bo)
    }


async def test_a_key_for_some_dialogs_lists_none(api: ApiWorld) -> None:
    admin = await api.admin()
    shop = (await admin.ask("POST", "/v1/admin/businesses", {"name": "shop"})).json()["principal"]
    _, bounded = await announcer(admin, businesses=[shop])
    assert error(await api.ask("GET", "/v1/posted-dialogs", token=bounded)) == (403, "not_allowed")


async def test_what_a_service_has_posted_in_a_dialog_is_read_newest_first_also_after_its_key_was_renewed(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.identity.service_accounts._EVENTS_PER_PAGE", 2)
    admin, ann = await api.admin(), await api.sign_in(ANN)
    (service, key), (_, other) = await announcer(admin), await announcer(admin)
    for n in (1, 2, 5):
        assert (await to_self(api, key, ann.principal, event(n, content_type="a/b"))).status_code == 200
    assert (await to_self(api, other, ann.principal, event(9))).status_code == 200
    key = (await admin.ask("POST", f"/v1/admin/services/{service}/key")).json()["key"]
    dialog = ids.to_text(ids.self_dialog_id(ids.from_text(ann.principal)))
    page = (await api.ask("GET", f"/v1/dialogs/{dialog}/posted-events", token=key)).json()["events"]
    assert [(each["n"], each["kind"], each["content_type"]) for each in page] == [
        (5, "payment", "a/b"),
        (2, "payment", "a/b"),
    ]
    assert base64.b64decode(page[0]["payload"]) == b'{"version":1}'
    rest = [
        (await api.ask("GET", f"/v1/dialogs/{dialog}/posted-events?before_n={before}", token=key)).json()["events"]
        for before in (2, 1)
    ]
    assert [[each["n"] for each in page] for page in rest] == [[1], []]


async def test_what_was_erased_is_there_without_its_content(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    _, key = await announcer(admin)
    assert (await to_self(api, key, ann.principal, event(1))).status_code == 200
    dialog = ids.self_dialog_id(ids.from_text(ann.principal))
    await api.pool.execute(
        "SELECT erase_content(1, j.dialog_id, j.seq) FROM journal j WHERE j.dialog_id = $1 AND j.n = 1", dialog
    )
    path = f"/v1/dialogs/{ids.to_text(dialog)}/posted-events"
    (shown,) = (await api.ask("GET", path, token=key)).json()["events"]
    assert (shown["n"], shown["payload"], shown["kind"]) == (1, None, None)
