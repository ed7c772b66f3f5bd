"""The screen, driven by a pilot, on a real node: a first conversation as a person has it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import UUID

import anyio
import pytest
from textual.app import App, ComposeResult
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from protocol.bodies import ProfileChanged, TimelineEvent
from protocol.close_codes import CloseCode
from protocol.commands import Create, Invite, Remove, Send
from protocol.dialog_types import DialogType
from tchat.actions import ConnectionState, Notification, RefusedError, SignInRequiredError, StoppedError
from tchat.crypto.verification import Phase
from tchat.encryption.notices import Standing, VerificationStep
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tchat.terminal.account import ApiError, PersonAnswer, Refusal, SignInAnswer
from tchat.terminal.screen import ChatApp, Composer
from tchat.terminal.talk import Talk
from tests.support.harness import Running, configured, running
from tests.support.world import Person as Somebody

pytestmark = pytest.mark.anyio

ANN, BOB, CEM = "+6591234567", "+6598765432", "+6590000001"


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node with the default limits."""
    async with running(database_url, configured()) as node:
        yield node


class Book:
    """Who has which number."""

    def __init__(self, entries: dict[str, tuple[Somebody, str]]) -> None:
        self.entries = entries

    async def find(self, phone_number: str) -> PersonAnswer:
        """Answer from the entries."""
        if phone_number not in self.entries:
            raise ApiError(404, Refusal("principal_not_found", "There is no such person."))
        somebody, name = self.entries[phone_number]
        return PersonAnswer(UUID(bytes=somebody.principal), name)

    async def person(self, principal: bytes) -> PersonAnswer:
        """Answer from the entries."""
        names = {somebody.principal: name for somebody, name in self.entries.values()}
        return PersonAnswer(UUID(bytes=principal), names[principal])

    async def sign_ins(self) -> list[SignInAnswer]:
        """No test of the screen asks for them."""
        raise NotImplementedError

    async def end_sign_in(self, sign_in: UUID) -> None:
        """Nor ends one."""
        raise NotImplementedError


@dataclass
class Stage:
    """Ann at her screen, and Bob, a client without one."""

    app: ChatApp
    pilot: Pilot[StoppedError | None]
    bob: Client
    server: Running
    people: dict[str, tuple[Somebody, str]]
    bob_told: list[Callable[[Notification], None]]
    """What else hears what Bob's client is told."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until it holds."""
        with anyio.fail_after(20):
            while not condition():
                await self.pilot.pause(0.02)

    async def type(self, text: str) -> None:
        """Type a line, and press enter."""
        self.app.query_one("#composer").value = text  # type: ignore[attr-defined]
        await self.pilot.press("enter")

    async def shows(self, *texts: str) -> None:
        """Return when the transcript contains all of these."""
        await self.until(lambda: all(text in self.transcript for text in texts))

    @property
    def transcript(self) -> str:
        """What is on the right."""
        return str(self.app.query_one("#transcript", Static).content)

    @property
    def listed(self) -> list[str]:
        """What is on the left."""
        return [str(option.prompt) for option in self.app.query_one("#dialogs", OptionList).options]

    @property
    def notices(self) -> str:
        """What popped up."""
        return "\n".join(notification.message for notification in self.app._notifications)

    @property
    def page(self) -> str:
        """What is shown in place of the dialog."""
        return str(self.app.query_one("#page-text", Static).content) if self.app.query_one("#page").display else ""


@contextlib.asynccontextmanager
async def client_of(
    server: Running, somebody: Somebody, take: Callable[[Notification], None], standing: Standing = Standing.LISTED
) -> AsyncIterator[Client]:
    async def token(_fresh: bool) -> str:
        return server.token(somebody)

    async with Client(server.url, token, store=MemoryStore(), on_event=take) as client:
        with anyio.fail_after(20):
            await client.wait_until(lambda: client.state is ConnectionState.LIVE)
            await client.wait_until(lambda: client.encryption.standing is standing)
        yield client


