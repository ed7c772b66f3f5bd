"""What a client does with payments, against a real node and a commerce that follows the contract."""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import AsyncIterator
from uuid import UUID

import anyio
import msgspec
import pytest
from nacl.signing import VerifyKey

from protocol.bodies import Header, Posted, Ref
from protocol.close_codes import CloseCode
from protocol.commerce.contract import Approval, NewPayment, approval_text, send_text
from protocol.commerce.payment_notice import CONTENT_TYPE, REF_TYPE, PaymentNotice, encode_notice
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.ids import new_id
from protocol.kinds import Kind
from server.config.payment_settings import CommerceSettings
from server.entries import make_entry
from storage.rows import PrincipalType, VerdictCode
from tchat.actions import ConnectionState, RefusedError
from tchat.encryption.notices import Standing
from tchat.fold.message import Message
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tests.support.fake_commerce import FakeCommerce, fake_commerce
from tests.support.harness import KEYS, Running, configured, running
from tests.support.world import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def commerce() -> AsyncIterator[FakeCommerce]:
    async with fake_commerce(KEYS) as made:
        yield made


@pytest.fixture
async def node(database_url: str, commerce: FakeCommerce) -> AsyncIterator[Running]:
    """A node whose commerce has half a second for an answer."""
    config = configured(commerce=CommerceSettings(url=commerce.url, timeout_s=0.5))
    async with running(database_url, config) as made:
        yield made


@contextlib.asynccontextmanager
async def online(node: Running, person: Person) -> AsyncIterator[Client]:
    """A client of a person that has keys."""

    async def token(_fresh: bool) -> str:
        return node.token(person)

    with anyio.fail_after(30):
        async with Client(node.url, token, store=MemoryStore(), on_event=lambda _event: None) as client:
            await client.wait_until(lambda: client.encryption.standing is Standing.LISTED)
            yield client


async def pair(node: Running, mode: Mode = Mode.OPEN) -> tuple[Person, Person, bytes]:
    """Two people with a `self` dialog each, and their direct dialog."""
    ann, bo = await node.world.people(2)
    for person in (ann, bo):
        await node.world.create(DialogType.SELF, person)
    return ann, bo, await node.world.create(DialogType.DIRECT, ann, bo, mode=mode)


async def test_a_request_is_approved_with_the_signature_of_the_device(node: Running, commerce: FakeCommerce) -> None:
    ann, bo, dialog = await pair(node)
    async with online(node, ann) as a, online(node, bo) as b:
        asked = await a.pay_request(dialog, bo.principal, 4_200, "THB", expires_in_s=3600)
        assert (asked.state, asked.payer, asked.payee) == ("requested", bo.principal, ann.principal)
        shown = await b.read_payment(asked.payment)
        approved = await b.approve_payment(dialog, shown, step_up="seen")
        assert (approved.state, approved.version) == ("paid", 2)
        with pytest.raises(RefusedError) as raised:
            await b.approve_payment(dialog, msgspec.structs.replace(approved, amount_minor=1))
        assert raised.value.failed.code == ErrorCode.CHANGED
        key = VerifyKey(b.encryption._parts.machine.public.ed25519)
    approval = msgspec.json.decode(commerce.asked[2].body, type=Approval)
    assert approval.proof is not None
    assert approval.proof.signature is not None
    text = approval_text(UUID(bytes=asked.payment), msgspec.structs.replace(approval, proof=None))
    assert key.verify(text, base64.b64decode(approval.proof.signature)) == text
    assert [asked.claims.get("device_key") for asked in commerce.asked][:3] == [
        None,
        None,
        base64.b64encode(bytes(key)).decode(),
    ]


async def test_a_send_is_signed_by_the_device_for_its_number_alone(node: Running, commerce: FakeCommerce) -> None:
    ann, bo, dialog = await pair(node)
    async with online(node, ann) as a:
        order = new_id()
        terms = {"capture_later": True, "order": order, "expires_in_s": 3600}
        await a.pay_send(dialog, bo.principal, 4_200, "THB", step_up="seen", **terms)  # type: ignore[arg-type]
        key = VerifyKey(a.encryption._parts.machine.public.ed25519)
    (asked,) = commerce.asked
    new = msgspec.json.decode(asked.body, type=NewPayment)
    assert new.proof is not None
    assert (new.proof.device, new.proof.step_up) == (UUID(bytes=ann.device), "seen")
    assert new.proof.signature is not None
    text = send_text(asked.key, msgspec.structs.replace(new, proof=None))
    assert key.verify(text, base64.b64decode(new.proof.signature)) == text
    assert asked.claims["device_key"] == base64.b64encode(bytes(key)).decode()


