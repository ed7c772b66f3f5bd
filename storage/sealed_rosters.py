"""The contract of the rosters of sealed dialogs: whose device log is to be announced where, and what a roster was.

Guarantees of every engine:

* A log that grows is announced in every sealed dialog of its person that does not know so much of it, whoever becomes a
  member at that moment: either the event that brings them has the log as it is now, or an announcement follows.
* When the keys of a device that the log lists come back, the log is announced once more where `keys_seq` has not moved
  since.
* Announcements take turns by person. Of a log that grows while it is announced the newest length is announced, from the
  first dialog on. Everything may be repeated, also by two callers at once.
* The work of a call is bounded by its arguments, or by the limits of the protocol.
* Every method raises `StorageUnavailableError` when it cannot answer now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from protocol.bodies import LogHead, TimelineEvent
from protocol.roster import RosterMember


class Announcement(msgspec.Struct, frozen=True):
    """Some dialogs in which the log of `principal` is to be announced; `last`: there are no others after them.

    They are in the order of their ids, as are those that were looked at: from `after` on, up to `reached`.
    """

    principal: bytes
    log: LogHead
    dialogs: tuple[bytes, ...]
    after: bytes
    reached: bytes
    last: bool
    turn: int


class RosterThen(msgspec.Struct, frozen=True):
    """The members after the event `keys_seq`, or after the first one, and the events that changed them since."""

    keys_seq: int = 0
    members: Mapping[bytes, RosterMember] = {}
    events: tuple[TimelineEvent, ...] = ()


class SealedRosters(Protocol):
    """The rosters of sealed dialogs."""

    async def next_announcement(self, *, limit: int) -> Announcement | None:
        """What is to be announced next, of at most `limit` dialogs of one person; None: nothing."""

    async def note_announced(self, announcement: Announcement, reached: bytes | None) -> None:
        """Go on after the dialog `reached` at the person's next turn; None: this was all.

        Nothing happens if their log has grown meanwhile.
        """

    async def read_since(self, principal: bytes, dialog: bytes, since: int) -> tuple[list[TimelineEvent], bool] | None:
        """The events of the roster from this number on that a member may see, ROSTER_EVENTS_MAX at most, in order.

        And whether there are more. None: they are no member.
        """

    async def read_for_newcomer(self, principal: bytes, dialog: bytes) -> RosterThen | None:
        """The roster that somebody has signed to bring this member, and its events up to the one that did.

        Nothing in it: they were there from the beginning, nothing is signed, or more than ROSTER_EVENTS_MAX events came
        in between, or very many since. None: they are no member.
        """
