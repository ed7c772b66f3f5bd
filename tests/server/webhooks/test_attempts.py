"""What is posted of a bot's dialogs: each event, in order, under one id, until it is taken or given up."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from protocol.bodies import MemberLeft
from protocol.dialog_types import DialogType, Mode
from protocol.ids import NIL, new_id, to_text
from server.identity.vault import Vault, new_key
from server.webhooks.attempts import AGAIN_AFTER_S, PAUSED_AFTER_S, WEBHOOK_AGAIN_AFTER_S, WebhookDelivery
from server.webhooks.endpoints import Webhooks
from server.webhooks.posting import Poster, sign
from storage.postgres.webhooks import WebhookRow, WebhookStore
from tests.support.clock import ManualClock
from tests.support.webhook_receiver import Request, WebhookReceiver, receiving
from tests.support.world import Person, World

pytestmark = pytest.mark.anyio


class Site:
    """A bot with a webhook, people who write to it, and the node that posts."""

    def __init__(self, world: World, receiver: WebhookReceiver, bot: Person) -> None:
        self.world, self.receiver, self.bot = world, receiver, bot
        self.clock = ManualClock()
        self.vault = Vault.from_text(new_key())
        self.store = WebhookStore(world.pool)
        self.poster = Poster(private=True)
        self.webhooks = Webhooks(self.store, self.vault, self.clock, private=True)
        self.delivery = WebhookDelivery(self.store, world.timelines, self.vault, self.poster, self.clock)
        self.secret = ""

    async def set(self) -> None:
        """Have events posted from now on."""
        url = f"http://127.0.0.1:{self.receiver.port}/hook"
        self.secret = await self.webhooks.set(self.bot.principal, url)

    async def hooks(self) -> list[WebhookRow]:
        """The webhooks that are due."""
        now_ms = self.clock.wall_ms()
        return [hook for hook in await self.store.list_active(NIL, limit=10) if hook.next_at_ms <= now_ms]

    async def look(self, times: int = 1) -> None:
        """Look so often at all webhooks."""
        for _ in range(times):
            for hook in await self.hooks():
                await self.delivery.serve(hook)

    async def dialog(self) -> tuple[bytes, Person]:
        """A direct dialog with somebody."""
        person = await self.world.person()
        return await self.world.create(DialogType.DIRECT, person, self.bot), person

    def taken(self) -> list[tuple[str, int]]:
        """Dialog and number of each request so far."""
        events = [json.loads(request.body)["data"] for request in self.receiver.requests]
        return [(event["dialog"], event["seq"]) for event in events]

    def seqs(self) -> list[int]:
        return [seq for _, seq in self.taken()]

    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.receiver.requests]


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    """A bot whose webhook is set."""
    async with receiving() as receiver:
        site = Site(world, receiver, await world.person(2))
        await site.set()
        yield site
        await site.poster.aclose()


async def test_every_event_of_others_is_posted_once_in_order_and_signed(site: Site) -> None:
    dialog, ann = await site.dialog()
    for text in ("one", "two"):
        await site.world.say(dialog, ann, text)
    await site.world.say(dialog, site.bot, "my own")
    await site.world.say(dialog, ann, "three")
    await site.look(3)
    assert site.taken() == [(to_text(dialog), seq) for seq in (1, 2, 3, 5)]
    assert len(set(site.ids())) == 4
    for request in site.receiver.requests:
        headers = request.headers
        signed = sign(site.secret, headers["webhook-id"], int(headers["webhook-timestamp"]), request.body)
        assert headers["webhook-signature"] == signed["webhook-signature"]
    body = json.loads(site.receiver.requests[1].body)
    assert (body["type"], body["data"]["tag"], body["data"]["author"]) == (
        "tchat.event",
        "timeline_event",
        to_text(ann.principal),
    )


async def test_what_was_there_before_the_webhook_is_not_posted(world: World) -> None:
    async with receiving() as receiver:
        site = Site(world, receiver, await world.person(2))
        dialog, ann = await site.dialog()
        await world.say(dialog, ann)
        await site.set()
        await world.say(dialog, ann)
        await site.look()
        assert site.seqs() == [3]
        await site.poster.aclose()


async def test_a_sealed_envelope_is_posted_unopened(site: Site) -> None:
    person = await site.world.person()
    dialog = await site.world.create(DialogType.DIRECT, person, site.bot, mode=Mode.SEALED)
    await site.look()
    assert site.taken() == [(to_text(dialog), 1)]


async def test_an_event_that_is_not_taken_comes_again_under_the_same_id(site: Site) -> None:
    dialog, ann = await site.dialog()
    await site.world.say(dialog, ann)
    site.receiver.answer = lambda _request: 500
    await site.look(3)
    assert site.seqs() == [1]
    state = await site.webhooks.read(site.bot.principal)
    assert (state.failures, state.last_error) == (1, "the answer is 500")
    site.receiver.answer = lambda _request: 200
    site.clock.advance(AGAIN_AFTER_S[0])
    await site.look(2)
    assert site.seqs() == [1, 1, 2]
    assert site.ids()[0] == site.ids()[1]
    state = await site.webhooks.read(site.bot.principal)
    assert (state.sent, state.failures, state.failing_since_ms) == (2, 0, None)


async def test_an_event_that_is_never_taken_is_given_up_and_the_next_one_comes(site: Site) -> None:
    dialog, ann = await site.dialog()
    other, bob = await site.dialog()
    await site.world.say(dialog, ann)
    poison = (to_text(dialog), 1)

    def answer(request: Request) -> int:
        data = json.loads(request.body)["data"]
        return 500 if (data["dialog"], data["seq"]) == poison else 200

    site.receiver.answer = answer
    said = 1
    while not (await site.webhooks.read(site.bot.principal)).given_up:
        await site.world.say(other, bob)
        said += 1
        await site.look(2)
        site.clock.advance(max(AGAIN_AFTER_S))
    await site.look(3)
    assert site.taken().count(poison) > len(AGAIN_AFTER_S)
    assert (to_text(dialog), 2) in site.taken()
    assert [seq for where, seq in site.taken() if where == to_text(other)] == list(range(1, said + 1))
    assert (await site.webhooks.read(site.bot.principal)).paused_at_ms is None


async def test_a_webhook_that_fails_is_attempted_less_and_less_often_then_paused_until_it_is_resumed(
    site: Site,
) -> None:
    for _ in range(5):
        await site.dialog()
    site.receiver.answer = lambda _request: 503
    began_ms = site.clock.wall_ms()
    await site.look(5)
    first = len(site.receiver.requests)
    assert first == 5  # side by side
    waits: list[float] = []
    while await site.store.list_active(NIL, limit=1):
        before = len(site.receiver.requests)
        await site.look()
        assert len(site.receiver.requests) - before <= 1
        for hook in await site.store.list_active(NIL, limit=1):
            waits.append((hook.next_at_ms - site.clock.wall_ms()) / 1000)
            site.clock.advance(max(1.0, waits[-1]))
    assert waits == sorted(waits)
    assert max(waits) == WEBHOOK_AGAIN_AFTER_S[-1]
    assert site.clock.wall_ms() - began_ms >= PAUSED_AFTER_S * 1000
    assert (await site.webhooks.read(site.bot.principal)).paused_at_ms is not None
    site.receiver.answer = lambda _request: 200
    site.receiver.requests.clear()
    site.clock.advance(max(AGAIN_AFTER_S))
    await site.look()
    assert site.receiver.requests == []
    await site.webhooks.resume(site.bot.principal)
    await site.look(3)
    assert len(site.receiver.requests) == 5


async def test_a_receiver_that_is_gone_pauses_the_webhook_at_once(site: Site) -> None:
    await site.dialog()
    site.receiver.answer = lambda _request: 410
    await site.look(2)
    assert len(site.receiver.requests) == 1
    assert (await site.webhooks.read(site.bot.principal)).paused_at_ms is not None


async def test_two_nodes_at_once_post_the_same_events_under_the_same_ids(site: Site) -> None:
    dialog, ann = await site.dialog()
    await site.world.say(dialog, ann)
    (hook,) = await site.hooks()
    other = WebhookDelivery(site.store, site.world.timelines, site.vault, site.poster, site.clock)
    await asyncio.gather(site.delivery.serve(hook), other.serve(hook))
    await site.look()
    assert set(site.seqs()) == {1, 2}
    assert len(set(site.ids())) == 2


async def test_a_slow_receiver_delays_no_other(site: Site) -> None:
    await site.dialog()
    later = await site.world.person(2)
    await site.webhooks.set(later.principal, f"http://127.0.0.1:{site.receiver.port}/")
    await site.world.create(DialogType.DIRECT, await site.world.person(), later)
    async with receiving() as slow:
        slow.silent = True
        await site.webhooks.set(site.bot.principal, f"http://127.0.0.1:{slow.port}/")
        running = asyncio.ensure_future(site.delivery.run())
        try:
            await slow.arrived.wait()
            await site.receiver.arrived.wait()
            assert site.delivery.failed == 0, "the slow one is not answered yet"
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def test_who_has_left_a_dialog_gets_nothing_more_of_it(site: Site) -> None:
    world = site.world
    people = [await world.person() for _ in range(2)]
    group = await world.create(DialogType.GROUP, people[0], people[1], site.bot)
    await site.look()
    await world.act(MemberLeft, group, site.bot)
    await world.say(group, people[0])
    await site.look(2)
    assert site.seqs() == [1]


async def test_a_webhook_that_was_removed_or_whose_bot_is_suspended_gets_nothing(site: Site) -> None:
    await site.dialog()
    await site.world.pool.execute("UPDATE principals SET status = 2 WHERE principal_id = $1", site.bot.principal)
    await site.look()
    await site.world.pool.execute("UPDATE principals SET status = 1 WHERE principal_id = $1", site.bot.principal)
    (hook,) = await site.hooks()
    await site.webhooks.remove(site.bot.principal)
    await site.look()
    assert site.receiver.requests == []
    await site.store.note_sent(hook.principal, new_id(), 1, sent=1)  # what was under way then


async def test_a_new_secret_signs_from_then_on(site: Site) -> None:
    first = site.secret
    await site.set()
    assert site.secret != first
    await site.dialog()
    await site.look()
    (request,) = site.receiver.requests
    headers = request.headers
    signed = sign(site.secret, headers["webhook-id"], int(headers["webhook-timestamp"]), request.body)
    assert headers["webhook-signature"] == signed["webhook-signature"]
