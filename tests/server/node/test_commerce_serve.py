"""`tchat commerce` as a process: it serves, keys are made beside it, it keeps the contract, it ends at SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.ids import NIL, new_id, to_text
from server.commerce.forgetter import Forgetter
from server.config.payment_settings import CommerceServiceSettings
from server.config.setting_types import Secret
from server.config.settings import Config, ServerSettings
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.vault import new_key
from server.node.commerce_composition import opened_person_keys
from server.node.commerce_settings import KEY_FOLDERS, connected, load_digest_key, load_sealing_key
from server.refusals import RequestRefusedError
from server.startup_error import StartupError
from storage.commerce.money_rows import StepKey, StepOutcome
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import KeyKind
from tests.conformance.contract_caller import new_uuid
from tests.support.commerce_process import TCHAT, run, serving_process
from tests.support.money_world import HOUR_US, MoneyWorld

pytestmark = pytest.mark.anyio

_PEM = new_pem()


@pytest.fixture
def environment(tmp_path: Path, money_url: str) -> dict[str, str]:
    """The settings of a service on a fresh database, which trusts the keys of a document."""
    document = tmp_path / "jwks.json"
    document.write_text(json.dumps(SigningKeys.from_pem(_PEM).as_jwks()))
    return {
        **os.environ,
        "TCHAT__COMMERCE_SERVICE__PORT": "0",
        "TCHAT__COMMERCE_SERVICE__ADMIN_PORT": "0",
        "TCHAT__COMMERCE_SERVICE__POSTGRES_URL": money_url,
        "TCHAT__COMMERCE_SERVICE__DATA_DIR": str(tmp_path / "data"),
        "TCHAT__COMMERCE_SERVICE__JWKS_URL": document.as_uri(),
        "COMMERCE_SIGNING_KEY": _PEM,
    }


async def test_the_process_keeps_the_contract_and_ends_at_sigterm(environment: dict[str, str]) -> None:
    async with serving_process(environment) as (url, process):
        code, printed = await run(
            *TCHAT, "commerce", "key", "setup", "--right", "admin", "--right", "transfers", environment=environment
        )
        assert code == 0
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            people = await set_up(client, printed.strip())
        named = [part for name, who in people.items() for part in (f"--{name}", who)]
        suite = (sys.executable, "-m", "tests.conformance.commerce", "--url", url)
        code, said = await run(*suite, *named, environment=environment)
        assert (code, json.loads(said)["failed"], json.loads(said)["server_errors"]) == (0, 0, 0), said
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_head_without_an_end_is_refused(environment: dict[str, str]) -> None:
    async with serving_process(environment) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET /v1/wallets HTTP/1.1\r\nHost: x\r\n" + b"a: " + b"x" * 20_000)
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_a_body_that_does_not_arrive_in_time_ends_its_connection(environment: dict[str, str]) -> None:
    async with serving_process(environment | {"TCHAT__GATEWAY__HTTP_REQUEST_TIMEOUT_S": "0.2"}) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST /v1/wallets HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def set_up(client: httpx.AsyncClient, api_key: str) -> dict[str, str]:
    """Three people with wallets, the first with money."""
    people = {name: str(new_uuid()) for name in ("payer", "payee", "poor")}

    async def ask(method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {api_key}", "Idempotency-Key": str(new_uuid())}
        answer = await client.request(method, f"/v1/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    wallets = [(await ask("POST", "wallets", {"currency": "THB", "owner": who}))["id"] for who in people.values()]
    own = (await ask("GET", f"wallets?owner={to_text(NIL)}"))["wallets"]
    (opening,) = [each["id"] for each in own if each["purpose"] == "opening"]
    leg = {"from_wallet": opening, "to_wallet": wallets[0], "amount_minor": 1_000_000}
    await ask("POST", "transfers", {"legs": [leg]})
    return people


async def test_a_service_without_its_port_or_database_says_what_to_set(environment: dict[str, str]) -> None:
    async with serving_process(environment) as (url, _):
        taken = environment | {"TCHAT__COMMERCE_SERVICE__PORT": url.rpartition(":")[2]}
        assert await run(*TCHAT, "commerce", environment=taken) == (2, "")
    nowhere = environment | {"TCHAT__COMMERCE_SERVICE__POSTGRES_URL": "postgresql://x@127.0.0.1:1/x"}
    assert await run(*TCHAT, "commerce", environment=nowhere) == (2, "")
    assert await run(*TCHAT, "commerce", "key", "x", environment=nowhere) == (2, "")


def test_the_digest_key_is_made_once_and_required_in_production(tmp_path: Path) -> None:
    settings = CommerceServiceSettings(data_dir=tmp_path)
    key = load_digest_key(Config(commerce_service=settings))
    assert load_digest_key(Config(commerce_service=settings)) == key
    with pytest.raises(StartupError, match="digest_key_file"):
        load_digest_key(Config(commerce_service=settings, server=ServerSettings(mode="production")))
    for text in ("AAAA", "no base64", "A" * 43 + "="):
        with pytest.raises(StartupError, match="32 random bytes"):
            load_digest_key(Config(commerce_service=CommerceServiceSettings(digest_key=Secret(text))))


async def test_a_month_is_closed_by_command_once_it_is_over(environment: dict[str, str]) -> None:
    async def close(month: str) -> tuple[int | None, str]:
        return await run(*TCHAT, "commerce", "close-month", month, environment=environment)

    code, said = await close("2026-01")
    assert (code, "2026-01 is closed" in said) == (0, True)
    database = await asyncpg.connect(environment["TCHAT__COMMERCE_SERVICE__POSTGRES_URL"])
    rows = await database.fetch("SELECT period, ends_us FROM periods")
    await database.close()
    assert [tuple(row) for row in rows] == [(202601, 1_769_904_000_000_000)]
    for wrong in ("2999-12", "2026-13", "202601"):
        code, _ = await close(wrong)
        assert code == 2


async def test_webhooks_are_shown_by_command_to_who_has_their_key(environment: dict[str, str], tmp_path: Path) -> None:
    key, nonce = (
        load_sealing_key(Config(commerce_service=CommerceServiceSettings(data_dir=tmp_path / "data"))),
        b"n" * 12,
    )
    bodies = (b"first", b'{"object": "ch_1"}', b"\xff")
    rows = [("bank", at * 1000, nonce + AESGCM(key).encrypt(nonce, body, b"bank")) for at, body in enumerate(bodies)]
    database = await asyncpg.connect(environment["TCHAT__COMMERCE_SERVICE__POSTGRES_URL"])
    await database.executemany("INSERT INTO webhook_bodies (gateway, at_us, sealed) VALUES ($1, $2, $3)", rows)
    await database.close()
    code, said = await run(*TCHAT, "commerce", "webhooks", "bank", "--last", "2", environment=environment)
    shown = [{"received_at_ms": 1, "body": '{"object": "ch_1"}'}, {"received_at_ms": 2, "body": "\ufffd"}]
    assert (code, [json.loads(line) for line in said.splitlines()]) == (0, shown)
    assert await run(*TCHAT, "commerce", "webhooks", "other", environment=environment) == (0, "")
    assert await run(*TCHAT, "commerce", "webhooks", "bank", "--last", "-1", environment=environment) == (2, "")
    (tmp_path / "data" / "keys" / "sealing.key").write_text(new_key())
    assert await run(*TCHAT, "commerce", "webhooks", "bank", environment=environment) == (2, "")


async def test_lost_keys_of_people_are_given_up_by_command_once_both_folders_are_gone(
    environment: dict[str, str], money_url: str, tmp_path: Path
) -> None:
    config = Config(commerce_service=CommerceServiceSettings(data_dir=tmp_path / "data"))
    first, second = (tmp_path / "data" / name for name in KEY_FOLDERS)
    ann, eve = new_id(), new_id()

    async def give_up(*options: str) -> tuple[int | None, str]:
        return await run(*TCHAT, "commerce", "give-up-keys", *options, environment=environment)

    assert await give_up("--accept") == (2, "")  # there are none
    async with connected(money_url, 5) as both:
        records = PersonalRecords(*both)
        async with opened_person_keys(config, records) as keys:
            before = await keys.ensure(1, ann, KeyKind.PROFILE)
            await records.begin_erasure(StepKey(new_id(), b""), eve, 1, eve, new_id())
        shutil.rmtree(first)
        assert await give_up() == (2, "")  # the other folder has them
        shutil.rmtree(second)
        code, said = await give_up()
        assert (code, "1 keys of people" in said, second.exists()) == (1, True, False)
        assert await records.find_key(1, ann, KeyKind.PROFILE) == before.id
        with pytest.raises(StartupError, match="give-up-keys"):
            async with opened_person_keys(config, records):
                pass
        assert await give_up("--accept") == (2, "")  # somebody is connected: this test
    code, said = await give_up("--accept")
    assert (code, said.startswith("1 keys, and 0 items under them")) == (0, True)
    async with connected(money_url, 5) as both, opened_person_keys(config, PersonalRecords(*both)) as keys:
        assert await keys.find(1, ann, KeyKind.PROFILE) is None
        assert (await keys.ensure(1, ann, KeyKind.PROFILE)).id != before.id
        with pytest.raises(RequestRefusedError):
            await keys.ensure(1, eve, KeyKind.PROFILE)


async def test_balances_are_imported_by_command(environment: dict[str, str], tmp_path: Path) -> None:
    database = await asyncpg.connect(environment["TCHAT__COMMERCE_SERVICE__POSTGRES_URL"])
    file = tmp_path / "balances.jsonl"

    async def post(*lines: str) -> tuple[int | None, str]:
        file.write_text("\n".join(lines), "utf-8")
        return await run(*TCHAT, "commerce", "import", str(file), environment=environment)

    fine = f'{{"owner": "{new_uuid()}", "currency": "THB", "amount_minor": 150000, "source": "1"}}'
    code, _ = await post(fine, "{}")
    assert code == 2
    assert await database.fetchval("SELECT count(*) FROM transfers") == 0
    assert await post(fine) == (0, "THB: 1500.00 posted, 0.00 found posted before\n1 lines, 0 refused\n")
    assert (await post(fine))[0] == 0
    assert (await post(fine.replace("150000", "150001")))[0] == 1
    assert await database.fetchval("SELECT sum(amount)::int FROM transfers") == 150_000
    await database.close()


async def test_answers_older_than_thirty_days_are_forgotten(money: MoneyWorld) -> None:
    ann, shop = await money.open_person(1_000), await money.open_person()
    new, key = money.payment(ann, shop, 100), money.key()
    await money.send(new, key)
    forgetter = Forgetter(money.ledger, step_rows=1)
    assert not await forgetter.step()
    await money.step_clock(30 * 24 * HOUR_US)
    assert [await forgetter.step() for _ in range(3)] == [True, True, False]
    late = await money.send(new, key)
    assert (late.outcome, late.subject) == (StepOutcome.DONE, None)