@pytest.fixture
async def stage(server: Running) -> AsyncIterator[Stage]:
    """Ann and Bob are online; Cem is not."""
    people = dict(zip((ANN, BOB, CEM), await server.world.people(3), strict=True))
    for somebody in people.values():
        await server.world.create(DialogType.SELF, somebody)
    book = {phone: (people[phone], name) for phone, name in ((ANN, "Ann"), (BOB, "Bob"), (CEM, "Cem"))}
    app: ChatApp | None = None
    told: list[Callable[[Notification], None]] = []

    def tell(event: Notification) -> None:
        for hear in told:
            hear(event)

    def take(event: Notification) -> None:
        if app is not None:
            app.take(event)

    async with (
        client_of(server, people[ANN], take) as ann,
        client_of(server, people[BOB], tell) as bob,
    ):
        app = ChatApp(ann, Book(book), "Ann")
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            yield Stage(app, pilot, bob, server, book, told)


async def test_a_device_that_waits_for_its_person_says_so(stage: Stage) -> None:
    await stage.until(lambda: not stage.app.query_one("#warning").display)
    await stage.type("/new-identity")
    await stage.until(lambda: "needs no new identity" in stage.page)
    before = stage.app.talk.client.encryption.recovery_key
    await stage.type("/help me")
    await stage.type("/yes")
    await stage.until(lambda: "nothing waits for a yes" in stage.notices)
    assert stage.app.talk.client.encryption.recovery_key == before
    await stage.type("/new-identity")
    await stage.type("/yes")
    await stage.until(lambda: "Write it down" in stage.page)
    assert (stage.app.talk.client.encryption.recovery_key or "nowhere") in stage.page
    await stage.pilot.press("escape")
    await stage.until(lambda: not stage.page)


async def test_two_people_compare_keys(stage: Stage) -> None:
    steps: list[VerificationStep] = []
    stage.bob_told.append(lambda event: steps.append(event) if isinstance(event, VerificationStep) else None)
    verifying = stage.bob.encryption.verifying
    await stage.type(f"/new {BOB}")
    await stage.shows("created this dialog")
    await stage.type("hello")
    await stage.shows("hello  ✓")
    await stage.type("/same")
    await stage.until(lambda: "nothing is compared now" in stage.notices)
    await stage.type("/verify")
    await stage.until(lambda: bool(steps) and steps[-1].phase is Phase.ASKED)
    verifying.accept(steps[-1].transaction)
    await stage.until(lambda: "the same seven" in stage.page and steps[-1].symbols is not None)
    assert steps[-1].symbols is not None
    assert all(emoji in stage.page for emoji in steps[-1].symbols.emoji)
    verifying.confirm(steps[-1].transaction)
    await stage.type("/same")
    await stage.until(lambda: "Bob is verified" in stage.notices)
    await stage.until(lambda: not stage.page)
    assert str(stage.app.query_one("#title", Static).content).endswith("encrypted, verified")
    await stage.pilot.press("escape")
    await stage.until(lambda: not stage.notices)


async def test_a_new_device_compares_keys_with_those_of_its_person_wherever_that_is_typed(stage: Stage) -> None:
    await stage.type(f"/new {BOB}")
    await stage.shows("created this dialog")
    ann = stage.people[ANN][0]
    other = Somebody(ann.principal)
    await stage.server.world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", other.device, other.principal)
    await stage.server.world.another_sign_in(other)
    async with client_of(stage.server, other, lambda _event: None, Standing.UNVERIFIED) as client:
        talk = Talk(client, Book(stage.people), "Ann")
        talk.current = stage.app.talk.current
        await stage.until(lambda: talk.open_dialog is not None)
        assert "Your other devices were asked" in str(await talk.do("/verify"))
        await stage.until(lambda: "Another device of yours wants to be confirmed" in stage.notices)


async def test_a_bot_is_written_to_by_its_id(stage: Stage) -> None:
    await stage.type(f"/new {UUID(bytes=stage.people[BOB][0].principal)}")
    await stage.shows("created this dialog")
    await stage.type("hello")
    await stage.shows("hello  ✓")


async def test_who_agrees_goes_on(stage: Stage) -> None:
    await stage.type("/agree")
    await stage.until(lambda: "open a dialog first" in stage.notices)
    await stage.type(f"/new {BOB}")
    await stage.shows("created this dialog")
    stage.app.talk.client.encryption._parts.readers.rosters.dispute(
        TimelineEvent(
            stage.app.talk.current or b"", 2, stage.people[BOB][0].principal, bytes(16), 0, 0, 0, ProfileChanged()
        )
    )
    await stage.type("hello")
    await stage.until(lambda: "sees other members or devices" in stage.notices)
    await stage.type("/agree")
    await stage.shows("hello  ✓")


