"""Packing into batches: none too large, none over several sets of replicas, and every row in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from cassandra.query import BatchStatement

from protocol.ids import new_id
from storage.cql.batches import Values, make_batches, row_values
from storage.rows import TimelineRow
from tests.support.rows import posted

INSERT = SimpleNamespace(
    query_id=b"insert",
    retry_policy=None,
    consistency_level=None,
    serial_consistency_level=None,
    fetch_size=None,
    custom_payload=None,
    is_idempotent=True,
    column_metadata=[],
    routing_key_indexes=None,
    is_lwt=lambda: False,
)
"""A prepared statement, as far as a batch looks at it."""


def values_in(batch: BatchStatement) -> list[Values]:
    return [values for _, _, values in batch._statements_and_parameters]


def pack(rows: Sequence[TimelineRow], replicas: int = 1) -> list[list[Values]]:
    """The values of each batch, with partitions spread over so many sets of replicas."""
    made = make_batches(((INSERT, row_values(row, 1)) for row in rows), lambda key: frozenset({key[17] % replicas}))
    return [values_in(batch) for batch in made]


def test_every_row_is_in_one_batch_of_at_most_thirty() -> None:
    dialogs = [new_id() for _ in range(7)]
    rows = [posted(dialog, seq) for seq in range(1, 24) for dialog in dialogs]
    batches = pack(rows)
    assert max(map(len, batches)) == 30
    packed = [tuple(values) for batch in batches for values in batch]
    assert sorted(packed) == sorted(tuple(row_values(row, 1)) for row in rows)
    assert len(batches) == -(-len(rows) // 30)


def test_rows_of_dialogs_of_their_own_share_batches() -> None:
    assert len(pack([posted(new_id(), 1) for _ in range(90)])) == 3


def test_rows_of_a_partition_follow_each_other() -> None:
    dialogs = [new_id() for _ in range(5)]
    batches = pack([posted(dialog, seq) for seq in range(1, 4) for dialog in dialogs])
    assert [values[0] for batch in batches for values in batch] == [dialog for dialog in dialogs for _ in range(3)]


def test_a_batch_has_rows_of_one_set_of_replicas() -> None:
    batches = pack([posted(new_id(), 1) for _ in range(300)], replicas=4)
    for batch in batches:
        assert len({values[0][-1] % 4 for values in batch}) == 1


def test_a_batch_ends_before_it_is_larger_than_a_server_takes_and_a_large_body_goes_alone() -> None:
    dialog = new_id()
    texts = ["x" * 15_000] * 4 + ["x" * 60_000] + ["x"] * 2
    batches = pack([posted(dialog, seq, text) for seq, text in enumerate(texts, 1)])
    assert [len(batch) for batch in batches] == [2, 2, 1, 2]


def test_a_batch_can_be_repeated() -> None:
    (batch,) = make_batches([(INSERT, row_values(posted(new_id(), 1), 1))], lambda _key: frozenset())
    assert batch.is_idempotent
