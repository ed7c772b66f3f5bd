"""Signing up, in and out over HTTP."""

import asyncio
import re
import uuid

import phonenumbers
import pytest

from protocol.close_codes import CloseCode
from server.config.settings import RateSettings
from server.identity.codes import new_code
from tests.support.api_world import ANN, BO, ApiWorld, error, opened_api
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


async def test_somebody_signs_up_and_has_a_profile_and_a_dialog_with_themself(api: ApiWorld) -> None:
    me = await api.sign_in(ANN, name="  Ann Tan ")
    profile = (await me.ask("GET", "/v1/me")).json()
    assert (profile["display_name"], profile["phone_number"], profile["country"]) == ("Ann Tan", ANN, "SG")
    assert (profile["locale"], profile["timezone"], profile["findable"], profile["admin"]) == ("en", "UTC", True, False)
    assert await api.pool.fetchval("SELECT count(*) FROM members") == 1


async def test_who_signs_in_again_is_the_same_person_with_one_self_dialog(api: ApiWorld) -> None:
    first = await api.sign_in(ANN)
    again = await api.sign_in(ANN, name=None)
    assert first.principal == again.principal
    assert first.device != again.device
    assert await api.pool.fetchval("SELECT count(*) FROM heads") == 1


async def test_a_self_dialog_that_a_crash_prevented_is_made_at_the_next_sign_in(api: ApiWorld) -> None:
    await api.sign_in(ANN)
    for table in ("journal", "members", "heads", "dialogs"):
        await api.pool.execute(f"DELETE FROM {table}")
    await api.sign_in(ANN)
    assert await api.pool.fetchval("SELECT count(*) FROM heads") == 1


async def test_nobody_learns_from_asking_for_a_code_who_is_here(api: ApiWorld) -> None:
    await api.sign_in(ANN)
    known = await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN})
    unknown = await api.ask("POST", "/v1/sign-in/codes", {"phone_number": BO})
    assert (known.status_code, unknown.status_code) == (202, 202)
    assert known.json()["expires_in_s"] == unknown.json()["expires_in_s"] == 300
    assert known.json().keys() == unknown.json().keys() == {"expires_in_s", "code_id"}


async def test_signing_up_takes_a_name_and_the_code_survives_its_lack(api: ApiWorld) -> None:
    code = await api.code(ANN)
    nameless = await api.try_sign_in(ANN, code, name=None)
    assert error(nameless) == (400, "invalid_argument")
    assert "display_name" in nameless.json()["message"]
    assert (await api.try_sign_in(ANN, code)).status_code == 200


@pytest.mark.parametrize(
    "number",
    [
        "",
        "91234567",
        "+",
        "+6591",
        "+12025550123",
        "+6591234567;ext=1",
        "+65 9123 4567",
        "+٦٥٩١٢٣٤٥٦٧",
        "+65912345678901",
    ],
)
async def test_what_is_no_number_of_a_served_country_is_refused(api: ApiWorld, number: str) -> None:
    answer = await api.ask("POST", "/v1/sign-in/codes", {"phone_number": number})
    assert error(answer) == (400, "invalid_argument")
    assert "phone_number" in answer.json()["message"]


async def test_two_ways_to_write_a_number_are_one_person(api: ApiWorld) -> None:
    me = await api.sign_in(BO)
    code = await api.code(BO, address="203.0.113.1")
    answer = await api.try_sign_in("+660812345678", code, address="203.0.113.1")
    assert answer.json()["principal"] == me.principal


# -- codes


def test_codes_are_six_random_digits() -> None:
    codes = {new_code() for _ in range(200)}
    assert all(re.fullmatch(r"[0-9]{6}", code) for code in codes)
    assert len(codes) > 150


async def test_a_wrong_code_is_refused_and_the_right_one_then_works(api: ApiWorld) -> None:
    code = await api.code(ANN)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    assert error(await api.try_sign_in(ANN, wrong)) == (403, "code_wrong")
    assert (await api.try_sign_in(ANN, code)).status_code == 200


async def test_a_code_works_once(api: ApiWorld) -> None:
    code = await api.code(ANN)
    assert (await api.try_sign_in(ANN, code)).status_code == 200
    assert error(await api.try_sign_in(ANN, code)) == (403, "code_wrong")


async def test_a_code_expires(api: ApiWorld) -> None:
    code = await api.code(ANN)
    api.clock.advance(300)
    assert error(await api.try_sign_in(ANN, code)) == (403, "code_wrong")