async def test_a_wrong_recovery_key_is_said(stage: Stage) -> None:
    await stage.type("/recover abc")
    await stage.until(lambda: "not a whole recovery key" in stage.notices)


async def test_an_invitation_is_shown_and_accepted(stage: Stage) -> None:
    me = stage.people[ANN][0].principal
    channel = (await stage.bob.perform(Create(0, 0, DialogType.CHANNEL, [], "News"))).dialog
    await stage.bob.perform(Invite(0, channel, 0, me))
    await stage.until(lambda: any("1 invitation" in line for line in stage.listed))
    await stage.pilot.press("ctrl+n")
    await stage.type("/accept 1")
    await stage.until(lambda: "Notes to self" in stage.notices)
    await stage.shows("Bob invites you into the channel News")
    await stage.type("/accept 2")
    await stage.until(lambda: stage.app.talk.current == channel)
    await stage.until(lambda: not any("invitation" in line for line in stage.listed))
    await stage.shows("Ann joined")


async def test_a_first_conversation(stage: Stage) -> None:
    await stage.type(f"/new {BOB}")
    await stage.shows("Ann created this dialog")
    await stage.type("hello Bob")
    await stage.shows("hello Bob")
    dialog = stage.app.talk.current
    assert dialog is not None
    await stage.until(lambda: dialog in stage.bob.view.dialogs and stage.bob.view.dialogs[dialog].messages == 1)
    stage.bob.send_receipt(dialog, delivered=2)
    await stage.shows("✓✓")
    stage.bob.send_receipt(dialog, read=2)
    await stage.shows("✓✓ read")
    stage.bob.send_typing(dialog)
    await stage.until(lambda: "writing…" in str(stage.app.query_one("#state", Static).content))
    await stage.bob.send(dialog, b"hello Ann")
    await stage.shows("Bob  hello Ann")
    await stage.until(lambda: stage.bob.view.dialogs[dialog].receipts[stage.app.talk.client.me].read == 3)
    assert any("Bob" in line for line in stage.listed)


async def test_who_is_written_to_first_sees_it_at_once(stage: Stage) -> None:
    me = stage.app.talk.client.me
    dialog = (await stage.bob.perform(Create(0, 0, DialogType.DIRECT, [me]))).dialog
    await stage.bob.send(dialog, b"anybody there?")
    await stage.shows("anybody there?")


async def test_what_is_said_elsewhere_counts_as_unread(stage: Stage) -> None:
    await stage.type(f"/new {CEM}")
    await stage.shows("created this dialog")
    me = stage.app.talk.client.me
    dialog = (await stage.bob.perform(Create(0, 0, DialogType.DIRECT, [me]))).dialog
    await stage.bob.send(dialog, b"one")
    await stage.bob.send(dialog, b"two")
    await stage.until(lambda: any("Bob  2" in line for line in stage.listed))
    while stage.app.talk.current != dialog:
        await stage.pilot.press("ctrl+n")
    await stage.shows("one", "two")
    await stage.until(lambda: not any("  2" in line for line in stage.listed))


async def test_messages_are_edited_deleted_and_reacted_to(stage: Stage) -> None:
    await stage.type(f"/group The team {BOB} {CEM}")
    await stage.shows("created this dialog")
    await stage.type("first")
    await stage.type("second")
    await stage.shows("first", "second")
    await stage.type("/edit 2 better")
    await stage.shows("better (edited)")
    await stage.type("/react 2 +1")
    await stage.shows("+1")
    await stage.type("/delete 3")
    await stage.shows("deleted")
    assert "second" not in stage.transcript


async def test_a_group_is_changed(stage: Stage) -> None:
    await stage.type(f"/group Team {BOB} {CEM}")
    await stage.shows("created this dialog")
    await stage.type(f"/remove {CEM}")
    await stage.shows("Ann removed Cem")
    await stage.type(f"/add {CEM}")
    await stage.shows("Ann added Cem")
    await stage.type("/mute 60")
    await stage.until(lambda: any("muted" in line for line in stage.listed))
    await stage.type("/leave")
    await stage.shows("Ann left")


