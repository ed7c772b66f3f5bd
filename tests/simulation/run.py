"""One run: the steps of its script, then everything heals, then the promises are looked at.

Checked all along: what is delivered or acked is durable at that moment (I1, I5); between two states of a dialog no
number comes twice (I2); nobody gets anything after their removal (I7). Checked in the end, from the logs of the devices
and the journal: what was acked is there once and as it was acked, what was refused is not (I1, I2, I6); one order, and
that of each sender (I3); no device misses a number that it may see, whatever position it resumed from (I4); who is no
member has written nothing (I7); within `HEAL_S` every queue is empty and every session is live and whole (I11). Where
nodes tell each other what is new, they do so again by then, and what is said and read last reaches everybody.
"""

from __future__ import annotations

import gc
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from protocol import commands as c
from protocol.bodies import Header
from protocol.dialog_types import Role
from tests.simulation.node import SimulatedNode
from tests.simulation.script import Script
from tests.simulation.stage import Stage
from tests.simulation.verify import check_whole, read_timeline, verify

HEAL_S = 60.0
"""Virtual seconds from the end of all faults to the state that is promised."""
_LOOK_EVERY_S = 0.5
_READ_FROM_OTHERS_S = 8.0
"""Longer than what one node takes to read what another one wrote, and to forget one that has ended."""
_ALL_TOLD_S = 2.5
"""Until what is said has reached all, and what was read of it, too."""
_HORIZON_AGE_S_MAX = 3.5
"""What is held back anywhere holds the horizon longer."""


@dataclass(frozen=True)
class Outcome:
    """What came of a seed. `digest` is of all that happened: the same seed gives the same."""

    seed: int
    violations: list[str]
    digest: str
    heal_s: float
    trace: list[str]

    @property
    def failed(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.violations)


def run_seed(seed: int, *, traced: bool = False) -> Outcome:
    """Run one seed from its beginning to its end."""
    stage = Stage(seed, traced=traced)
    with _alone(stage):
        try:
            Script(stage).run()
            heal_s = heal(stage)
            timeline = read_timeline(stage)
            verify(stage, timeline)
            digest = _digest(stage)
        finally:
            stage.close()
    said = [stage.with_names(each) for each in stage.violations.said]
    return Outcome(seed, said, digest, heal_s, stage.trace or [])


def heal(stage: Stage) -> float:
    """End all faults, and wait until everything is settled; how long that took."""
    stage.note("everything heals")
    stage.healing = True
    stage.weather.calm, stage.weather.blind, stage.database.down = True, False, False
    if stage.redis is not None:
        stage.redis.mend()
    for node in stage.nodes:
        stage.loop.resume(node.process)
    for device in stage.devices:
        if device.link is not None:
            device.link.resume()
    heal_s, loop = _wait_settled(stage), stage.loop
    if stage.redis is None:
        loop.run_for(2.5)  # receipts wait, and a horizon behind the last write
    elif stage.redis.absent:
        loop.run_for(_READ_FROM_OTHERS_S)
    else:
        loop.run_for(2.5)
        check_whole(stage, read_timeline(stage))  # before a later number lets nodes see that one is missing
        _talk_once_more(stage)
    return heal_s


def _wait_settled(stage: Stage) -> float:
    """Wait until everything is settled; how long that took."""
    began, loop = stage.loop.time(), stage.loop
    while not is_settled(stage):
        if loop.time() - began > HEAL_S:
            stage.violations.add("unsettled", _describe_unsettled(stage))
            break
        if all(node.ended or not node.process.alive for node in stage.nodes):
            stage.start_node()
        loop.run_for(_LOOK_EVERY_S)
    return loop.time() - began


def _talk_once_more(stage: Stage) -> None:
    """Say and read something in each dialog: all nodes hear each other by now; what was told before may be lost."""
    for number, dialog in enumerate(stage.database.dialogs.values()):
        for device in stage.devices:
            role = dialog.role_of(device.principal)
            if device.live and (role is Role.ADMIN or (role is not None and not dialog.rule.admins_only_write)):
                device.submit(c.Send(0, dialog.dialog, 1, b"at last %d" % number, Header()))
                break
    stage.loop.run_for(_ALL_TOLD_S)
    for device in stage.devices:
        for known, seq in device.witness.reached.items():
            device.say_receipt(known, seq)
    stage.loop.run_for(_ALL_TOLD_S)
    _wait_settled(stage)  # a dialog may still be locked


def is_settled(stage: Stage) -> bool:
    """Whether nothing waits anywhere."""
    return not _describe_unsettled(stage)


def _describe_unsettled(stage: Stage) -> str:
    for device in stage.devices:
        if not device.settled and not device.stopped:
            return f"{device.name} is {device.core.state}, with {device.core.pending()}"
    database = stage.database
    if not database.is_history_settled:
        return "no node has noticed that a part of the history is lost"
    newest = max(dialog.xid for dialog in database.dialogs.values())
    if stage.archive is not None and (database.moved <= newest or database.archive_erasures or database.erasures):
        return f"moved up to {database.moved} of {newest}, {len(database.archive_erasures)} erasures wait"
    unsettled = [_describe_unsettled_node(stage, made) for made in stage.nodes if made.serves]
    return next(filter(None, unsettled), "")


def _describe_unsettled_node(stage: Stage, made: SimulatedNode) -> str:
    node = made.node
    assert node is not None
    queued, set_aside = node.pipeline.backlog.rows, node.pipeline.set_aside
    if queued or set_aside:
        return f"{made.process} has {queued} entries that wait, and {set_aside} dialogs set aside"
    if node.rooms.loading:
        return f"{made.process} reads {node.rooms.loading} rosters"
    if len(node.receipts) or node.receipts._flushing.locked():
        return f"{made.process} stores receipts"
    if node.horizon.age_s > _HORIZON_AGE_S_MAX:
        return f"the horizon of {made.process} is {node.horizon.age_s:.0f} s old"
    if stage.redis is not None and not stage.redis.absent and node.peers is not None and node.peers.in_doubt:
        return f"{made.process} does not hear {node.peers.in_doubt} other nodes"
    return ""


@contextmanager
def _alone(stage: Stage) -> Iterator[None]:
    """While a run goes on nothing is collected, whose time would be another one each time, and logs go to the trace."""
    log = logging.getLogger("server")
    handler = _TraceHandler(stage)
    before = (log.level, log.propagate, gc.isenabled())
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.WARNING if stage.trace is not None else logging.ERROR)
    gc.disable()
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before[:2]
        if before[2]:
            gc.enable()


class _TraceHandler(logging.Handler):
    """Puts the log into the trace; what the product says it did not expect is a violation."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._stage.note(f"log: {record.getMessage()} {error or ''}")
        if error is not None and not self._is_expected(str(error)):
            self._stage.violations.add("unhandled", f"{record.getMessage()}: {error!r}")

    def _is_expected(self, error: str) -> bool:
        """Whether the script made it fail: rosters are hidden, or what is waited for is lost with its history."""
        lost = self._stage.database.history > 0 and "not in the journal" in error
        return lost or "nobody can read" in error


def _digest(stage: Stage) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for dialog in stage.database.dialogs.values():
        for row in dialog.rows:
            whole.update(repr(row).encode())
    for device in stage.devices:
        counts = sorted(device.witness.counts.items())
        whole.update(repr((device.name, device.links, counts, device.witness.reached, device.ledger.acked)).encode())
    whole.update(repr((stage.loop.steps, stage.loop.time(), stage.dice.random())).encode())
    return whole.hexdigest()