async def test_a_code_is_of_no_use_for_another_number(api: ApiWorld) -> None:
    code = await api.code(ANN)
    while await api.code(BO) == code:
        pass
    assert error(await api.try_sign_in(BO, code)) == (403, "code_wrong")


async def test_a_new_code_replaces_the_former_one_of_the_same_network(api: ApiWorld) -> None:
    first = await api.code(ANN, address="203.0.113.1")
    while (second := await api.code(ANN, address="203.0.113.1")) == first:
        pass
    assert error(await api.try_sign_in(ANN, first, address="203.0.113.1")) == (403, "code_wrong")
    assert (await api.try_sign_in(ANN, second, address="203.0.113.1")).status_code == 200


async def test_a_code_works_from_another_network_with_its_id_alone(api: ApiWorld) -> None:
    code = await api.code(ANN, address="203.0.113.1")
    assert error(await api.try_sign_in(ANN, code, address="203.0.113.2")) == (403, "code_wrong")
    assert (await api.try_sign_in(ANN, code)).status_code == 200


async def test_no_answer_tells_whether_a_code_is_pending(api: ApiWorld) -> None:
    none = await api.try_sign_in(BO, "000000", address="203.0.113.1")
    code = await api.code(ANN, address="203.0.113.1")
    wrong = await api.try_sign_in(ANN, f"{(int(code) + 1) % 1_000_000:06}", address="203.0.113.1")
    assert (none.status_code, none.content) == (wrong.status_code, wrong.content)


async def test_codes_are_not_kept_readable(api: ApiWorld) -> None:
    code = await api.code(ANN)
    row = await api.pool.fetchrow("SELECT * FROM codes")
    assert row is not None
    assert code.encode() not in row["code_hash"]
    assert ANN.encode() not in row["phone_hash"]


async def test_after_five_wrong_guesses_even_the_right_code_is_worthless(api: ApiWorld) -> None:
    code = await api.code(ANN)
    wrong = [f"{(int(code) + step) % 1_000_000:06}" for step in range(1, 6)]
    answers = await asyncio.gather(*(api.try_sign_in(ANN, guess) for guess in wrong))
    assert [error(answer) for answer in answers] == [(403, "code_wrong")] * 5
    assert error(await api.try_sign_in(ANN, code)) == (403, "code_wrong")


async def test_one_code_used_by_many_at_once_lets_one_in(api: ApiWorld) -> None:
    code = await api.code(ANN)
    answers = await asyncio.gather(*(api.try_sign_in(ANN, code) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403, 403, 403]


async def test_a_code_that_cannot_be_sent_is_said_to_be_unavailable(api: ApiWorld) -> None:
    api.sent.broken = True
    answer = await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN})
    assert error(answer) == (503, "unavailable")
    assert answer.headers["retry-after"] == "10"


async def test_where_no_codes_are_sent_nobody_signs_in_by_number(api: ApiWorld) -> None:
    api.identity.sign_in_flow._codes._sender = None
    assert error(await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN})) == (403, "not_allowed")


# -- floods


def waits(answer_seconds: str | None) -> bool:
    return answer_seconds is not None and int(answer_seconds) > 0


async def test_codes_for_one_number_from_one_address_are_limited(api: ApiWorld) -> None:
    for _ in range(5):
        await api.code(ANN, address="203.0.113.1")
    answer = await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN}, address="203.0.113.1")
    assert error(answer) == (429, "rate_limited")
    assert answer.json()["retry_after_s"] == 720
    await api.code(BO, address="203.0.113.1")
    api.clock.advance(720)
    await api.code(ANN, address="203.0.113.1")


async def test_a_stranger_who_requests_all_they_may_does_not_block_new_codes_of_the_owner(api: ApiWorld) -> None:
    for _ in range(80):
        while (await ask_code(api, ANN, address="203.0.113.1"))[0] == 202:
            pass
        api.clock.advance(720)
    assert (await ask_code(api, ANN, address="198.51.100.1"))[0] == 202


@pytest.mark.parametrize("address", ["203.0.113.{}", "2001:db8:0:{}::1"])
async def test_a_stranger_with_all_addresses_of_a_site_does_not_block_new_codes_of_a_number(
    api: ApiWorld, address: str
) -> None:
    answers = [await ask_code(api, ANN, address=address.format(at)) for at in range(41)]
    assert [answer[0] for answer in answers] == [202] * 5 + [429] * 36
    assert (await ask_code(api, ANN, address="198.51.100.1"))[0] == 202