async def test_who_is_removed_from_a_group_that_is_not_open_is_told(stage: Stage) -> None:
    me, cem = stage.app.talk.client.me, stage.people[CEM][0]
    group = (await stage.bob.perform(Create(0, 0, DialogType.GROUP, [me, cem.principal], "Team"))).dialog
    await stage.until(lambda: any("Team" in line for line in stage.listed))
    stage.app.talk.current = None
    await stage.bob.perform(Remove(0, group, 0, me))
    await stage.until(lambda: "removed you from Team." in stage.notices)


async def test_somebody_is_blocked(stage: Stage) -> None:
    await stage.type(f"/new {BOB}")
    await stage.shows("created this dialog")
    await stage.type("/block")
    await stage.until(lambda: stage.bob.me in stage.app.talk.client.view.blocked)
    dialog = stage.app.talk.current
    assert dialog is not None
    with pytest.raises(RefusedError, match="blocked"):
        await stage.bob.send(dialog, b"hello?")
    await stage.type("/unblock")
    await stage.until(lambda: not stage.app.talk.client.view.blocked)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("hello", "open a dialog first"),
        ("/fly", "there is no /fly"),
        ("/leave", "open a dialog first"),
        ("/new +6512345678", "no such person"),
    ],
)
async def test_what_does_not_work_is_said(stage: Stage, typed: str, said: str) -> None:
    await stage.type(typed)
    await stage.until(lambda: said in stage.notices)


async def test_a_page_stays_until_the_next_line(stage: Stage) -> None:
    await stage.type("/help")
    await stage.until(lambda: "/react SEQ [TEXT]" in stage.page)
    await stage.type(f"/new {BOB}")
    await stage.shows("created this dialog")
    assert not stage.page


async def test_a_refusal_is_said_once(stage: Stage) -> None:
    await stage.type(f"/new {BOB}")
    await stage.shows("created this dialog")
    await stage.type("/edit 99 x")
    await stage.until(lambda: "no such message" in stage.notices)
    await stage.type("behind it")
    await stage.shows("behind it  ✓")
    assert stage.notices.count("no such message") == 1


async def test_a_fast_typist_is_understood(stage: Stage) -> None:
    await stage.type(f"/new {BOB}")
    await stage.shows("created this dialog")
    for line in ("first line", "/mute 60", "second line"):
        for letter in line:
            stage.app.post_message(Key("space" if letter == " " else letter, letter))
        stage.app.post_message(Key("enter", "\r"))
    await stage.shows("Ann  first line", "Ann  second line")
    await stage.until(lambda: any("muted" in line for line in stage.listed))
    assert not stage.notices


async def test_pasted_lines_become_one() -> None:
    class Alone(App[None]):
        def compose(self) -> ComposeResult:
            yield Composer()

    app = Alone()
    async with app.run_test() as pilot:
        composer = app.query_one(Composer)
        composer.focus()
        composer.post_message(Paste("/scan AAAA\r\n  BBBB\nCCCC\n"))
        await pilot.pause()
        assert composer.value == "/scan AAAA BBBB CCCC"


async def test_older_messages_are_loaded_at_the_top(stage: Stage) -> None:
    ann = stage.people[ANN][0]
    dialog = await stage.server.world.create(DialogType.DIRECT, stage.people[BOB][0], ann)
    for number in range(400):
        await stage.server.world.say(dialog, stage.people[BOB][0], f"message {number}!")
    stage.server.session_of(ann).connection.abort()
    await stage.shows("message 399!")
    assert "message 0!" not in stage.transcript
    while "message 0!" not in stage.transcript:
        await stage.pilot.press("pageup")


async def test_it_ends_when_only_a_new_sign_in_helps(stage: Stage) -> None:
    for session in stage.server.node.registry.subscribers_of(stage.people[ANN][0].principal):
        session.close(CloseCode.SIGNED_OUT)
    await stage.until(lambda: isinstance(stage.app.return_value, SignInRequiredError))


async def test_it_quits(stage: Stage) -> None:
    await stage.type("/quit")
    await stage.until(lambda: not stage.app.is_running)
    assert stage.app.return_value is None


async def test_what_others_write_does_not_command_the_terminal(stage: Stage) -> None:
    me = stage.app.talk.client.me
    dialog = (await stage.bob.perform(Create(0, 0, DialogType.DIRECT, [me]))).dialog
    stage.bob.submit(Send(0, dialog, 0, b"\x1b]0;pwned\x07 [bold]markup[/bold]"))
    await stage.shows("\ufffd]0;pwned\ufffd [bold]markup[/bold]")
