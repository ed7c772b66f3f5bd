"""Profiles, finding people, suspension and deletion over HTTP."""

from typing import Any

import msgspec
import pytest

from protocol import ids
from protocol.bodies import AnyBody, ProfileChanged
from protocol.close_codes import CloseCode
from server.config.settings import IdentitySettings, RateSettings
from storage.identity_rows import WhoMayAdd
from tests.support.api_world import ANN, BO, CHAI, ApiWorld, Me, error, opened_api
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

DAY_S = 86_400


async def bodies(api: ApiWorld, me: Me) -> list[Any]:
    dialog = ids.self_dialog_id(ids.from_text(me.principal))
    rows = await api.pool.fetch("SELECT body FROM journal WHERE dialog_id = $1 ORDER BY seq", dialog)
    return [msgspec.msgpack.decode(row["body"], type=AnyBody) for row in rows]


# -- own profile


async def test_a_profile_is_changed_field_by_field_and_other_devices_are_notified(api: ApiWorld) -> None:
    me = await api.sign_in(ANN, name="Ann")
    change = {"avatar_url": "https://example.org/a.png", "locale": "fil", "timezone": "Asia/Manila"}
    answer = await me.ask("PATCH", "/v1/me", change)
    assert answer.status_code == 200
    assert {key: answer.json()[key] for key in change} == change
    assert answer.json()["display_name"] == "Ann"
    assert (await bodies(api, me))[-1] == ProfileChanged()