async def test_codes_for_one_number_are_limited_wherever_they_are_requested(api: ApiWorld) -> None:
    answers = [await ask_code(api, ANN, address=f"203.0.{at}.1") for at in range(41)]
    assert [answer[0] for answer in answers] == [202] * 40 + [429]


async def test_a_code_that_was_used_counts_against_no_number(api: ApiWorld) -> None:
    for _ in range(41):
        await api.sign_in(ANN)


async def test_codes_requested_from_one_address_are_limited_whatever_the_number(api: ApiWorld) -> None:
    numbers = [f"+659123{at:04}" for at in range(61)]
    answers = [await ask_code(api, number, address="2001:db8::1") for number in numbers[:60]]
    assert {answer[0] for answer in answers} == {202}
    assert await ask_code(api, numbers[60], address="2001:db8::2") == (429, "rate_limited")
    assert (await ask_code(api, numbers[60], address="2001:db8:0:1::2"))[0] == 202


@pytest.mark.parametrize(
    ("address", "elsewhere"), [("203.0.113.{}", "203.0.114.1"), ("2001:db8:0:{}::1", "2001:db8:1::1")]
)
async def test_codes_requested_from_one_neighbourhood_are_limited(
    database_url: str, clock: ManualClock, address: str, elsewhere: str
) -> None:
    async with opened_api(database_url, clock, limits=RateSettings(codes_per_neighbourhood_per_h=3)) as api:
        answers = [await ask_code(api, f"+659123{at:04}", address=address.format(at)) for at in range(4)]
        assert [answer[0] for answer in answers] == [202] * 3 + [429]
        assert (await ask_code(api, "+6591230004", address=elsewhere))[0] == 202


async def test_codes_of_one_country_and_of_a_node_are_limited(database_url: str, clock: ManualClock) -> None:
    limits = RateSettings(codes_per_country_per_h=20, codes_per_h=30)
    async with opened_api(database_url, clock, limits=limits) as api:
        numbers = ["+6591230001", "+6591230002", "+6591230003", "+66812345671", "+66812345672"]
        answers = [(await ask_code(api, number))[0] for number in numbers]
        assert answers == [202, 202, 429, 202, 429]
        api.clock.advance(180)
        assert (await ask_code(api, "+6591230003"))[0] == 202


@pytest.mark.parametrize("number", ["+6561234567", "+6519001234567", "+6518001234567", "+6531234567", "+66600123456"])
async def test_only_mobile_numbers_get_a_code(api: ApiWorld, number: str) -> None:
    assert phonenumbers.is_valid_number(phonenumbers.parse(number))
    assert await ask_code(api, number) == (400, "invalid_argument")
    assert api.sent.codes == {}


async def test_a_device_that_anybody_may_name_is_not_limited(api: ApiWorld) -> None:
    device = str(uuid.uuid4())
    for at in range(12):
        assert (await ask_code(api, f"+659123{at:04}", device=device))[0] == 202


async def ask_code(
    api: ApiWorld, number: str, *, address: str | None = None, device: str | None = None
) -> tuple[int, str]:
    body = {"phone_number": number, "device_id": device}
    answer = await api.ask("POST", "/v1/sign-in/codes", body, address=address)
    return (202, "") if answer.status_code == 202 else error(answer)


async def test_guesses_at_one_number_from_one_address_are_limited_over_all_its_codes(api: ApiWorld) -> None:
    for _ in range(3):
        code = await api.code(ANN, address="203.0.113.1")
        for step in range(1, 6):
            await api.try_sign_in(ANN, f"{(int(code) + step) % 1_000_000:06}", address="203.0.113.1")
    code = await api.code(ANN, address="203.0.113.1")
    answer = await api.try_sign_in(ANN, code, address="203.0.113.1")
    assert error(answer) == (429, "rate_limited")
    assert waits(answer.headers["retry-after"])


async def test_wrong_guesses_of_a_stranger_do_not_block_the_owners_code(api: ApiWorld) -> None:
    device = str(uuid.uuid4())
    code = await api.code(ANN, address="198.51.100.1")
    await ask_code(api, ANN, address="203.0.113.1", device=device)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    answers = [await api.try_sign_in(ANN, wrong, device=device, address="203.0.113.1") for _ in range(30)]
    assert {error(answer) for answer in answers} == {(403, "code_wrong"), (429, "rate_limited")}
    assert (await api.try_sign_in(ANN, code, device=device, address="198.51.100.1")).status_code == 200


async def test_right_codes_cost_no_guesses(api: ApiWorld) -> None:
    device = str(uuid.uuid4())
    for _ in range(40):
        await api.sign_in(ANN, device=device)
        api.clock.advance(720)


