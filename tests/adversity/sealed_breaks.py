"""Faults, one for each count of a run of sealed conversations: with the fault, the count must not be 0.

They are faults of the clients, and for two of them of the server too, which else refuses what such a client uploads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import asyncpg

from protocol.events import KeySlice
from tchat.crypto import envelope, megolm
from tchat.crypto.machine import KeysReceived
from tchat.crypto.megolm import GroupMessage, Shared
from tchat.crypto.olm import KnownDevice, has_channel
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.state import Step, Table
from tchat.encryption.key_inbox import KeyInbox
from tests.adversity import sealed_devices

BROKEN_ANSWER_S_MAX = 2.0
_CHECKS = {"missing = '{}' AND extra = '{}'": "missing = '{}'", "NOT p_to <@ v_readers": "false"}


@contextlib.contextmanager
def _keys_are_late() -> Iterator[None]:
    """A device takes slices only when the next ones come."""
    received, held = KeyInbox.received, dict[KeyInbox, list[KeySlice]]()

    def late(self: KeyInbox, slices: Sequence[KeySlice]) -> list[KeysReceived]:
        before, held[self] = held.get(self, []), list(slices)
        return received(self, before)

    with patch.object(KeyInbox, "received", late):
        yield


@contextlib.contextmanager
def _keys_are_lost() -> Iterator[None]:
    """A device drops all slices."""
    with patch.object(KeyInbox, "received", lambda *_: []):
        yield


@contextlib.contextmanager
def _indices_go_back() -> Iterator[None]:
    """The step of the ratchet is not stored."""
    encrypt = megolm.encrypt_to_dialog

    def forgetful(step: Step, dialog: bytes, *arguments: Any, **options: Any) -> GroupMessage:
        before = step.read(Table.OUTBOUND, dialog)
        made = encrypt(step, dialog, *arguments, **options)
        step.write(Table.OUTBOUND, dialog, before)
        return made

    with patch.object(envelope, "encrypt_to_dialog", forgetful):
        yield


@contextlib.contextmanager
def _keys_go_to(*, strangers: bool) -> Iterator[None]:
    """Sessions go to those, too, who could read before; to `strangers`: to everybody whom the device ever wrote to."""
    share, known = megolm.share, dict[tuple[bytes, bytes], dict[bytes, KnownDevice]]()

    def generous(step: Step, own: OwnKeys, dialog: bytes, recipients: Sequence[KnownDevice], **options: Any) -> Shared:
        others = known.setdefault((own.device, b"" if strangers else dialog), {})
        now = {one.row for one in recipients}
        more = [one for row, one in others.items() if row not in now and has_channel(step, one)]
        others.update((one.row, one) for one in recipients)
        return share(step, own, dialog, [*recipients, *more], **options)

    with patch.object(megolm, "share", generous):
        yield


BREAKS = {
    "undecrypted_at_receipt": _keys_are_late,
    "undecrypted_ever": _keys_are_lost,
    "read_by_others": lambda: _keys_go_to(strangers=True),
    "read_after_removal": lambda: _keys_go_to(strangers=False),
    "indices_reused": _indices_go_back,
}
"""What breaks, by the count that notices it."""


@contextlib.contextmanager
def broken(count: str) -> Iterator[None]:
    """Clients with the fault; what never comes is waited for not so long. No count, no fault."""
    with contextlib.ExitStack() as stack:
        if count:
            stack.enter_context(BREAKS[count]())
            stack.enter_context(patch.object(sealed_devices, "ANSWER_S_MAX", BROKEN_ANSWER_S_MAX))
        yield


async def break_server(pool: asyncpg.Pool, count: str) -> None:
    """The server takes slices for anybody, if clients with this fault make them."""
    if count in ("read_by_others", "read_after_removal"):
        text = await pool.fetchval("SELECT pg_get_functiondef('stage_slices'::regproc)")
        for check, no_check in _CHECKS.items():
            assert text.count(check) == 1, check
            text = text.replace(check, no_check)
        await pool.execute(text)
