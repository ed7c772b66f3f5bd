"""A node with its real identity: who signs in over HTTP talks over a websocket, and is disconnected when that ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from protocol import ids
from protocol.bodies import ProfileChanged, TimelineEvent
from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK
from protocol.commands import Authenticate, SignOut, Sync
from protocol.errors import ErrorCode
from protocol.replies import Authenticated, Failed
from server.clock import SystemClock
from server.config.settings import Config, IdentitySettings, ServerSettings
from server.identity.first_admin import make_admin
from server.identity.key_files import load_vault
from server.identity.signing_keys import SigningKeys, new_pem
from server.startup_error import StartupError
from tests.support.api_world import ANN, BO, CHAI, grant_admin, issuer
from tests.support.site import Site, site_on

pytestmark = pytest.mark.anyio

SHOP = SigningKeys.from_pem(new_pem())


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[Site]:
    """A node with default settings."""
    async with site_on(database_url, IdentitySettings()) as opened_site:
        yield opened_site


async def test_a_token_of_the_api_opens_a_session(site: Site) -> None:
    ann = await site.sign_in(ANN)
    for codec in (MSGPACK, JSON):
        async with site.running.connected(codec) as wire:
            reply = await wire.ask(Authenticate(1, ann["access_token"]))
            assert (ids.to_text(reply.principal), ids.to_text(reply.device)) == (ann["principal"], ann["device"])


async def test_a_change_of_the_profile_reaches_ones_other_devices(site: Site) -> None:
    ann = await site.sign_in(ANN)
    async with site.live(ann) as wire:
        await site.ask(ann, "PATCH", "/v1/me", {"display_name": "Ann Tan"})
        while (event := await wire.until(TimelineEvent)).body != ProfileChanged():
            pass
        assert event.dialog == ids.self_dialog_id(ids.from_text(ann["principal"]))


async def test_an_ended_sign_ins_socket_closes_at_once_and_its_token_opens_no_other(site: Site) -> None:
    phone, laptop = await site.sign_in(ANN), await site.sign_in(ANN)
    async with site.live(phone) as lost, site.live(laptop) as kept:
        await site.ask(laptop, "DELETE", f"/v1/sign-ins/{phone['sign_in']}")
        assert await lost.close_code() == CloseCode.SIGNED_OUT
        await site.ask(laptop, "PATCH", "/v1/me", {"findable": False})
        await kept.until(TimelineEvent)
    async with site.running.connected() as wire:
        assert isinstance(await wire.ask(Authenticate(1, phone["access_token"])), Authenticated)
        refused = await wire.ask(Sync(2))
        assert isinstance(refused, Failed)
        assert refused.code == ErrorCode.SIGNED_OUT
        assert await wire.close_code() == CloseCode.SIGNED_OUT


async def test_signing_out_over_the_socket_ends_the_refresh_token(site: Site) -> None:
    ann = await site.sign_in(ANN)
    async with site.live(ann) as wire:
        await wire.send(SignOut(3))
        assert await wire.close_code() == CloseCode.SIGNED_OUT
    answer = await site.http.post("/v1/tokens/refresh", json={"refresh_token": ann["refresh_token"]})
    assert (answer.status_code, answer.json()["code"]) == (401, "signed_out")


async def test_the_sixth_sign_in_closes_the_first_ones_socket_and_says_why(database_url: str) -> None:
    async with site_on(database_url, IdentitySettings(sign_ins_max=2)) as site:
        first = await site.sign_in(ANN)
        async with site.live(first) as wire:
            await site.sign_in(ANN)
            await site.sign_in(ANN)
            assert await wire.close_code() == CloseCode.TOO_MANY_SIGN_INS


async def test_a_reused_refresh_token_closes_the_socket(site: Site) -> None:
    ann = await site.sign_in(ANN)
    token = ann["refresh_token"]
    async with site.live(ann) as wire:
        for _ in range(2):
            answer = await site.http.post("/v1/tokens/refresh", json={"refresh_token": token})
            token = answer.json()["refresh_token"]
        await site.http.post("/v1/tokens/refresh", json={"refresh_token": ann["refresh_token"]})
        assert await wire.close_code() == CloseCode.SIGNED_OUT


async def test_the_suspended_and_the_deleted_are_cut_off_with_their_own_codes(site: Site) -> None:
    admin, ann, bo = await site.sign_in(CHAI), await site.sign_in(ANN), await site.sign_in(BO)
    await grant_admin(site.identity.people, SystemClock().wall_ms(), site.vault, CHAI)
    async with site.live(ann) as anns, site.live(bo) as bos:
        answer = await site.ask(admin, "POST", f"/v1/admin/principals/{ann['principal']}/suspend")
        assert answer.status_code == 204
        assert await anns.close_code() == CloseCode.SUSPENDED
        assert (await site.ask(bo, "DELETE", "/v1/me")).status_code == 204
        assert await bos.close_code() == CloseCode.DELETED
    for who, code in ((ann, CloseCode.SUSPENDED), (bo, CloseCode.DELETED)):
        async with site.running.connected() as wire:
            await wire.ask(Authenticate(1, who["access_token"]))
            await wire.send(Sync(2))
            assert await wire.close_code() == code


async def test_another_issuers_customer_talks_too_and_is_signed_out_too(database_url: str, tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(msgspec.json.encode(SHOP.as_jwks()))
    async with site_on(database_url, issuer(jwks.as_uri())) as site:
        now_s = SystemClock().wall_ms() // 1000
        claims = {"iss": "https://shop.example", "aud": "tchat-shop", "sub": "c17", "iat": now_s, "exp": now_s + 60}
        token = shop_token(claims)
        device = ids.new_id()
        async with site.running.connected() as wire:
            assert isinstance(await wire.ask(Authenticate(1, token, device)), Authenticated)
            await wire.ask(Sync(2))
            who = await site.identity.tokens.verify(token, device)
            (row,) = await site.identity.sign_in_flow.list_live(who.principal)
            assert row.address == "127.0.0.1"
            await site.identity.sign_out(who)
            assert await wire.close_code() == CloseCode.SIGNED_OUT
        async with site.running.connected() as wire:
            failed = await wire.ask(Authenticate(1, shop_token({**claims, "jti": "2"}), device))
            assert failed.code == ErrorCode.SIGNED_OUT
            assert await wire.close_code() == CloseCode.SIGNED_OUT


def shop_token(claims: dict[str, Any]) -> str:
    return jwt.PyJWS().encode(json.dumps(claims).encode(), SHOP.signing, algorithm="EdDSA", headers={"kid": SHOP.kid})


async def test_a_service_speaks_into_an_open_session(site: Site) -> None:
    admin, ann = await site.sign_in(CHAI), await site.sign_in(ANN)
    await grant_admin(site.identity.people, SystemClock().wall_ms(), site.vault, CHAI)
    made = (
        await site.ask(admin, "POST", "/v1/admin/services", {"name": "pay", "kinds": ["payment"], "all_dialogs": True})
    ).json()
    dialog = ids.self_dialog_id(ids.from_text(ann["principal"]))
    async with site.live(ann) as wire:
        answer = await site.http.post(
            f"/v1/dialogs/{ids.to_text(dialog)}/events",
            json={"n": 1, "kind": "payment", "payload": "e30="},
            headers={"Authorization": f"Bearer {made['key']}"},
        )
        while (event := await wire.until(TimelineEvent)).seq != answer.json()["seq"]:
            pass
        assert ids.to_text(event.author) == made["service"]


async def test_an_operator_makes_the_first_admin(database_url: str, tmp_path: Path) -> None:
    config = Config(server=ServerSettings(port=0, admin_port=0, data_dir=tmp_path, drain_timeout_s=2.0))
    with pytest.raises(StartupError, match="sign up first"):
        await make_admin(config, database_url, ANN)
    with pytest.raises(StartupError, match="cannot be made an admin"):
        await make_admin(config, database_url, "911")
    async with site_on(database_url, IdentitySettings(), load_vault(config)) as site:
        ann = await site.sign_in(ANN)
        assert not (await site.ask(ann, "GET", "/v1/me")).json()["admin"]
        assert ids.to_text(await make_admin(config, database_url, ANN)) == ann["principal"]
        assert (await site.ask(ann, "GET", "/v1/me")).json()["admin"]