async def test_people_say_who_may_add_them_and_the_deployment_says_it_until_then(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    assert (await me.ask("GET", "/v1/me")).json()["who_may_add"] == "known"
    await api.identity.people.set_consent(WhoMayAdd.EVERYBODY, 10)
    assert (await me.ask("GET", "/v1/me")).json()["who_may_add"] == "everybody"
    for choice in ("nobody", "known", "everybody"):
        assert (await me.ask("PATCH", "/v1/me", {"who_may_add": choice})).json()["who_may_add"] == choice
    await api.identity.people.set_consent(WhoMayAdd.NOBODY, 10)
    assert (await me.ask("GET", "/v1/me")).json()["who_may_add"] == "everybody"


async def test_a_node_writes_what_it_is_configured_to_let_people_do(database_url: str, clock: ManualClock) -> None:
    settings = IdentitySettings(who_may_add="nobody")
    async with opened_api(database_url, clock, identity=settings) as api:
        row = await api.pool.fetchrow("SELECT who_may_add, dialogs_per_person_max FROM deployment")
        assert row is not None
        assert tuple(row) == (WhoMayAdd.NOBODY, RateSettings().dialogs_per_person_max)


async def test_who_invited_somebody_is_shown_to_them(api: ApiWorld) -> None:
    ann, bo = await api.sign_in(ANN, name="Ann"), await api.sign_in(BO)
    path = f"/v1/people/{ann.principal}"
    assert error(await bo.ask("GET", path)) == (404, "principal_not_found")
    invitation = [ids.from_text(bo.principal), ids.new_id(), ids.from_text(ann.principal), 9]
    await api.pool.execute("INSERT INTO invitations VALUES ($1, $2, $3, $4)", *invitation)
    assert (await bo.ask("GET", path)).json()["display_name"] == "Ann"


async def test_an_empty_change_notifies_nobody(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    assert (await me.ask("PATCH", "/v1/me", {})).status_code == 200
    assert len(await bodies(api, me)) == 1


async def test_a_change_makes_the_self_dialog_that_is_missing(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    for table in ("journal", "members", "heads", "dialogs"):
        await api.pool.execute(f"DELETE FROM {table}")
    assert (await me.ask("PATCH", "/v1/me", {"findable": False})).status_code == 200
    assert len(await bodies(api, me)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"display_name": ""},
        {"display_name": "   "},
        {"display_name": "x" * 101},
        {"display_name": "two\nlines"},
        {"display_name": "nul\x00"},
        {"display_name": "line\u2028separator"},
        {"avatar_url": "http://example.org/a.png"},
        {"avatar_url": "javascript:alert(1)"},
        {"avatar_url": "https://"},
        {"avatar_url": "https://[/"},
        {"avatar_url": "https://example.org/\x00"},
        {"avatar_url": "https://example.org/" + "x" * 2000},
        {"locale": "de"},
        {"locale": ""},
        {"timezone": "Mars/Olympus"},
        {"timezone": "../../etc/passwd"},
        {"timezone": "asia/bangkok"},
        {"findable": "no"},
        {"who_may_add": "friends"},
        {"who_may_add": 2},
        {"admin": True},
        {"phone_number": BO},
    ],
)
async def test_a_profile_that_cannot_be_is_refused_and_nothing_changes(api: ApiWorld, change: dict[str, Any]) -> None:
    me = await api.sign_in(ANN)
    before = (await me.ask("GET", "/v1/me")).json()
    answer = await me.ask("PATCH", "/v1/me", change)
    assert error(answer) == (400, "invalid_argument")
    assert next(iter(change)) in answer.json()["message"]
    assert (await me.ask("GET", "/v1/me")).json() == before


async def test_names_of_all_scripts_and_signs_are_names(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    for name in ("สมชาย", "Nguyễn Thị Ánh", "👩‍👩‍👧", "O'Neil <b>", "x" * 100):
        answer = await me.ask("PATCH", "/v1/me", {"display_name": name})
        assert answer.json()["display_name"] == name


async def test_phone_numbers_are_kept_encrypted(api: ApiWorld) -> None:
    await api.sign_in(ANN)
    row = await api.pool.fetchrow("SELECT * FROM people")
    assert row is not None
    assert not any(isinstance(value, bytes) and ANN.encode() in value for value in row.values())
    assert ANN not in str(list(row.values()))


# -- others


async def find(me: Me, number: str) -> Any:
    return await me.ask("POST", "/v1/people/find", {"phone_number": number})


async def test_somebody_is_found_by_exactly_their_number(api: ApiWorld) -> None:
    ann, bo = await api.sign_in(ANN, name="Ann"), await api.sign_in(BO)
    answer = await find(bo, ANN)
    assert answer.json() == {"principal": ann.principal, "display_name": "Ann", "avatar_url": ""}


async def test_who_is_not_here_and_who_is_not_to_be_found_look_the_same(api: ApiWorld) -> None:
    ann, bo = await api.sign_in(ANN), await api.sign_in(BO)
    unknown = await find(bo, "+6598765432")
    assert error(unknown) == (404, "principal_not_found")
    await ann.ask("PATCH", "/v1/me", {"findable": False})
    hidden = await find(bo, ANN)
    await ann.ask("PATCH", "/v1/me", {"findable": True})
    assert (await find(bo, ANN)).status_code == 200
    who = [ids.from_text(me.principal) for me in (bo, ann)]
    await api.pool.execute("INSERT INTO blocks (blocked_id, blocker_id) VALUES ($1, $2)", *who)
    blocked = await find(bo, ANN)
    await api.pool.execute("DELETE FROM blocks")
    await ann.ask("DELETE", "/v1/me")
    deleted = await find(bo, ANN)
    for answer in (hidden, blocked, deleted):
        assert (answer.status_code, answer.content) == (unknown.status_code, unknown.content)


async def test_searches_are_limited(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    answers = [await find(me, f"+659123{at:04}") for at in range(121)]
    assert {error(answer) for answer in answers[:120]} == {(404, "principal_not_found")}
    assert error(answers[120]) == (429, "rate_limited")


async def test_only_those_one_shares_a_dialog_with_are_shown(api: ApiWorld) -> None:
    ann, bo = await api.sign_in(ANN, name="Ann"), await api.sign_in(BO)
    assert (await ann.ask("GET", f"/v1/people/{ann.principal}")).json()["display_name"] == "Ann"
    stranger = await bo.ask("GET", f"/v1/people/{ann.principal}")
    nobody = await bo.ask("GET", f"/v1/people/{bo.sign_in}")
    assert error(stranger) == (404, "principal_not_found")
    assert stranger.content == nobody.content
    for me in (ann, bo):
        await api.pool.execute(
            "INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms)"
            " VALUES ($1, $2, 0, true, '{[1,)}', 1, 0)",
            ids.NIL,
            ids.from_text(me.principal),
        )
    assert (await bo.ask("GET", f"/v1/people/{ann.principal}")).json()["display_name"] == "Ann"


# -- suspension


async def test_an_admin_suspends_and_reinstates(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    assert (await admin.ask("POST", f"/v1/admin/principals/{ann.principal}/suspend")).status_code == 204
    assert api.sessions.closed == [(ann.principal, CloseCode.SUSPENDED)]
    assert error(await ann.ask("GET", "/v1/me")) == (403, "suspended")
    assert error(await api.refresh(ann.refresh_token)) == (403, "suspended")
    assert error(await api.try_sign_in(ANN, await api.code(ANN))) == (403, "suspended")
    assert (await admin.ask("POST", f"/v1/admin/principals/{ann.principal}/reinstate")).status_code == 204
    assert (await ann.ask("GET", "/v1/me")).status_code == 200
    assert (await api.refresh(ann.refresh_token)).status_code == 200


async def test_the_suspended_cannot_delete_themselves_to_come_back_clean(api: ApiWorld) -> None:
    admin, ann = await api.admin(), await api.sign_in(ANN)
    await admin.ask("POST", f"/v1/admin/principals/{ann.principal}/suspend")
    assert error(await ann.ask("DELETE", "/v1/me")) == (403, "suspended")


async def test_administration_is_for_admins(api: ApiWorld) -> None:
    ann, bo = await api.sign_in(ANN), await api.sign_in(BO)
    for path in ("suspend", "reinstate"):
        answer = await ann.ask("POST", f"/v1/admin/principals/{bo.principal}/{path}")
        assert error(answer) == (403, "not_allowed")
    assert error(await ann.ask("POST", "/v1/admin/services", {"name": "x", "kinds": ["payment"]})) == (
        403,
        "not_allowed",
    )
    assert error(await api.ask("POST", f"/v1/admin/principals/{bo.principal}/suspend")) == (401, "token_invalid")


async def test_an_admin_cannot_suspend_themself_or_nobody(api: ApiWorld) -> None:
    admin = await api.admin()
    mine = await admin.ask("POST", f"/v1/admin/principals/{admin.principal}/suspend")
    assert error(mine) == (400, "invalid_argument")
    nobodys = await admin.ask("POST", f"/v1/admin/principals/{admin.sign_in}/suspend")
    assert error(nobodys) == (404, "principal_not_found")


async def test_a_suspended_admin_is_none(api: ApiWorld) -> None:
    admin, other = await api.admin(CHAI), await api.admin(BO)
    await admin.ask("POST", f"/v1/admin/principals/{other.principal}/suspend")
    answer = await other.ask("POST", f"/v1/admin/principals/{admin.principal}/suspend")
    assert error(answer) == (403, "suspended")


# -- deletion


async def test_who_deletes_themself_is_out_at_once_and_may_return_within_the_grace(api: ApiWorld) -> None:
    me, other = await api.sign_in(ANN), await api.sign_in(ANN)
    assert (await me.ask("DELETE", "/v1/me")).status_code == 204
    assert api.sessions.closed == [(me.principal, CloseCode.DELETED)]
    for gone in (me, other):
        assert error(await gone.ask("GET", "/v1/me")) == (401, "signed_out")
        assert error(await api.refresh(gone.refresh_token)) == (401, "signed_out")
    api.clock.advance(30 * DAY_S - 1)
    back = await api.sign_in(ANN, name=None)
    assert back.principal == me.principal
    assert (await back.ask("GET", "/v1/me")).status_code == 200


async def test_after_the_grace_the_number_is_a_strangers(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    await me.ask("DELETE", "/v1/me")
    api.clock.advance(30 * DAY_S)
    anew = await api.sign_in(ANN, name="New Ann")
    assert anew.principal != me.principal
    assert await api.pool.fetchval("SELECT count(*) FROM people") == 1
