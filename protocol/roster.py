"""What is signed of the members of a sealed dialog, so that the server's word lets nobody in.

Each input names what is done, in which dialog, by which device under which number: a signature is worth nothing
anywhere else. Changes of an existing roster also cover the members that the author saw (`view`, at `keys_seq`): who
signs an addition vouches for those who were there.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from protocol.bodies import LogHead, MemberRole
from protocol.canonical import frame
from protocol.dialog_types import DialogType, Mode, Role

_DOMAIN = b"tchat/roster/1"
_VIEW_DOMAIN = b"tchat/view/1"
_pack_member = struct.Struct(">I16sIBIQIQIQI").pack
"""What `frame` makes of a member's principal, role, `joined`, generation and length, and of the length of the head."""


@dataclass(frozen=True, slots=True)
class ChangePlace:
    """Where a change is made: the dialog, and the device that makes it under its number `n`."""

    dialog: bytes
    author: bytes
    device: bytes
    n: int


class RosterMember(msgspec.Struct, frozen=True):
    """A member, since event `joined`, with the device log that was current at the last change of keys."""

    role: Role
    joined: int
    log: LogHead = LogHead()


def creation_input(at: ChangePlace, kind: DialogType, mode: Mode, members: Sequence[MemberRole]) -> bytes:
    """What the author of a dialog signs."""
    ordered = sorted((member.principal, _byte(member.role)) for member in members)
    subjects = (part for member in ordered for part in member)
    return _input(b"create", at, _byte(kind), _byte(mode), *subjects)


def addition_input(at: ChangePlace, keys_seq: int, view: bytes, members: Sequence[bytes]) -> bytes:
    """What an admin signs who adds members."""
    return _input(b"add", at, _number(keys_seq), view, *sorted(members))


def invitation_input(at: ChangePlace, keys_seq: int, view: bytes, member: bytes) -> bytes:
    """What an admin signs who invites somebody; `at` names the dialog into which they are invited."""
    return _input(b"invite", at, _number(keys_seq), view, member)


def promotion_input(at: ChangePlace, keys_seq: int, view: bytes, member: bytes) -> bytes:
    """What an admin signs who promotes a member."""
    return _input(b"promote", at, _number(keys_seq), view, member)


def view_of(dialog: bytes, keys_seq: int, members: Mapping[bytes, RosterMember]) -> bytes:
    """The hash of who may read at `keys_seq`, with which devices, and who decides: equal for all who see the same."""
    framed = [frame(_VIEW_DOMAIN, dialog, _number(keys_seq))]
    for principal in sorted(members):
        member = members[principal]
        log = member.log
        numbers = (8, member.joined, 8, log.generation, 8, log.length)
        framed += (_pack_member(16, principal, 1, member.role, *numbers, len(log.head)), log.head)
    return hashlib.sha256(b"".join(framed)).digest()


def heir_of(members: Mapping[bytes, RosterMember]) -> bytes | None:
    """Who follows the last admin who leaves: the longest-standing member, of those who came together the lowest id."""
    return min(members, key=lambda principal: (members[principal].joined, principal), default=None)


def _input(operation: bytes, at: ChangePlace, *parts: bytes) -> bytes:
    return frame(_DOMAIN, operation, at.dialog, at.author, at.device, _number(at.n), *parts)


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _byte(value: int) -> bytes:
    return bytes([value])