# -- sign-ins


async def test_one_sees_ones_own_live_sign_ins(api: ApiWorld) -> None:
    await api.sign_in(BO)
    first = await api.sign_in(ANN, address="203.0.113.1")
    api.clock.advance(10)
    second = await api.sign_in(ANN, address="203.0.113.2")
    rows = (await second.ask("GET", "/v1/sign-ins")).json()
    assert [(row["sign_in"], row["address"], row["current"]) for row in rows] == [
        (second.sign_in, "203.0.113.2", True),
        (first.sign_in, "203.0.113.1", False),
    ]
    assert (rows[0]["platform"], rows[0]["app_version"], rows[0]["name"]) == ("web", "1.0", "laptop")


async def test_a_sixth_sign_in_ends_the_oldest_and_tells_it_why(api: ApiWorld) -> None:
    many = []
    for _ in range(6):
        many.append(await api.sign_in(ANN))
        api.clock.advance(720)
    assert api.sessions.closed == [(many[0].sign_in, CloseCode.TOO_MANY_SIGN_INS)]
    assert error(await api.refresh(many[0].refresh_token)) == (401, "signed_out")
    assert len((await many[5].ask("GET", "/v1/sign-ins")).json()) == 5


async def test_an_ended_sign_in_is_out_at_once_though_its_token_is_still_valid(api: ApiWorld) -> None:
    one, other = await api.sign_in(ANN), await api.sign_in(ANN)
    assert (await other.ask("DELETE", f"/v1/sign-ins/{one.sign_in}")).status_code == 204
    assert api.sessions.closed == [(one.sign_in, CloseCode.SIGNED_OUT)]
    answer = await one.ask("GET", "/v1/me")
    assert error(answer) == (401, "signed_out")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert error(await api.refresh(one.refresh_token)) == (401, "signed_out")
    assert (await other.ask("GET", "/v1/me")).status_code == 200


async def test_nobody_ends_or_learns_of_the_sign_in_of_another(api: ApiWorld) -> None:
    ann, bo = await api.sign_in(ANN), await api.sign_in(BO)
    theirs = await bo.ask("DELETE", f"/v1/sign-ins/{ann.sign_in}")
    nobodys = await bo.ask("DELETE", f"/v1/sign-ins/{uuid.uuid4()}")
    assert (theirs.status_code, theirs.content) == (nobodys.status_code, nobodys.content)
    assert api.sessions.closed == []
    assert (await ann.ask("GET", "/v1/me")).status_code == 200


async def test_all_others_can_be_ended(api: ApiWorld) -> None:
    one, two, three = [await api.sign_in(ANN) for _ in range(3)]
    assert (await two.ask("DELETE", "/v1/sign-ins")).status_code == 204
    assert sorted(api.sessions.closed) == sorted((me.sign_in, CloseCode.SIGNED_OUT) for me in (one, three))
    assert [row["sign_in"] for row in (await two.ask("GET", "/v1/sign-ins")).json()] == [two.sign_in]


async def test_a_device_that_signs_in_again_replaces_its_sign_in(api: ApiWorld) -> None:
    first = await api.sign_in(ANN)
    again = await api.sign_in(ANN, device=first.device)
    assert again.device == first.device
    assert api.sessions.closed == [(first.sign_in, CloseCode.REPLACED)]


async def test_the_device_of_another_is_not_to_be_had(api: ApiWorld) -> None:
    ann = await api.sign_in(ANN)
    bo = await api.sign_in(BO, device=ann.device)
    assert bo.device != ann.device


