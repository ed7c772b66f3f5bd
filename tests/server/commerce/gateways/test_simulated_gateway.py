"""What the engine makes of answers that are not as they should be: never that something happened, or did not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from server.commerce.gateways.gateway_contract import ChargeCall, FateUnknown, GatewayRefusal, GatewayUnavailableError
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectKind, ObjectStatus
from server.commerce.gateways.simulated_gateway import ANSWER_BYTES_MAX, GatewayAccess, SimulatedGateway
from server.startup_error import StartupError
from tests.server.commerce.gateways.objects import make_object
from tests.support.clock import ManualClock
from tests.support.fake_gateway.process import WEBHOOK_SECRET
from tests.support.webhook_receiver import WebhookReceiver, receiving

pytestmark = pytest.mark.anyio

CALL = ChargeCall(
    reference="r_1",
    written_at_ms=ManualClock().wall_ms(),
    amount_minor=1000,
    currency="THB",
    method="card",
    source="tok_visa",
)
CHARGE = make_object(ObjectKind.CHARGE, ObjectStatus.SUCCEEDED)


def as_text(found: GatewayObject) -> str:
    return msgspec.json.encode(found).decode()


class Script:
    """A server that answers everything alike, and the engine that asks it."""

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._receiver = receiver
        access = GatewayAccess(
            url=f"http://127.0.0.1:{receiver.port}", api_key="k", webhook_secret=WEBHOOK_SECRET, timeout_s=0.5
        )
        self.gateway = SimulatedGateway("g", access, ManualClock())

    def answer(self, status: int, body: str = "", **headers: str) -> None:
        self._receiver.answer = lambda _request: status
        self._receiver.answer_body = body
        self._receiver.headers = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def be_silent(self) -> None:
        self._receiver.silent = True

    def asked(self) -> list[str]:
        return [request.path for request in self._receiver.requests]


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with receiving() as receiver:
        script = Script(receiver)
        yield script
        await script.gateway.aclose()


async def test_the_object_that_was_asked_for_is_the_answer(script: Script) -> None:
    script.answer(201, as_text(CHARGE))
    assert await script.gateway.charge(CALL) == CHARGE


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (201, ""),
        (201, "{}"),
        (201, "["),
        (201, "[" * 100_000),
        (201, as_text(make_object(ObjectKind.CHARGE, ObjectStatus.SUCCEEDED, amount_minor=999))),
        (201, as_text(make_object(ObjectKind.CHARGE, ObjectStatus.SUCCEEDED, currency="IDR"))),
        (201, as_text(make_object(ObjectKind.CHARGE, ObjectStatus.SUCCEEDED, reference="r_2"))),
        (201, as_text(make_object(ObjectKind.PAYOUT, ObjectStatus.SUCCEEDED))),
        (201, " " * ANSWER_BYTES_MAX + as_text(CHARGE)),
        (402, "<html>no code</html>"),
        (404, "<html>another server</html>"),
        (302, ""),
        (409, '{"code":"in_progress"}'),
        (500, '{"code":"card_declined"}'),
        (503, ""),
    ],
)
async def test_an_answer_that_does_not_say_what_happened_leaves_it_unknown(
    script: Script, status: int, body: str
) -> None:
    script.answer(status, body)
    assert isinstance(await script.gateway.charge(CALL), FateUnknown)
    assert script.asked() == ["/v1/charges"]  # nothing is repeated by the engine


async def test_an_answer_that_does_not_come_in_time_leaves_it_unknown(script: Script) -> None:
    script.be_silent()
    assert isinstance(await script.gateway.charge(CALL), FateUnknown)


async def test_a_code_says_that_nothing_happened(script: Script) -> None:
    script.answer(402, '{"code":"insufficient_funds"}')
    assert await script.gateway.charge(CALL) == GatewayRefusal("insufficient_funds")


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("0", 1), ("86400", 300), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("-5", 1)]
)
async def test_how_long_to_wait_is_bounded(script: Script, header: str, seconds: int) -> None:
    script.answer(429, "", retry_after=header)
    with pytest.raises(GatewayUnavailableError) as caught:
        await script.gateway.charge(CALL)
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, "{}"), (500, ""), (302, ""), (200, ""), (200, "{}"), (200, "x"), (200, '{"objects":[{}]}')],
)
async def test_a_read_that_is_not_answered_in_form_never_says_that_there_is_nothing(
    script: Script, status: int, body: str
) -> None:
    script.answer(status, body)
    with pytest.raises(GatewayUnavailableError):
        await script.gateway.find(ObjectKind.CHARGE, "r_1")
    with pytest.raises(GatewayUnavailableError):
        await script.gateway.fetch(ObjectKind.CHARGE, "ob_1")


async def test_objects_that_were_not_asked_for_are_left_out(script: Script) -> None:
    other = make_object(ObjectKind.CHARGE, ObjectStatus.SUCCEEDED, id="ob_2", reference="r_2")
    script.answer(200, f'{{"objects":[{as_text(other)},{as_text(CHARGE)}]}}')
    assert await script.gateway.find(ObjectKind.CHARGE, "r_1") == [CHARGE]
    assert await script.gateway.fetch(ObjectKind.CHARGE, "ob_1") == CHARGE
    assert await script.gateway.fetch(ObjectKind.CHARGE, "ob_3") is None


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_no base64", "é"])
async def test_a_webhook_secret_that_is_none_stops_the_start(secret: str) -> None:
    access = GatewayAccess(url="http://127.0.0.1:9", api_key="k", webhook_secret=secret)
    with pytest.raises(StartupError, match="whsec_"):
        SimulatedGateway("g", access, ManualClock())


async def test_secrets_are_not_printed() -> None:
    access = GatewayAccess(url="http://127.0.0.1:9", api_key="a-key", webhook_secret=WEBHOOK_SECRET)
    assert "a-key" not in repr(access)
    assert WEBHOOK_SECRET not in f"{access}"