async def test_what_is_held_is_captured_by_its_payee(node: Running, commerce: FakeCommerce) -> None:
    ann, bo, dialog = await pair(node)
    async with online(node, ann) as a, online(node, bo) as b:
        held = await a.pay_send(dialog, bo.principal, 500, "THB", capture_later=True)
        captured = await b.capture_payment(dialog, held.payment, 200)
    assert (held.state, captured.state) == ("held", "paid")
    assert commerce.asked[1].path == f"/v1/payments/{UUID(bytes=held.payment)}/capture"
    assert commerce.asked[1].body == b'{"amount_minor":200}'


async def test_every_action_is_one_call_with_a_number_of_its_own(node: Running, commerce: FakeCommerce) -> None:
    ann, bo, dialog = await pair(node)
    async with online(node, ann) as a, online(node, bo) as b:
        sent = await a.pay_send(dialog, bo.principal, 5, "JPY", capture_later=True)
        assert sent.state == "held"
        assert (await a.cancel_payment(dialog, sent.payment)).state == "cancelled"
        assert (await b.refund_payment(dialog, sent.payment, 2)).state == "refunded"
        asked = await a.pay_request(dialog, bo.principal, 5, "JPY")
        assert (await b.decline_payment(dialog, asked.payment)).state == "declined"
    assert len({each.key for each in commerce.asked}) == len(commerce.asked) == 5


async def test_a_payment_under_a_number_that_was_taken_before_is_made_once(
    node: Running, commerce: FakeCommerce
) -> None:
    """As an app does that crashed after it had stored the number."""
    ann, bo, dialog = await pair(node)
    async with online(node, ann) as a:
        n = a.take_number()
        first = await a.pay_send(dialog, bo.principal, 5, "THB", n=n)
        again = await a.pay_send(dialog, bo.principal, 5, "THB", n=n)
        other = await a.pay_send(dialog, bo.principal, 5, "THB")
    assert msgspec.structs.replace(again, id=0) == msgspec.structs.replace(first, id=0)
    assert other.payment != first.payment
    assert len(commerce.payments) == 2


async def test_a_command_that_was_cut_off_is_asked_again_under_its_number(
    node: Running, commerce: FakeCommerce
) -> None:
    ann, bo, dialog = await pair(node)
    async with online(node, ann) as a, anyio.create_task_group() as beside:
        paid = []

        async def pay() -> None:
            paid.append(await a.pay_send(dialog, bo.principal, 5, "THB"))

        commerce.script.append(None)
        beside.start_soon(pay)
        await commerce.arrived.wait()
        node.session_of(ann).close(CloseCode.UNAVAILABLE)
        await a.wait_until(lambda: a.state is not ConnectionState.LIVE)
        await a.wait_until(lambda: bool(paid))
    assert paid[0].state == "paid"
    assert len({each.key for each in commerce.asked}) == 1
    assert len(commerce.asked) == 2


@pytest.mark.parametrize("mode", Mode)
async def test_a_state_that_a_service_announces_comes_to_both_in_either_mode(node: Running, mode: Mode) -> None:
    """In the clear, with the id and the version alone where the dialog is sealed."""
    ann, bo, dialog = await pair(node, mode)
    relay = await node.world.person(PrincipalType.SERVICE)
    payment = new_id()
    async with online(node, ann) as a, online(node, bo) as b:
        for version, requester in ((1, ann.principal), (2, None)):
            notice = PaymentNotice(payment=UUID(bytes=payment), version=version)
            header = Header(content_type=CONTENT_TYPE, ref=Ref(REF_TYPE, str(notice.payment)))
            body = Posted(Kind.PAYMENT, header, encode_notice(notice), requester=requester)
            entry = make_entry(dialog, relay.principal, relay.device, version, body)
            assert (await node.node.pipeline.append(entry)).code is VerdictCode.OK
            for client in (a, b):
                await client.wait_until(functools.partial(shows, client, dialog, notice))
        said = [each for each in a.view.dialogs[dialog].timeline() if isinstance(each, Message)]
        assert [message.unreadable for message in said] == [None, None]


def shows(client: Client, dialog: bytes, notice: PaymentNotice) -> bool:
    """Whether the view of a client has this as the newest state of its payment."""
    return client.view.dialogs[dialog].payments.get(notice.payment.bytes) == notice
