"""What every client holds in the end, compared with a client that begins with nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from protocol.codec import Codec
from protocol.commands import History
from protocol.limits import HISTORY_EVENTS_MAX
from protocol.replies import HistoryPage
from tchat.actions import ConnectionState, RefusedError
from tchat.fold.view import DialogView
from tchat.shell import Client
from tchat.store import MemoryOutbox
from tests.adversity.restart_devices import Device
from tests.adversity.restart_server import SignIn
from tests.adversity.restart_timeline import Timeline
from tests.adversity.restart_verify import Violations, check_received
from tests.adversity.restart_witness import Ledger, Witness, WitnessedCodec
from tests.support.sealers import PlainSealer

_TRIES = 20


async def load(client: Client, dialog: bytes) -> list[HistoryPage]:
    """All of a dialog that one may see, folded into the client's view."""
    pages = []
    to_seq = 2**53 - 1
    while True:
        page = await _read_page(client, History(0, dialog, 1, to_seq, HISTORY_EVENTS_MAX))
        pages.append(page)
        if not page.more:
            return pages
        to_seq = page.events[0].seq - 1


async def _read_page(client: Client, ask: History) -> HistoryPage:
    """A page, asked for again while one of the stores is not there yet."""
    tries = 0
    while True:
        try:
            page = await client.request(ask)
        except RefusedError as error:
            tries += 1
            if tries == _TRIES or not error.temporary:
                raise
            await asyncio.sleep(1.0)
        else:
            assert isinstance(page, HistoryPage)
            return page


async def check_views(
    url: str, auditor: SignIn, codec: Codec, devices: list[Device], *, timeline: Timeline, violations: Violations
) -> None:
    """Compare what the devices of one person hold with what a fresh client of that person gets."""
    witness = Witness(auditor.principal, Ledger(), lambda _settled: None)

    async def token(_fresh: bool) -> str:
        return auditor.token

    heard = WitnessedCodec(codec, witness.heard)
    plain = PlainSealer(MemoryOutbox())
    async with Client(url, token, encryption=plain, codec=heard, on_event=witness.noticed) as fresh:
        await fresh.wait_until(lambda: fresh.state is ConnectionState.LIVE)
        try:
            for dialog in list(fresh.view.dialogs):
                _check_whole(auditor.principal, dialog, await load(fresh, dialog), timeline, violations)
            truth = fresh.view.canonical()
            for device in devices:
                await _compare(device, fresh, truth, timeline, violations)
        except RefusedError as error:
            violations.add("lost", f"history of {auditor.name} cannot be read: {error}")
    check_received(auditor.principal, witness.take_received(), timeline, violations)


def _check_whole(
    principal: bytes, dialog: bytes, pages: list[HistoryPage], timeline: Timeline, violations: Violations
) -> None:
    """All that one may see of a dialog is in its pages."""
    read = {event.seq for page in pages for event in page.events}
    visible = {seq for seq in range(1, timeline.heads[dialog] + 1) if timeline.may_see(principal, dialog, seq)}
    if lacking := sorted(visible - read):
        violations.add("lost", f"the history of {dialog.hex()} lacks {lacking} for {principal.hex()}")


async def _compare(
    device: Device, fresh: Client, truth: dict[str, Any], timeline: Timeline, violations: Violations
) -> None:
    view = device.client.view
    _check_deletions(device, timeline, violations)
    for key, dialog in list(view.dialogs.items()):
        needed = (tuple(dialog.visible), device.witness.jumps[key])
        if device.loaded.get(key) != needed:
            await load(device.client, key)
            device.loaded[key] = needed
    held = view.canonical()
    for key, dialog in view.dialogs.items():
        if dialog.member:
            mine, right = held["dialogs"][key.hex()], truth["dialogs"].get(key.hex())
        else:
            mine, right = dialog.canonical(), await _past_dialog(fresh, key, timeline)
            for seq in _deleted_since(fresh.me, key, mine["lines"], timeline):
                del mine["lines"][seq]
        if mine != right:
            violations.add("unequal_views", f"{device.name} of {key.hex()}: {_difference(mine, right)}")
    if held["dialogs"].keys() != truth["dialogs"].keys() or held["blocked"] != truth["blocked"]:
        violations.add("unequal_views", f"{device.name}: {_difference(held, truth)}")


def _check_deletions(device: Device, timeline: Timeline, violations: Violations) -> None:
    """A member's view, as it is without reading history again, shows nothing that was deleted."""
    for key, dialog in device.client.view.dialogs.items():
        if not dialog.member:
            continue
        for seq, line in dialog.canonical()["lines"].items():
            if line != "deleted" and (key, seq) in timeline.deleted_at:
                deleted_at = timeline.deleted_at[key, seq]
                seen = timeline.visible[key, device.principal]
                what = f"{device.name} shows {seq} of {key.hex()}, which was deleted at {deleted_at}; it sees {seen}"
                violations.add("deletions_unseen", what)


def _deleted_since(me: bytes, dialog: bytes, lines: dict[int, Any], timeline: Timeline) -> list[int]:
    """Messages that were deleted after one had left: one may still hold them, and nobody gets them any more."""
    deletions = ((seq, timeline.deleted_at.get((dialog, seq))) for seq in lines)
    return [seq for seq, at in deletions if at is not None and not timeline.may_learn(me, dialog, at)]


async def _past_dialog(fresh: Client, key: bytes, timeline: Timeline) -> dict[str, Any]:
    """A former dialog of the member: a fresh client receives nothing of it, but may read its history."""
    past = DialogView(key, fresh.me, *timeline.kinds[key])
    for page in await load(fresh, key):
        past.apply_page(page)
    return past.canonical()


def _difference(mine: Any, right: Any) -> str:
    if isinstance(mine, dict) and isinstance(right, dict):
        for key in sorted(mine.keys() | right.keys(), key=str):
            if mine.get(key) != right.get(key):
                return f"{key}: {_difference(mine.get(key), right.get(key))}"
    return f"{str(mine)[:200]} is not {str(right)[:200]}"
