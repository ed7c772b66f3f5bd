"""Bots against a real node: every event is handled, in order, and answered once, whatever crashes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from protocol.bodies import Posted, Reacted
from protocol.commands import Create, React, Send
from protocol.dialog_types import DialogType, Mode
from server.config.settings import SyncSettings
from tchat import Bot, Client, Context, MessageContext
from tchat import bot as bot_module
from tchat.actions import ConnectionState, SignInRequiredError
from tchat.encryption.notices import Standing
from tchat.fold.message import Message
from tchat.memory_store import MemoryStore
from tests.support.harness import Running, configured, running
from tests.support.world import Person

pytestmark = pytest.mark.anyio


class Site:
    """A node, a person who writes, and a bot that may be started again and again with the same state."""

    def __init__(self, server: Running, ann: Person, botty: Person, folder: Path) -> None:
        self.server, self.ann, self.botty = server, ann, botty
        self.folder = folder / "bot"
        self.url = server.url.removesuffix("/v1/ws").replace("ws", "http", 1)
        self.dialog = b""

    def bot(self, person: Person | None = None) -> Bot:
        """A bot without handlers."""

        async def token(_fresh: bool) -> str:
            return self.server.token(person or self.botty)

        return Bot(self.url, token, folder=self.folder)

    @contextlib.asynccontextmanager
    async def serving(self, bot: Bot, *, gently: bool = True) -> AsyncIterator[Bot]:
        """The bot while it is live; at the end it is stopped, or ends as in a crash."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bot.serve)
            await bot.wait_live()
            yield bot
            if gently:
                bot.stop()
            else:
                tasks.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def talking(self, mode: Mode = Mode.SEALED) -> AsyncIterator[Client]:
        """The person's client, and a direct dialog with the bot."""

        async def token(_fresh: bool) -> str:
            return self.server.token(self.ann)

        with anyio.fail_after(30):
            async with Client(self.server.url, token, store=MemoryStore(), on_event=lambda _event: None) as client:
                await client.wait_until(lambda: client.state is ConnectionState.LIVE)
                create = Create(0, 0, DialogType.DIRECT, [self.botty.principal], mode=mode)
                self.dialog = (await client.perform(create)).dialog
                await client.wait_until(lambda: self.dialog in client.view.dialogs)
                yield client

    def said_by_bot(self, client: Client) -> list[str]:
        """The messages of the bot, as the person sees them."""
        messages = [one for one in client.view.dialogs[self.dialog].timeline() if isinstance(one, Message)]
        return [one.payload.decode() for one in messages if one.author == self.botty.principal]

    async def until_said(self, client: Client, count: int) -> list[str]:
        """What the bot has said, once it is as much as this."""
        await client.wait_until(lambda: len(self.said_by_bot(client)) >= count)
        return self.said_by_bot(client)


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A node, a person and the account of a bot."""
    async with running(database_url, configured(sync=SyncSettings(window_events=5))) as server:
        ann, botty = await server.world.people(2)
        for person in (ann, botty):
            await server.world.create(DialogType.SELF, person)
        site = Site(server, ann, botty, tmp_path)
        async with site.serving(site.bot()) as bot:  # its first life: now others can write to its device
            await bot.client.wait_until(lambda: bot.client.encryption.standing is Standing.LISTED)
        yield site


def echo(site: Site) -> Bot:
    bot = site.bot()

    @bot.on_message
    async def answer(message: MessageContext) -> None:
        await message.reply(message.text)

    return bot


async def test_an_echo_bot_answers_in_order(site: Site) -> None:
    async with site.talking() as ann, site.serving(echo(site)):
        for number in range(20):
            ann.submit(Send(0, site.dialog, 0, b"%d" % number))
        assert await site.until_said(ann, 20) == [str(number) for number in range(20)]


async def test_what_came_while_a_bot_was_away_is_answered_once_it_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot_module, "_PAGE_EVENTS", 4)
    async with site.talking() as ann:
        async with site.serving(echo(site)):
            await ann.send(site.dialog, b"here")
            await site.until_said(ann, 1)
        for number in range(20):  # more than the window of a sync
            ann.submit(Send(0, site.dialog, 0, b"%d" % number))
        await ann.wait_until(lambda: not ann.pending())
        async with site.serving(echo(site)):
            assert await site.until_said(ann, 21) == ["here", *(str(number) for number in range(20))]


async def test_what_is_older_than_the_state_of_a_bot_is_not_answered(site: Site) -> None:
    site.folder = site.folder / "another"
    async with site.talking(Mode.OPEN) as ann:
        await ann.send(site.dialog, b"before")
        async with site.serving(echo(site)):
            await ann.send(site.dialog, b"after")
            assert await site.until_said(ann, 1) == ["after"]


async def test_a_dialog_that_began_while_the_bot_was_away_is_answered(site: Site) -> None:
    async with site.talking() as ann:
        await ann.send(site.dialog, b"hello")
        async with site.serving(echo(site)):
            assert await site.until_said(ann, 1) == ["hello"]


async def test_a_handler_that_is_cut_off_after_its_reply_runs_again_and_replies_once(site: Site) -> None:
    bot, again = site.bot(), site.bot()
    replied = anyio.Event()

    @bot.on_message
    async def reply_and_hang(message: MessageContext) -> None:
        await message.reply("first run")
        replied.set()
        await anyio.sleep_forever()

    runs: list[int] = []

    @again.on_message
    async def reply(message: MessageContext) -> None:
        runs.append(await message.reply("second run"))
        await message.reply("and more")

    async with site.talking() as ann:
        async with site.serving(bot, gently=False):
            await ann.send(site.dialog, b"hello")
            await replied.wait()
        async with site.serving(again):
            assert await site.until_said(ann, 2) == ["first run", "and more"]
        assert len(runs) == 1


async def test_a_handler_that_fails_is_run_again_and_repeats_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot_module, "RETRY_AFTER_S", (0.0, 0.0, 0.0))
    bot = site.bot()

    @bot.on_message
    async def flaky(message: MessageContext) -> None:
        await message.reply(f"{message.text}, and {bot.failures} failures")
        if bot.failures < 2 or message.text == "poison":
            raise ValueError("on purpose")
        await message.reply("done")

    async with site.talking() as ann, site.serving(bot):
        for text in (b"one", b"poison", b"two"):
            await ann.send(site.dialog, text)
        said = await site.until_said(ann, 5)
        assert said == ["one, and 0 failures", "done", "poison, and 2 failures", "two, and 6 failures", "done"]


async def test_a_slow_handler_holds_back_its_own_dialog_only(site: Site) -> None:
    bot = site.bot()
    go_on = anyio.Event()

    @bot.on_message
    async def slow_in_one(message: MessageContext) -> None:
        if message.text == "slow":
            await go_on.wait()
        await message.send(message.text)

    async with site.talking() as ann, site.serving(bot):
        await site.server.world.pool.execute("UPDATE deployment SET who_may_add = 1")
        members = [site.botty.principal, (await site.server.world.person()).principal]
        group = (await ann.perform(Create(0, 0, DialogType.GROUP, members, mode=Mode.OPEN, name="two"))).dialog
        await ann.send(site.dialog, b"slow")
        await ann.send(site.dialog, b"after it")
        await ann.send(group, b"quick")
        await ann.wait_until(lambda: group in ann.view.dialogs and ann.view.dialogs[group].messages == 2)
        assert site.said_by_bot(ann) == []
        go_on.set()
        assert await site.until_said(ann, 2) == ["slow", "after it"]


async def test_a_command_has_its_own_handler_and_what_follows_it(site: Site) -> None:
    bot = echo(site)

    @bot.command("remind")
    async def remind(message: MessageContext) -> None:
        await message.reply(f"I will: {message.arguments}")

    async with site.talking() as ann, site.serving(bot):
        for text in (b"/Remind  me of tea", b"/reminder", b"remind"):
            await ann.send(site.dialog, text)
        assert await site.until_said(ann, 3) == ["I will: me of tea", "/reminder", "remind"]


async def test_other_events_have_handlers_by_their_body(site: Site) -> None:
    bot = echo(site)

    @bot.on(Reacted)
    async def reacted(context: Context[Reacted]) -> None:
        await context.send(f"{context.body.payload.decode()} to {context.body.target}")

    async with site.talking() as ann, site.serving(bot):
        seq = (await ann.send(site.dialog, b"hello")).seq
        await site.until_said(ann, 1)
        await ann.perform(React(0, site.dialog, 0, seq, b"+"))
        assert await site.until_said(ann, 2) == ["hello", f"+ to {seq}"]


async def test_a_bot_reacts_and_edits(site: Site) -> None:
    bot = site.bot()

    @bot.on_message
    async def work(message: MessageContext) -> None:
        await message.react("eyes")
        seq = await message.send("wait")
        await message.edit(seq, "ready")

    async with site.talking() as ann, site.serving(bot):
        await ann.send(site.dialog, b"hello")
        await ann.wait_until(lambda: site.said_by_bot(ann) == ["ready"])


async def test_what_is_sent_under_a_name_is_sent_once(site: Site) -> None:
    async with site.talking() as ann:
        for _ in range(2):
            async with site.serving(site.bot()) as bot:
                await bot.client.wait_until(lambda: site.dialog in bot.client.view.dialogs)
                seqs = {await bot.send(site.dialog, "ten o'clock", key="reminder 1") for _ in range(2)}
                assert len(seqs) == 1
        async with site.serving(site.bot()) as bot:
            await bot.send(site.dialog, "eleven", key="reminder 2")
        assert await site.until_said(ann, 2) == ["ten o'clock", "eleven"]


async def test_work_in_the_background_begins_again_when_it_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bot_module, "RETRY_AFTER_S", (0.0, 0.0))
    bot = site.bot()

    @bot.background
    async def greet(running: Bot) -> None:
        if not running.failures:
            raise ValueError("on purpose")
        await running.send(site.dialog, "good morning", key="morning")

    async with site.talking() as ann, site.serving(bot):
        assert await site.until_said(ann, 1) == ["good morning"]


async def test_a_stopped_bot_lets_its_handlers_end(site: Site) -> None:
    bot = site.bot()
    began, go_on = anyio.Event(), anyio.Event()

    @bot.on_message
    async def slow(message: MessageContext) -> None:
        began.set()
        await go_on.wait()
        await message.reply("done")

    async with site.talking() as ann:
        async with site.serving(bot):
            await ann.send(site.dialog, b"hello")
            await began.wait()
            bot.stop()
            go_on.set()
        assert await site.until_said(ann, 1) == ["done"]
        async with site.serving(echo(site)):
            await ann.send(site.dialog, b"more")
            assert await site.until_said(ann, 2) == ["done", "more"]


async def test_a_bot_whose_sign_in_has_ended_says_so(site: Site) -> None:
    revoke = "UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1"
    await site.server.world.pool.execute(revoke, site.botty.sign_in)
    with pytest.raises(SignInRequiredError):
        await echo(site).serve()


def test_a_program_that_cannot_begin_says_why_in_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        Bot("http://127.0.0.1:1", tmp_path / "lost.key", folder=tmp_path / "bot").run()
    assert "the bot ends: the key cannot be read" in caplog.text


async def test_posts_are_given_to_the_handler_of_bodies_only_if_no_other_takes_them(site: Site) -> None:
    bot = site.bot()

    @bot.on(Posted)
    async def posted(context: Context[Posted]) -> None:
        await context.send(f"{len(context.body.payload)} bytes")

    async with site.talking() as ann, site.serving(bot):
        await ann.send(site.dialog, b"12345")
        assert await site.until_said(ann, 1) == ["5 bytes"]