async def test_the_gateway_signs_out_the_same_way(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    await api.identity.sign_out(await api.identity.tokens.verify(me.access_token))
    assert api.sessions.closed == [(me.sign_in, CloseCode.SIGNED_OUT)]
    assert error(await me.ask("GET", "/v1/me")) == (401, "signed_out")


# -- refreshing


async def test_a_refresh_gives_new_tokens_for_the_same_sign_in(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    api.clock.advance(3600)
    assert error(await me.ask("GET", "/v1/me")) == (401, "token_expired")
    fresh = (await api.refresh(me.refresh_token)).json()
    assert (fresh["sign_in"], fresh["device"], fresh["principal"]) == (me.sign_in, me.device, me.principal)
    assert fresh["refresh_token"] != me.refresh_token
    assert (await api.ask("GET", "/v1/me", token=fresh["access_token"])).status_code == 200


async def test_a_lost_answer_is_given_again_and_the_chain_does_not_fork(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    answers = await asyncio.gather(*(api.refresh(me.refresh_token) for _ in range(5)))
    successors = {answer.json()["refresh_token"] for answer in answers}
    assert len(successors) == 1
    assert (await api.refresh(successors.pop())).status_code == 200


@pytest.mark.parametrize("late_s", [0, 61])
async def test_a_stolen_refresh_token_ends_the_sign_in_for_thief_and_owner(api: ApiWorld, late_s: int) -> None:
    me = await api.sign_in(ANN)
    owners = (await api.refresh(me.refresh_token)).json()["refresh_token"]
    if late_s == 0:
        owners = (await api.refresh(owners)).json()["refresh_token"]
    api.clock.advance(late_s)
    assert error(await api.refresh(me.refresh_token)) == (401, "signed_out")
    assert api.sessions.closed == [(me.sign_in, CloseCode.SIGNED_OUT)]
    assert error(await api.refresh(owners)) == (401, "signed_out")
    assert error(await me.ask("GET", "/v1/me")) == (401, "signed_out")


@pytest.mark.parametrize(
    "token", ["", "tcr_", "tcr_" + "A" * 64, "A" * 64, "tcr_" + "é" * 64, "\x00", "tcr_" + "A" * 190]
)
async def test_what_is_no_refresh_token_is_refused(api: ApiWorld, token: str) -> None:
    assert error(await api.refresh(token)) == (401, "token_invalid")


async def test_refresh_tokens_are_not_kept_readable(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    kept = await api.pool.fetchval("SELECT token_hash FROM refresh_tokens")
    assert kept not in me.refresh_token.encode()
    assert len(kept) == 32


async def test_refreshes_of_one_sign_in_are_limited(api: ApiWorld) -> None:
    me = await api.sign_in(ANN)
    token = me.refresh_token
    for _ in range(60):
        token = (await api.refresh(token)).json()["refresh_token"]
    assert error(await api.refresh(token)) == (429, "rate_limited")


# -- form


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_argument"),
        (b"{", "malformed"),
        (b"[" * 60_000, "malformed"),
        (b'{"phone_number": "\\ud800"}', "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"null", "invalid_argument"),
        (b"[]", "invalid_argument"),
        (b'{"phone_number": 6591234567}', "invalid_argument"),
        (b'{"phone_number": "+6591234567", "more": 1}', "invalid_argument"),
        (b'{"phone_number": "+6591234567", "device_id": "no uuid"}', "invalid_argument"),
        (b'{"phone_number": "+6591234567", "device_id": "00000000-0000-0000-0000-000000000000"}', "invalid_argument"),
        (b'{"phone_number": "' + b"9" * 100 + b'"}', "invalid_argument"),
    ],
)
async def test_a_bad_body_gets_a_clear_error(api: ApiWorld, content: bytes, code: str) -> None:
    answer = await api.ask("POST", "/v1/sign-in/codes", content=content, headers={"Content-Type": "application/json"})
    assert error(answer) == (400, code)


@pytest.mark.parametrize(
    "change", [{"platform": "Web\x00"}, {"app_version": "1\x00"}, {"name": "a\nb"}, {"name": "x" * 101}]
)
async def test_texts_that_cannot_be_kept_are_refused(api: ApiWorld, change: dict[str, str]) -> None:
    device = {"platform": "web", "app_version": "1.0", **change}
    body = {"phone_number": ANN, "code": "123456", "device": device}
    assert error(await api.ask("POST", "/v1/sign-in", body)) == (400, "invalid_argument")


async def test_a_body_that_is_too_large_is_refused(api: ApiWorld) -> None:
    answer = await api.ask("POST", "/v1/sign-in/codes", content=b" " * 200_000)
    assert error(answer) == (413, "too_large")


async def test_an_address_where_nothing_is_says_so(api: ApiWorld) -> None:
    for method, path in (("GET", "/"), ("GET", "/v1/nothing"), ("PUT", "/v1/me"), ("DELETE", "/v1/sign-ins/zzz")):
        assert error(await api.ask(method, path)) == (404, "unknown_command")


async def test_the_database_gone_is_temporary_and_a_fault_is_not_explained(api: ApiWorld) -> None:
    await api.pool.execute("ALTER TABLE codes RENAME TO elsewhere")
    assert error(await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN})) == (500, "internal")
    await api.pool.close()
    answer = await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN})
    assert error(answer) == (503, "unavailable")
    assert waits(answer.headers["retry-after"])
