"""What is written, packed into batches: as few requests as the server takes gladly.

Invariants: a batch has at most `_BATCH_ROWS` rows and `_BATCH_BYTES` bytes, and all of its partitions are on the same
replicas, so the one that coordinates it writes each row itself. Rows of one partition follow each other.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable
from typing import Any

from cassandra.query import BatchStatement, BatchType, BoundStatement

from protocol.bodies import Erased, tag_of
from storage.rows import BLANK, TimelineRow

BUCKET = 10_000
"""Numbers of a dialog, or of a device, that are in one partition."""
ERASED = tag_of(Erased)

_BATCH_ROWS = 30
_BATCH_BYTES = 40_000
"""Apache Cassandra refuses batches of several partitions above 50 KiB, with what it adds; a row that is longer goes
alone, and then its limit does not hold."""

Values = list[bytes]
"""The values of a prepared statement as they go over the wire; first those of the partition, an id and a bucket."""
_ROW, _ERASURE, _STAGES = 1, 2, 4
"""What the timestamps of an epoch are: of a row, of its erasure; and how far apart those of two epochs are."""
FindReplicas = Callable[[bytes], frozenset[int]]
"""From the key of a partition to something that is equal for the same set of replicas."""

_int = struct.Struct(">i").pack
_smallint = struct.Struct(">h").pack
_bigint = struct.Struct(">q").pack
_partition = struct.Struct(">H16sBH4sB").pack


def row_values(row: TimelineRow, epoch: int) -> Values:
    """The columns of a row and its timestamp, packed here: the driver takes four times as long to bind them."""
    event = row.event
    return [
        event.dialog,
        _int(event.seq // BUCKET),
        _bigint(event.seq),
        event.author,
        event.device,
        _bigint(event.n),
        _bigint(event.at_ms),
        _bigint(event.messages),
        _bigint(row.target or 0),
        _smallint(row.tag),
        bytes(event.body),
        _timestamp(epoch, _ERASURE if row.tag == ERASED else _ROW),
    ]


def about_values(row: TimelineRow, epoch: int) -> Values:
    """The entry by which a message finds this row."""
    assert row.target
    target = row.target
    key = [row.event.dialog, _int(target // BUCKET), _bigint(target), _smallint(row.tag), _bigint(row.event.seq)]
    return [*key, _timestamp(epoch, _ROW)]


def bucket_of_written(n: int) -> int:
    """The bucket of a device's entry. Clients begin with a clock in microseconds, and a CQL int has 32 bits."""
    return n // BUCKET % 2**31


def written_values(row: TimelineRow, epoch: int) -> Values:
    """The entry by which a device finds this row."""
    event = row.event
    key = [event.device, _int(bucket_of_written(event.n)), _bigint(event.n), event.dialog, _bigint(event.seq)]
    return [*key, _timestamp(epoch, _ROW)]


def erasure_values(dialog: bytes, seq: int, epoch: int) -> Values:
    """The columns that an erasure replaces, and its timestamp."""
    return [dialog, _int(seq // BUCKET), _bigint(seq), _smallint(ERASED), bytes(BLANK), _timestamp(epoch, _ERASURE)]


def erasure_timestamp(epoch: int) -> int:
    """The timestamp of an erasure, and of a deletion: the server lets a deletion win over a write with the same."""
    return epoch * _STAGES + _ERASURE


def _timestamp(epoch: int, stage: int) -> bytes:
    return _bigint(epoch * _STAGES + stage)


def make_batches(
    writes: Iterable[tuple[Any, Values]], find_replicas: FindReplicas
) -> Generator[BatchStatement, None, None]:
    """Batches of `(prepared statement, values)`."""
    partitions: dict[tuple[bytes, bytes], list[tuple[Any, Values]]] = defaultdict(list)
    for write in writes:
        owner, bucket, *_ = write[1]
        partitions[owner, bucket].append(write)
    places: dict[frozenset[int], list[tuple[Any, Values]]] = defaultdict(list)
    for (owner, bucket), of_partition in partitions.items():
        places[find_replicas(_partition(16, owner, 0, 4, bucket, 0))] += of_partition
    for of_place in places.values():
        batch, size = _new_batch(), 0
        for prepared, values in of_place:
            added = sum(map(len, values))
            if batch and (len(batch) == _BATCH_ROWS or size + added > _BATCH_BYTES):
                yield batch
                batch, size = _new_batch(), 0
            bound = BoundStatement(prepared)
            bound.values = values
            batch.add(bound)
            size += added
        yield batch


def _new_batch() -> BatchStatement:
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.is_idempotent = True
    return batch
