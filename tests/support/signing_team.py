"""A sealed group in a store, whose members sign what they change, and a client that has folded all of it."""

from __future__ import annotations

from collections.abc import Callable

from protocol import bodies as b
from protocol.bodies import decode_body
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import NIL, created_dialog_id
from protocol.roster import ChangePlace, addition_input, creation_input, invitation_input, promotion_input
from storage.device_keys import DeviceKeyStore
from storage.rows import ChangeEntry, ChangeResult, VerdictCode
from tchat.crypto.pins import PinnedLog
from tchat.crypto.sealed_roster import SealedRoster
from tchat.crypto.signed_changes import fold_roster
from tests.support.device_logs import LoggedPerson
from tests.support.world import Person, World

OK = VerdictCode.OK


class SigningTeam:
    """`people` have one device each, which is in their log; the first three are the group, the first its admin."""

    def __init__(self, world: World, people: list[LoggedPerson]) -> None:
        self.world = world
        self.people = people
        self.ann = people[0]
        self.by_id = {each.person.principal: each for each in people}
        self.n = self.ann.person.n()
        self.dialog = created_dialog_id(self.ann.person.device, self.n)
        self.roster = SealedRoster(self.dialog)

    @classmethod
    async def found(cls, world: World, store: DeviceKeyStore, size: int) -> SigningTeam:
        """So many people, of whom the first three are in a group."""
        people = [LoggedPerson(store, await world.person()) for _ in range(size)]
        for each in people:
            await each.start()
            await each.add(each.person)
        team = cls(world, people)
        first = [b.MemberRole(each.person.principal, Role(each is team.ann)) for each in people[:3]]
        at = ChangePlace(team.dialog, team.ann.person.principal, team.ann.person.device, team.n)
        message = creation_input(at, DialogType.GROUP, Mode.SEALED, first)
        body = b.DialogCreated(
            DialogType.GROUP, Mode.SEALED, "team", "", "", b.Settings(), first, team.ann.signing.sign(message).signature
        )
        assert (await team.change(team.ann.person, body, team.n)).verdict.code is OK
        return team

    def pin(self, principal: bytes) -> PinnedLog | None:
        """What the client believes of somebody."""
        return self.by_id[principal].pin

    @property
    def members(self) -> list[LoggedPerson]:
        """Who is in the group."""
        return [each for each in self.people if each.person.principal in self.roster.members]

    @property
    def admins(self) -> list[LoggedPerson]:
        """Who may add, invite and promote."""
        return [self.by_id[principal] for principal in self.roster.admins()]

    async def add(self, by: LoggedPerson, *who: LoggedPerson) -> ChangeResult:
        """Add members."""
        members, n = [each.person.principal for each in who], by.person.n()
        signed = self.sign(by, n, addition_input, members)
        return await self.change(by.person, b.MembersAdded(members, signed), n)

    async def promote(self, by: LoggedPerson, who: LoggedPerson) -> ChangeResult:
        """Make a member an admin."""
        n = by.person.n()
        signed = self.sign(by, n, promotion_input, who.person.principal)
        return await self.change(by.person, b.Promoted(who.person.principal, signed), n)

    async def invite(self, by: LoggedPerson, who: LoggedPerson) -> b.Invitation:
        """Invite somebody."""
        n = by.person.n()
        signed = self.sign(by, n, invitation_input, who.person.principal)
        await self.world.pool.execute(
            "INSERT INTO invitations (principal_id, dialog_id, invited_by, seq) VALUES ($1, $2, $3, 1)",
            who.person.principal,
            self.dialog,
            by.person.principal,
        )
        return b.Invitation(by.person.principal, by.person.device, n, signed)

    async def accept(self, who: LoggedPerson, invitation: b.Invitation) -> ChangeResult:
        """Join by an invitation."""
        return await self.change(who.person, b.MembersAdded([who.person.principal], invitation=invitation))

    async def announce(self, who: LoggedPerson) -> ChangeResult:
        """Say that the log of a member has grown."""
        body = b.DevicesChanged(who.person.principal, who.head)
        return await self.change(who.person, body, 0)

    def sign(self, by: LoggedPerson, n: int, make: Callable[..., bytes], subject: object) -> b.Signed:
        """What the device of `by` signs in the group as it is now."""
        at = ChangePlace(self.dialog, by.person.principal, by.person.device, n)
        keys_seq, view = self.roster.keys_seq, self.roster.views[self.roster.keys_seq]
        return b.Signed(keys_seq, view, by.signing.sign(make(at, keys_seq, view, subject)).signature)

    async def change(self, by: Person, body: b.Body, n: int | None = None) -> ChangeResult:
        """Make a change; the client folds what comes of it, and believes it."""
        number = by.n() if n is None else n
        device = by.device if number else NIL
        result = await self.world.change(ChangeEntry(self.dialog, by.principal, device, number, body))
        for event in result.events:
            told = b.TimelineEvent(
                event.dialog, event.seq, event.author, event.device, event.n, 0, 0, decode_body(event.body)
            )
            folded = fold_roster(self.roster, told, self.pin)
            assert folded.refusals == (), folded.refusals
            self.roster = folded.roster
        return result
