"""What devices received and were told, held to the journal: in the end, and when a part of its history is lost.

After a restore, or the promotion of a standby that was behind, what was acked in the lost part is gone, unless a call
that a node repeats stores it again: once, with a place and an ack of its own. What a device received until then was
true then. From then on it may believe nothing of it: the server must say `recovered: false`, in the new epoch, and what
the device has after that is held to the journal of the new history.
"""

from __future__ import annotations

from tests.adversity.restart_timeline import Row, Timeline
from tests.adversity.restart_verify import check_received, check_sender, check_timeline
from tests.simulation.archive import find_wrong
from tests.simulation.database import Backup
from tests.simulation.device import Device
from tests.simulation.stage import Stage
from tests.simulation.tables import decode_body


def read_timeline(stage: Stage) -> Timeline:
    """The truth: the journal, and who may see what of it."""
    timeline = Timeline()
    for dialog in stage.database.dialogs.values():
        for row in dialog.rows:
            place = (dialog.dialog, row.seq, row.author, row.device, row.n)
            timeline.append(Row(*place, row.at_ms, row.messages, decode_body(row.body)))
    timeline.erase_what_hangs()
    return timeline


def verify(stage: Stage, timeline: Timeline) -> None:
    """Hold the logs of all devices to the journal."""
    violations = stage.violations
    check_timeline(timeline, violations)
    for row in timeline.rows.values():
        if row.n and not timeline.may_see(row.author, row.dialog, row.seq):
            violations.add("leaked", f"{row} was written by somebody who is no member")
    for device in stage.devices:
        device.forget_lost()
        device.forget_overtaken()
        check_sender(device, timeline, violations)
        for witness in device.witnesses:
            check_received(device.principal, witness.take_received(), timeline, violations)
        passed = [old for old in device.ledger.renumbered.values() if not device.has_answer(old)]
        if passed:
            violations.add("misordered", f"numbers of {device.name} were passed by later ones: {passed}")
        if device.witness.old_epoch:
            violations.add("lost", f"{device.name} was never told that a part of the history is lost")
        if device.stopped:
            violations.add("unsettled", f"{device.name} stopped: {device.stopped}")
        else:
            _check_said(stage, device)
            if stage.redis is None or not stage.redis.absent:  # without hints the next sync brings them
                _check_receipts(stage, device)
    check_whole(stage, timeline)
    _check_archive(stage)
    for fault in stage.loop.faults:
        violations.add("unhandled", fault)


def check_whole(stage: Stage, timeline: Timeline) -> None:
    """Every device, and the app behind it, has all that it may see, whether or not it connected anew."""
    for device in stage.devices:
        if not device.stopped:
            _check_whole(stage, device.name, device.principal, device.witness.came, timeline)
            _check_whole(stage, f"the app of {device.name}", device.principal, device.witness.reached, timeline)


def _check_archive(stage: Stage) -> None:
    """What is moved is in the archive as it is in the journal."""
    for wrong in find_wrong(stage.database, stage.archive) if stage.archive is not None else ():
        stage.violations.add("lost", wrong)


def _check_whole(stage: Stage, name: str, who: bytes, came: dict[bytes, int], timeline: Timeline) -> None:
    for dialog, head in timeline.heads.items():
        intervals = timeline.visible.get((dialog, who))
        if not intervals:
            continue
        last = min(head, intervals[-1][1])
        if came.get(dialog, 0) < last and (dialog in came or timeline.is_member(dialog, who)):
            known = came.get(dialog)
            stage.violations.add("undelivered", f"{name} has {known} and not {last} of {dialog.hex()}")


def _check_said(stage: Stage, device: Device) -> None:
    """What a device has said of its person since it last read all anew is stored."""
    for key, said in device.witness.said.items():
        member = stage.database.dialogs[key].members[device.principal]
        if member.member and member.read < said:
            what = f"{device.name} has said that it has read {said} of {key!r}, and {member.read} is stored"
            stage.violations.add("lost", what)


def _check_receipts(stage: Stage, device: Device) -> None:
    """A member knows how far they have read, and where the type of dialog shows it how far all members have."""
    for key, dialog in stage.database.dialogs.items():
        if dialog.role_of(device.principal) is None:
            continue
        for who, member in dialog.members.items():
            shown = member.member and (dialog.rule.receipts or who == device.principal)
            known = device.witness.read.get((key, who), 0)
            if shown and known != member.read:
                what = f"{device.name} knows that {who!r} has read {known} and not {member.read} of {key!r}"
                stage.violations.add("undelivered", what)


def lose_history(stage: Stage, backup: Backup) -> None:
    """Judge what devices have until now, then let the database go on from a backup."""
    before = read_timeline(stage)
    for device in stage.devices:
        device.forget_overtaken()
        check_sender(device, before, stage.violations)
        for witness in device.witnesses:
            check_received(device.principal, witness.take_received(), before, stage.violations)
    stage.database.restore(backup)
    after = read_timeline(stage)
    lost = {place: row for place, row in before.rows.items() if not _is_same(row, after.rows.get(place))}
    for device in stage.devices:
        device.lose(lost, stage.database.epoch)


def _is_same(row: Row, other: Row | None) -> bool:
    return other is not None and (row.device, row.n) == (other.device, other.n)
