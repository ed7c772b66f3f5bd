"""What a person types about keys, devices and reports, on a real node: two devices of Ann's, and Bob."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from uuid import UUID

import anyio
import msgspec
import pytest
from nacl.public import PrivateKey, SealedBox

from protocol.canonical import to_base64
from protocol.commands import Edit
from server.config.settings import ReportSettings
from storage.postgres.reports import PostgresReports
from storage.reports import Evidence
from tchat.actions import ConnectionState, Notification, StoppedError
from tchat.encryption.notices import Standing, VerifiedElsewhere
from tchat.memory_store import MemoryStore
from tchat.shell import Client
from tchat.terminal.account import SignInAnswer
from tchat.terminal.pages import Page, name_of_device
from tchat.terminal.slash import SlashError
from tchat.terminal.talk import Talk
from tests.support.harness import Running, configured, running
from tests.support.world import Person
from tests.tchat.encryption.test_clients import another_device, direct, people, said
from tests.tchat.terminal.test_screen import Book

pytestmark = pytest.mark.anyio

MODERATORS = PrivateKey.generate()


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[Running]:
    """A node that takes reports."""
    reports = ReportSettings(moderators_key=to_base64(bytes(MODERATORS.public_key)))
    async with running(database_url, configured(reports=reports)) as node:
        yield node


class Account(Book):
    """One person's sign-ins, as they are in the database."""

    def __init__(self, server: Running, person: Person) -> None:
        super().__init__({})
        self._pool, self._person = server.world.pool, person

    async def sign_ins(self) -> list[SignInAnswer]:
        query = "SELECT sign_in_id, device_id FROM sign_ins WHERE principal_id = $1 AND revoked_at_ms IS NULL"
        rows = await self._pool.fetch(query, self._person.principal)
        return [SignInAnswer(UUID(bytes=row[0]), UUID(bytes=row[1]), "terminal", "", 60_000) for row in rows]

    async def end_sign_in(self, sign_in: UUID) -> None:
        await self._pool.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1", sign_in.bytes)


