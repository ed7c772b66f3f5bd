"""The fake gateway is as careless as real ones are, and its book survives what its process does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.support.fake_gateway.faults import NAMES, Faults
from tests.support.fake_gateway.process import API_KEY, FakeGateway


def post(fake: FakeGateway, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {API_KEY}"}
    return httpx.post(f"{fake.url}{path}", json=body, headers=headers, trust_env=False)


def a_charge() -> dict[str, Any]:
    return {"reference": uuid4().hex, "amount_minor": 500, "currency": "THB", "method": "card"}


def test_a_reference_is_charged_again_past_the_window_and_not_within(tmp_path: Path) -> None:
    body = a_charge()
    with FakeGateway(tmp_path, {"key-window-s": "100"}) as fake:
        first = post(fake, "/v1/charges", **body).json()["id"]
        fake.advance(50)
        assert post(fake, "/v1/charges", **body).json()["id"] == first
        fake.advance(51)
        assert post(fake, "/v1/charges", **body).json()["id"] != first
        assert fake.read_book()["sums"] == {"THB": 1000}


def test_what_was_due_when_it_was_killed_happens_when_it_is_back(tmp_path: Path) -> None:
    with FakeGateway(tmp_path, {"settle-s": "100"}) as fake:
        charge = post(fake, "/v1/charges", **a_charge()).json()
        given = {"reference": uuid4().hex, "amount_minor": 200, "currency": "THB", "parent": charge["id"]}
        assert post(fake, "/v1/refunds", **given).json()["status"] == "pending"
        fake.kill()
        fake.start()
        fake.advance(100)
        objects = {each["kind"]: each["status"] for each in fake.read_book()["objects"]}
        assert objects == {"charge": "succeeded", "refund": "succeeded"}
        assert fake.read_book()["sums"] == {"THB": 300}


def test_what_has_not_the_form_is_refused(tmp_path: Path) -> None:
    with FakeGateway(tmp_path) as fake:
        for changes in ({"amount_minor": 0}, {"amount_minor": 1.5}, {"surprise": 1}):
            assert post(fake, "/v1/charges", **{**a_charge(), **changes}).status_code == 422
        assert httpx.post(f"{fake.url}/v1/charges", json=a_charge(), trust_env=False).status_code == 401
        assert fake.read_book()["objects"] == []


def test_the_same_seed_draws_the_same_faults_in_any_order() -> None:
    chances = dict.fromkeys(NAMES, 0.5)
    draws = [(name, str(number)) for name in NAMES for number in range(20)]
    one, two, other = Faults(7, chances), Faults(7, chances), Faults(8, chances)
    first = {draw: one.strike(*draw) for draw in draws}
    assert {draw: two.strike(*draw) for draw in reversed(draws)} == first
    assert {draw: other.strike(*draw) for draw in draws} != first
