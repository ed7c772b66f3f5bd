"""The documents about the API: complete, and from nowhere else."""

import re

import pytest

from protocol.errors import ErrorCode
from server.http.errors import _OTHER_STATUS, _STATUS
from tests.support.api_world import ApiWorld

pytestmark = pytest.mark.anyio


async def test_the_page_names_every_operation_and_fetches_nothing(api: ApiWorld) -> None:
    answer = await api.ask("GET", "/v1/docs")
    assert answer.status_code == 200
    document = (await api.ask("GET", "/v1/docs/openapi.json")).json()
    for path, item in document["paths"].items():
        assert path in answer.text
        assert all("description" in operation for operation in item.values())
    assert not re.search(r"<script|<iframe|@import|(src|href)=[\"']?(https?:)?//", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_every_link_of_the_page_leads_to_something_that_is_open(api: ApiWorld) -> None:
    page = (await api.ask("GET", "/v1/docs")).text
    targets = set(re.findall(r'href="#(\w+)"', page))
    assert targets
    assert targets <= set(re.findall(r'<section id="(\w+)"', page))
    assert (await api.ask("GET", re.findall(r'href="(/[^"]+)"', page)[0])).status_code == 200


async def test_the_page_lists_the_values_that_a_field_may_have(api: ApiWorld) -> None:
    page = (await api.ask("GET", "/v1/docs")).text
    fields = re.findall(r"<tr><td><code>who_may_add</code>.*?</td><td>(.*?)</td>", page)
    assert fields
    for values in fields:
        assert re.findall(r"&quot;(\w+)&quot;", values) == ["everybody", "known", "nobody"]


async def test_the_document_says_how_refusals_look_and_who_may_ask(api: ApiWorld) -> None:
    document = (await api.ask("GET", "/v1/docs/openapi.json")).json()
    me = document["paths"]["/v1/me"]["get"]
    assert me["security"] == [{"access_token": []}]
    assert document["paths"]["/v1/dialogs/{dialog}/events"]["post"]["security"] == [{"api_key": []}]
    assert all(
        "ErrorBody" in str(me["responses"][str(status)]) for status in {*_STATUS.values(), _OTHER_STATUS} - {413, 500}
    )
    assert "security" not in document["paths"]["/v1/sign-in"]["post"]


async def test_the_keys_are_at_both_addresses(api: ApiWorld) -> None:
    one, other = await api.ask("GET", "/v1/jwks"), await api.ask("GET", "/.well-known/jwks.json")
    assert one.json() == other.json() == api.identity.tokens.keys.as_jwks()


def test_every_code_has_a_status() -> None:
    conflicts = {
        "wrong_state",
        "members_bound",
        "already_member",
        "not_member",
        "last_admin",
        "fixed_roster",
        "consent_required",
        "invitations_bound",
        "dialogs_bound",
        "conflict",
        "number_passed",
        "stale",
        "earlier_first",
        "keys_passed",
        "keys_bound",
        "keys_missing",
        "log_passed",
        "messages_bound",
        "backup_bound",
        "report_refused",
        "reports_off",
        "signature_required",
        "insufficient",
        "over_limit",
        "changed",
        "payment_state",
        "payment_expired",
        "wallet_closed",
        "quote_refused",
        "key_reused",
        "gateway_refused",
        "source_refused",
        "records_bound",
        "erasure_refused",
        "person_erased",
        "business_closed",
        "sku_taken",
        "last_owner",
        "shop_bound",
        "cart_empty",
        "shipping_refused",
        "out_of_stock",
        "order_state",
    }
    assert {code for code in ErrorCode if code not in _STATUS} == conflicts
    assert _OTHER_STATUS == 409