@dataclass
class Seat:
    """A person at a terminal without a screen, and what it has shown."""

    client: Client
    talk: Talk
    shown: list[str] = field(default_factory=list)

    async def type(self, line: str) -> str:
        """What is shown for a line."""
        return plain(await self.talk.do(line))

    def says_verified(self, dialog: bytes) -> bool:
        """Whether the title does."""
        return self.talk.about(self.client.view.dialogs[dialog]).endswith(", verified")

    async def listed(self) -> list[str]:
        """The lines of the own devices."""
        return (await self.type("/devices")).split("\n\n")[0].split("\n")[2:]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when it holds."""
        await self.client.wait_until(condition)

    async def sees(self, text: str) -> str:
        """The newest that is shown, once it has this text."""
        await self.until(lambda: bool(self.shown) and text in self.shown[-1])
        return self.shown[-1]


def plain(shown: str | Page | None) -> str:
    if isinstance(shown, Page):
        return "\n".join((shown.title, *("".join(text for text, _ in line) for line in shown.lines)))
    return shown or ""


@contextlib.asynccontextmanager
async def seated(server: Running, person: Person, standing: Standing = Standing.LISTED) -> AsyncIterator[Seat]:
    seat: Seat | None = None

    async def token(_fresh: bool) -> str:
        return server.token(person)

    def take(event: Notification) -> None:
        if seat is not None and (shown := seat.talk.take(event)) is not None:
            seat.shown.append(plain(shown))

    with anyio.fail_after(30):
        async with Client(server.url, token, store=MemoryStore(), on_event=take) as client:
            seat = Seat(client, Talk(client, Account(server, person), "Ann"))
            await client.wait_until(lambda: client.state is ConnectionState.LIVE)
            await client.wait_until(lambda: client.encryption.standing is standing)
            yield seat


def is_verified(seat: Seat, person: Person) -> bool:
    pin = seat.client.encryption.people.pin_of(person.principal)
    return pin is not None and pin.verified


async def test_two_people_see_one_safety_number_and_each_says_whether_it_is_the_same(server: Running) -> None:
    ann, bob = await people(server, 2)
    async with seated(server, ann) as a, seated(server, bob) as b:
        dialog = await direct(a.client, bob)
        a.talk.current = b.talk.current = dialog
        await a.client.send(dialog, b"hello")
        await b.until(lambda: said(b.client, dialog) == [b"hello"])
        numbers = [page.split("\n")[3:6] for page in (await a.type("/safety"), await b.type("/safety"))]
        assert numbers[0] == numbers[1]
        assert [len(row.split()) for row in numbers[0]] == [4, 4, 4]
        assert "is verified" in await a.type("/same")
        assert "may sit between you" in await b.type("/differ")
        assert (is_verified(a, bob), is_verified(b, ann)) == (True, False)
        assert "You have verified" in await a.type("/safety")
        assert [seat.talk.about(seat.client.view.dialogs[dialog])[-10:] for seat in (a, b)] == [
            ", verified",
            " encrypted",
        ]
        with pytest.raises(SlashError, match="nothing is compared now"):
            await b.type("/same")
        name = b.talk.name_of(ann.principal)
        assert b.talk.take(VerifiedElsewhere(ann.principal)) == f"{name}: {VerifiedElsewhere(bytes(16)).sentence}"


async def confirm_by_code(fresh: Seat, own: Seat) -> None:
    """The fresh device shows a code, and the text of it is typed into the other one."""
    assert "Your other devices were asked" in await fresh.type("/qr")
    await own.sees("wants to be confirmed")
    with pytest.raises(SlashError, match="no comparison waits for a code"):
        await own.type("/scan " + to_base64(b"MATRIX\x02\x02\x00\x00" + bytes(80)))
    await own.type("/verify")
    page = await fresh.sees("Scan this code")
    pasted = " ".join(row for row in page.split("\n") if row and " " not in row)
    with pytest.raises(SlashError, match="not the whole text of a code"):
        await own.type(f"/scan {pasted[:40]}")
    await own.type(f"/scan {pasted}")
    await own.sees("the code is right")
    await fresh.sees("has read the code")
    await fresh.type("/same")
    await fresh.sees("is verified")
    await fresh.until(lambda: fresh.client.encryption.standing is Standing.LISTED)


async def test_a_device_is_confirmed_by_its_code_listed_and_removed(server: Running) -> None:
    (ann,) = await people(server, 1)
    laptop, stolen = await another_device(server, ann), await another_device(server, ann)
    async with seated(server, ann) as a:
        async with seated(server, laptop, Standing.UNVERIFIED) as fresh:
            await confirm_by_code(fresh, a)
            name = name_of_device(laptop.device)
            while len(await a.listed()) < 3 or "NOT CONFIRMED" in (await a.listed())[1]:
                pass  # its log has not come yet
            listed = await a.listed()
            assert [name_of_device(ann.device) in listed[0], "this one" in listed[0]] == [True, True]
            assert [name in listed[1], "since 20" in listed[1]] == [True, True]
            assert "NOT CONFIRMED" in listed[2]
            assert "gives it no keys" in await a.type(f"/remove-device {name}")
            await a.type("/help")
            with pytest.raises(SlashError, match="nothing waits for a yes"):
                await a.type("/yes")
            await a.type(f"/remove-device {name}")
            await a.type("/yes")
            await a.sees("removed and signed out")
            with pytest.raises(StoppedError):
                await fresh.until(lambda: False)
        assert name not in await a.type("/devices")
        await a.type(f"/remove-device {name_of_device(stolen.device)}")
        await a.type("/yes")
        assert name_of_device(stolen.device) not in await a.type("/devices")
        for wrong, why in ((name, "no device of yours"), (name_of_device(ann.device), "that is this device")):
            with pytest.raises(SlashError, match=why):
                await a.type(f"/remove-device {wrong}")


async def test_a_message_is_reported_as_it_is_shown(server: Running) -> None:
    ann, bob = await people(server, 2)
    async with seated(server, ann) as a, seated(server, bob) as b:
        dialog = await direct(a.client, bob)
        a.talk.current = b.talk.current = dialog
        sent = await a.client.send(dialog, b"nothing bad")
        await a.client.perform(Edit(0, dialog, 0, sent.seq, b"a threat"))
        await b.until(lambda: said(b.client, dialog) == [b"a threat"])
        assert "“a threat”" in await b.type(f"/report {sent.seq} help me")
        assert "is reported" in await b.type("/yes")
        (report,) = await PostgresReports(server.world.pool).list(after=0, limit=9)
        evidence = msgspec.json.decode(SealedBox(MODERATORS).decrypt(report.sealed), type=Evidence)
        assert (evidence.content, evidence.reason) == (b"a threat", "help me")
        for seat, seq, why in ((b, 99, "no text of a message 99"), (a, sent.seq, "your own message")):
            with pytest.raises(SlashError, match=why):
                await seat.type(f"/report {seq}")
