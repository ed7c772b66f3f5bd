"""Sealed dialogs for a load: their people have devices with keys, and every writer hands a session to all who read.

The keys, the device logs and their signatures are real. Sessions, slices and payloads are random bytes of the size of
real ones, which the server cannot tell apart: it stores and delivers them, and judges each message by the session that
its header names. To encrypt is work of the clients, and would hide the server's.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

from loadtest.checking_client import ASK_ID, CheckingClient
from loadtest.crowd import Crowd, each
from loadtest.lean_client import LoadError
from protocol.bodies import Header
from protocol.commands import Send
from protocol.ids import new_id
from protocol.key_commands import AppendDeviceLog, NamedKey, UploadKeys
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import SlicesUploaded
from protocol.share_commands import Slice, UploadSlices
from tchat.crypto.own_identity import new_identity
from tchat.crypto.own_keys import ONE_TIME_KEYS, OwnKeys
from tchat.crypto.state import MemoryState, Step

_SLICE_BYTES = 2_161
"""The keys of a session for a device of which nothing was heard yet."""
_SESSION_BYTES = _COMMITMENT_BYTES = 32
_FIRST_SHARE = 0
"""The `keys_seq` of a dialog whose members and devices are those of its creation."""


async def list_devices(people: Iterable[CheckingClient]) -> None:
    """Give every device keys, and its person a log that lists it; before the dialogs are made, which note the logs."""
    await each(people, _list_device)


async def share_sessions(crowd: Crowd, payload: bytes) -> None:
    """Have every member of every dialog hand out a session, with a first message of this payload."""
    gatherings = defaultdict(list)
    for gathering in crowd.gatherings:
        for member in gathering.members:
            gatherings[member].append(gathering)

    async def share(client: CheckingClient) -> None:
        for gathering in gatherings[client]:  # one after the other: a client waits for one answer at a time
            devices = [other.device for other in gathering.members if other is not client]
            client.headers[gathering.dialog] = await _share(client, gathering.dialog, devices, payload)

    await each(gatherings, share)


async def _list_device(client: CheckingClient) -> None:
    own = OwnKeys.create(Step(MemoryState()), client.principal, client.device, 1)
    made = own.prepare_upload(ONE_TIME_KEYS, 0, fallback_used=True)
    await client.ask(
        UploadKeys(
            ASK_ID, made.generation, made.device_keys, [], *(NamedKey(*key) for key in made.fallback_keys.items())
        )
    )
    identity, log, started = new_identity(client.principal, None, 1)
    _, added = identity.add_device(log, client.device, own.public, 1)
    await client.ask(AppendDeviceLog(ASK_ID, [started, added]))


async def _share(client: CheckingClient, dialog: bytes, devices: list[bytes], payload: bytes) -> Header:
    """Upload a slice for each device, and send the message that brings them; returns the header of later ones."""
    share, session = new_id(), os.urandom(_SESSION_BYTES)
    slices = [Slice(device, os.urandom(_SLICE_BYTES)) for device in devices]
    uploaded = None
    for at in range(0, len(slices), SLICES_PER_COMMAND_MAX):
        part, more = slices[at : at + SLICES_PER_COMMAND_MAX], at + SLICES_PER_COMMAND_MAX < len(slices)
        uploaded = await client.ask(UploadSlices(ASK_ID, share, dialog, session, _FIRST_SHARE, part, more))
    if not (isinstance(uploaded, SlicesUploaded) and uploaded.complete):
        raise LoadError(f"The server lacks keys of a sealed dialog: {uploaded}.")
    commitment = os.urandom(_COMMITMENT_BYTES)
    first = Header(keys_seq=_FIRST_SHARE, commitment=commitment, session=session, share=share)
    await client.ask(Send(ASK_ID, dialog, client.next_n(), payload, first))
    return Header(keys_seq=_FIRST_SHARE, commitment=commitment, session=session)
