"""Rows of a state, and the step that changes several of them at once."""

from __future__ import annotations

from tchat.crypto.state import MemoryState, OutboxRow, Step, Table
from tchat.store import Stored


def test_a_step_reads_what_it_wrote_and_the_state_does_not_before_the_commit() -> None:
    state = MemoryState()
    step = Step(state)
    step.write(Table.ACKED, b"dialog", b"7")
    assert step.read(Table.ACKED, b"dialog") == b"7"
    assert state.read(Table.ACKED, b"dialog") is None
    step.commit([OutboxRow(7, b"command")])
    assert state.read(Table.ACKED, b"dialog") == b"7"
    assert state.outbox == {7: b"command"}


def test_a_step_that_is_dropped_has_never_happened() -> None:
    state = MemoryState()
    Step(state).write(Table.ACKED, b"dialog", b"7")
    assert Step(state).read(Table.ACKED, b"dialog") is None


def test_the_keys_of_a_table_are_those_of_the_state_and_of_the_step() -> None:
    state = MemoryState()
    before = Step(state)
    for key in (b"a1", b"a2", b"b1"):
        before.write(Table.HANDED, key, b"")
    before.write(Table.SLICES, b"a3", b"")
    before.commit()
    step = Step(state)
    step.write(Table.HANDED, b"a0", b"")
    step.write(Table.HANDED, b"a1", None)
    assert step.keys(Table.HANDED, b"a") == [b"a0", b"a2"]
    step.commit()
    assert state.keys(Table.HANDED, b"a") == [b"a0", b"a2"]


def test_what_a_step_and_an_outbox_hold_is_not_shown() -> None:
    step = Step(MemoryState())
    step.write(Table.IDENTITY, b"", b"secret")
    for holder in (step, OutboxRow(7, b"secret"), Stored(7, b"secret")):
        assert "secret" not in repr(holder)
