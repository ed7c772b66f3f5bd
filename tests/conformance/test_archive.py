"""What every archive promises: rows come back as written, in order, bounded; an erasure wins."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable

import msgspec
import pytest

from protocol.bodies import Deleted, Edited, Posted, Reacted, tag_of
from protocol.ids import new_id
from protocol.limits import N_MAX
from storage.archive import Archive
from storage.rows import TimelineRow
from storage.timelines import PAGE_BYTES_MAX
from tests.support.rows import AUTHOR, DEVICE, ERASED_TAG, deleted, edited, erased, posted, reacted

pytestmark = pytest.mark.anyio

BORDER = 10_000
"""An engine may keep the rows from this number on in another place than those before it."""
OVER_BORDER = range(BORDER - 40, BORDER + 40)


async def read(archive: Archive, dialog: bytes, first: int = 1, last: int = 99_999) -> list[TimelineRow]:
    return await archive.read_range(dialog, first, last, limit=1000, newest_first=False)


def seqs_of(rows: Iterable[TimelineRow]) -> list[int]:
    return [row.event.seq for row in rows]


async def test_rows_come_back_as_they_were_written(archive: Archive) -> None:
    dialog, other = new_id(), new_id()
    rows = [posted(dialog, 1), posted(dialog, 2, reply_to=1), edited(dialog, 3, 1), deleted(dialog, 4, 2)]
    rows += [reacted(dialog, 5, 1), erased(posted(dialog, 6)), erased(edited(dialog, 7, 2))]
    await archive.write([*rows, posted(other, 1)])
    assert await read(archive, dialog) == rows
    assert await read(archive, other) == [posted(other, 1)]
    assert await read(archive, new_id()) == []


async def test_rows_written_in_any_order_are_read_in_theirs(archive: Archive) -> None:
    dialog = new_id()
    rows = [posted(dialog, seq) for seq in range(1, 101)]
    shuffled = random.Random(1).sample(rows, len(rows))
    for start in range(0, len(rows), 30):
        await archive.write(shuffled[start : start + 30])
    assert await read(archive, dialog) == rows
    assert await archive.read_range(dialog, 11, 90, limit=3, newest_first=False) == rows[10:13]
    assert await archive.read_range(dialog, 11, 90, limit=3, newest_first=True) == rows[89:86:-1]


async def test_rows_of_many_dialogs_are_written_at_once(archive: Archive) -> None:
    dialogs = [new_id() for _ in range(300)]
    await archive.write([posted(dialog, seq) for seq in (1, 2) for dialog in dialogs])
    for dialog in (dialogs[0], dialogs[150], dialogs[-1]):
        assert seqs_of(await read(archive, dialog)) == [1, 2]


async def test_long_rows_of_many_dialogs_are_written_at_once(archive: Archive) -> None:
    rows = [posted(new_id(), 1, "x" * size) for size in (*range(100, 20_000, 700), 60_000)]
    await archive.write(rows, epoch=1)
    for row in rows:
        assert await read(archive, row.event.dialog) == [row]


async def test_a_range_is_read_over_a_border_in_both_directions(archive: Archive) -> None:
    dialog = new_id()
    rows = [posted(dialog, seq) for seq in OVER_BORDER]
    await archive.write(rows)
    for first, last, limit in ((1, 99_999, 1000), (BORDER - 5, BORDER + 5, 1000), (BORDER - 5, BORDER + 5, 7)):
        asked = [seq for seq in OVER_BORDER if first <= seq <= last]
        found = await archive.read_range(dialog, first, last, limit=limit, newest_first=False)
        assert seqs_of(found) == asked[:limit]
        found = await archive.read_range(dialog, first, last, limit=limit, newest_first=True)
        assert seqs_of(found) == asked[::-1][:limit]


async def test_a_range_without_rows_in_the_middle_is_read_to_its_end(archive: Archive) -> None:
    dialog = new_id()
    await archive.write([posted(dialog, 1), posted(dialog, 5 * BORDER)])
    for newest_first in (False, True):
        found = await archive.read_range(dialog, 1, 5 * BORDER, limit=2, newest_first=newest_first)
        assert sorted(seqs_of(found)) == [1, 5 * BORDER]


async def test_a_page_ends_with_the_row_that_fills_it(archive: Archive) -> None:
    dialog = new_id()
    text = "x" * (PAGE_BYTES_MAX // 4)
    rows = [posted(dialog, seq, text) for seq in OVER_BORDER]
    for row in rows:
        await archive.write([row])
    # four bodies, each a little longer than a quarter
    assert await read(archive, dialog) == rows[:4]
    assert await archive.read_range(dialog, 1, BORDER, limit=99, newest_first=True) == rows[40:36:-1]
    assert await archive.read_rows(dialog, seqs_of(rows)) == rows[:4]
    about = [edited(dialog, 20_000 + seq, seq, text) for seq in range(1, 9)]
    await archive.write(about)
    assert await archive.read_about(dialog, 1, 8, limit=99, newest_first=False) == about[:4]
    assert await archive.read_newest_about(dialog, 1, tag_of(Edited), limit=99) == about[:1]


async def test_rows_are_read_by_their_numbers(archive: Archive) -> None:
    dialog = new_id()
    await archive.write([posted(dialog, seq) for seq in OVER_BORDER])
    wanted = [1, *range(BORDER - 30, BORDER + 30, 3), 5 * BORDER]
    assert seqs_of(await archive.read_rows(dialog, wanted)) == wanted[1:-1]
    assert await archive.read_rows(dialog, []) == []
    every = list(range(BORDER - 500, BORDER + 500))
    assert seqs_of(await archive.read_rows(dialog, every)) == list(OVER_BORDER)


async def test_tags_are_read_as_they_are_now(archive: Archive) -> None:
    dialog = new_id()
    await archive.write([posted(dialog, BORDER - 1), edited(dialog, BORDER, 7), deleted(dialog, BORDER + 1, 8)])
    await archive.erase([(dialog, BORDER)])
    expected = {BORDER - 1: tag_of(Posted), BORDER: ERASED_TAG, BORDER + 1: tag_of(Deleted)}
    assert await archive.read_tags(dialog, BORDER - 4_000, BORDER + 4_000) == expected


async def test_what_is_about_messages_is_found_message_by_message(archive: Archive) -> None:
    dialog = new_id()
    about = {BORDER - 2: [], BORDER - 1: [BORDER + 7], BORDER: [BORDER + 3, BORDER + 5], BORDER + 1: [BORDER + 4]}
    await archive.write([posted(dialog, seq) for seq in about])
    await archive.write([reacted(dialog, seq, target) for target, seqs in about.items() for seq in seqs])
    await archive.write([posted(dialog, BORDER + 9, reply_to=BORDER)])  # an answer is no change of the message
    found = await archive.read_about(dialog, BORDER - 2, BORDER, limit=10, newest_first=False)
    assert [row.target for row in found] == [BORDER - 1, BORDER, BORDER]
    assert sorted(seqs_of(found)) == [BORDER + 3, BORDER + 5, BORDER + 7]
    found = await archive.read_about(dialog, BORDER - 2, BORDER + 99, limit=2, newest_first=True)
    assert [row.target for row in found] == [BORDER + 1, BORDER]
    found = await archive.read_about(dialog, BORDER - 2, BORDER + 99, limit=2, newest_first=False)
    assert [row.target for row in found] == [BORDER - 1, BORDER]


async def test_the_newest_of_each_sort_are_found_about_a_message(archive: Archive) -> None:
    dialog = new_id()
    edits = [edited(dialog, seq, 1, f"edit {seq}") for seq in (2, 3, BORDER + 3)]
    reactions = [reacted(dialog, seq, 1) for seq in range(4, 300)]
    await archive.write([*edits, *reactions, reacted(dialog, 400, 2), deleted(dialog, 401, 2)])
    assert await archive.read_newest_about(dialog, 1, tag_of(Edited), limit=2) == [edits[2], edits[1]]
    assert await archive.read_newest_about(dialog, 1, tag_of(Reacted), limit=200) == reactions[:95:-1]
    assert await archive.read_newest_about(dialog, 1, tag_of(Reacted), limit=9, before=6) == reactions[1::-1]
    assert await archive.read_newest_about(dialog, 1, tag_of(Reacted), limit=9, before=4) == []
    assert await archive.read_newest_about(dialog, 1, tag_of(Deleted), limit=1) == []
    assert seqs_of(await archive.read_newest_about(dialog, 2, tag_of(Deleted), limit=1)) == [401]


async def test_an_erasure_wins_whichever_comes_first_and_however_often_each_is_repeated(archive: Archive) -> None:
    steps = ("row", "row", "erasure", "erasure", "erased row")
    orders = sorted({order[:size] for order in itertools.permutations(steps) for size in (2, 3, 4)})
    dialog = new_id()
    made = {}
    for number, order in enumerate(orders):
        seq = number + 2
        row = posted(dialog, seq) if number % 2 else edited(dialog, seq, 1)
        for step in order:
            if step == "erasure":
                await archive.erase([(dialog, seq)])
            else:
                await archive.write([row if step == "row" else erased(row)])
        if "row" in order or "erased row" in order:
            made[seq] = row if set(order) == {"row"} else erased(row)
    found = await read(archive, dialog)
    assert {row.event.seq: row for row in found} == made
    assert await archive.read_rows(dialog, sorted(made)) == found
    assert await archive.read_tags(dialog, 1, 9_000) == {seq: row.tag for seq, row in made.items()}
    for row in await archive.read_about(dialog, 1, 1, limit=1000, newest_first=False):
        assert row == made[row.event.seq]


async def test_an_erasure_alone_makes_no_row(archive: Archive) -> None:
    dialog = new_id()
    await archive.erase([(dialog, 3), (dialog, BORDER)])
    await archive.write([posted(dialog, 2)])
    assert seqs_of(await read(archive, dialog)) == [2]
    assert seqs_of(await archive.read_rows(dialog, [2, 3])) == [2]
    assert list(await archive.read_tags(dialog, 1, 9)) == [2]
    assert await archive.read_range(dialog, 3, BORDER, limit=1, newest_first=True) == []


async def test_an_erased_edit_is_not_shown_as_what_was_done_to_its_message(archive: Archive) -> None:
    dialog = new_id()
    secret, kept = edited(dialog, 5, 1, "secret"), edited(dialog, 6, 1)
    await archive.write([secret, kept])
    await archive.erase([(dialog, 5)])
    for found in (
        await archive.read_about(dialog, 1, 1, limit=9, newest_first=False),
        await archive.read_newest_about(dialog, 1, tag_of(Edited), limit=9),
    ):
        assert sorted(found, key=lambda row: row.event.seq) == [erased(secret), kept]


async def test_many_are_erased_at_once(archive: Archive) -> None:
    dialogs = [new_id() for _ in range(3)]
    rows = [posted(dialog, seq) for dialog in dialogs for seq in OVER_BORDER]
    await archive.write(rows)
    await archive.erase([(row.event.dialog, row.event.seq) for row in rows])
    for dialog in dialogs:
        assert [row.tag for row in await read(archive, dialog)] == [ERASED_TAG] * len(OVER_BORDER)


async def test_two_writers_at_once_write_what_one_does(archive: Archive) -> None:
    dialog = new_id()
    rows = [posted(dialog, seq) for seq in OVER_BORDER]
    late = [erased(row) if row.event.seq % 2 else row for row in rows]
    await asyncio.gather(*(archive.write(each) for each in (rows, late, rows[::-1], late, rows)))
    assert await read(archive, dialog) == late


async def test_what_is_written_in_a_later_epoch_wins_over_all_of_those_before(archive: Archive) -> None:
    """Its numbers are given out again, to other rows; who wakes late writes in the epoch that it has known."""
    dialog = new_id()
    before = [
        edited(dialog, 2, 1, "z" * 99),
        posted(dialog, 3, "before"),
        posted(dialog, 4, "z" * 99),
        posted(dialog, 5),
    ]
    after = [posted(dialog, 2, "after"), reacted(dialog, 3, 1), posted(dialog, 4, "after"), erased(posted(dialog, 5))]
    for again in range(2):
        await archive.write(before, epoch=1)
        await archive.erase([(dialog, 4)], epoch=1)
        if not again:
            assert seqs_of(await read(archive, dialog)) == [2, 3, 4, 5]
        await archive.write(after, epoch=2)
        assert await read(archive, dialog) == after
    assert await archive.read_about(dialog, 1, 1, limit=9, newest_first=True) == [after[1]]
    assert await archive.read_newest_about(dialog, 1, tag_of(Edited), limit=9) == []
    await archive.erase([(dialog, 2)], epoch=2)
    await archive.write(after, epoch=2)
    assert await archive.read_tags(dialog, 2, 2) == {2: ERASED_TAG}


async def test_a_number_that_is_given_out_again_is_not_about_its_old_message(archive: Archive) -> None:
    dialog = new_id()
    lost = [reacted(dialog, seq, 1) for seq in range(10, 300)]
    await archive.write([edited(dialog, 5, 1, "lost"), reacted(dialog, 6, 1), edited(dialog, 7, 1), *lost], epoch=1)
    now = [reacted(dialog, 5, 1), reacted(dialog, 6, 2), edited(dialog, 7, 1, "new")]
    await archive.write([*now, *(posted(dialog, row.event.seq) for row in lost)], epoch=2)
    assert await archive.read_about(dialog, 1, 1, limit=9, newest_first=False) == [now[2], now[0]]
    assert await archive.read_about(dialog, 1, 2, limit=1, newest_first=True) == [now[1]]
    assert await archive.read_newest_about(dialog, 1, tag_of(Reacted), limit=1) == [now[0]]
    assert await archive.read_newest_about(dialog, 1, tag_of(Edited), limit=9) == [now[2]]


async def test_a_row_is_found_by_the_number_of_its_device(archive: Archive) -> None:
    """Rows that stay in the journal are not, and what a lost history wrote under a number is not what is there now."""
    dialog, other = new_id(), new_id()
    rows = [posted(dialog, 2), edited(dialog, 3, 2), erased(reacted(dialog, 4, 2)), deleted(dialog, 5, 2)]
    await archive.write([*rows, posted(dialog, 6), posted(other, 7)], epoch=1)
    found = [await archive.find_written(dialog, DEVICE, row.event.n) for row in rows]
    assert found == [2, 3, 4, None]
    assert await archive.find_written(dialog, AUTHOR, rows[0].event.n) is None
    assert await archive.find_written(dialog, DEVICE, 99) is None
    now = posted(dialog, 6, "given out again")
    event = msgspec.structs.replace(now.event, n=99)
    await archive.write([msgspec.structs.replace(now, event=event)], epoch=2)
    assert await archive.find_written(dialog, DEVICE, 7) is None
    assert await archive.find_written(dialog, DEVICE, 99) == 6
    assert await archive.find_written(other, DEVICE, 8) == 7
    late = msgspec.structs.replace(now.event, seq=8, n=N_MAX)
    await archive.write([msgspec.structs.replace(now, event=late)], epoch=2)
    assert await archive.find_written(dialog, DEVICE, N_MAX) == 8


async def test_what_a_device_wrote_is_listed_by_its_numbers_page_by_page(archive: Archive) -> None:
    """Without what is erased, what stays in the journal, and what is of a lost history or another device."""
    device, dialogs = new_id(), sorted(new_id() for _ in range(2))

    def by_device(row: TimelineRow, n: int) -> TimelineRow:
        return msgspec.structs.replace(row, event=msgspec.structs.replace(row.event, device=device, n=n))

    border = 1_000_000 * BORDER
    rows = [by_device(posted(dialogs[0], seq), border + seq) for seq in range(250)]
    rows.append(by_device(posted(dialogs[1], 7), border + 7))  # the same number, in another dialog
    rows += [by_device(deleted(dialogs[1], 8, 7), border + 250), by_device(posted(dialogs[1], 9), border - 1)]
    lost = [by_device(posted(dialogs[1], 10), border + 251), by_device(posted(dialogs[1], 11), border + 252)]
    await archive.write([*rows, *lost], epoch=1)
    others = posted(dialogs[1], 10)
    event = msgspec.structs.replace(others.event, n=border + 251)
    await archive.write([msgspec.structs.replace(others, event=event)], epoch=2)
    await archive.erase([(dialogs[0], 3)], epoch=1)
    found: list[tuple[bytes, int]] = []
    sizes: list[int] = []
    after = None
    while not sizes or after is not None:
        page = await archive.list_written(device, border, border + BORDER - 1, after=after, limit=100)
        sizes, after = [*sizes, len(page.keys)], page.reached
        found += page.keys
    expected = [(dialogs[0], seq) for seq in range(250) if seq != 3]
    expected.insert(7, (dialogs[1], 7))
    assert (found, sizes[0], len(sizes)) == ([*expected, (dialogs[1], 11)], 99, 3)
    assert (await archive.list_written(device, border - 9, border, after=None, limit=9)).keys == [
        (dialogs[1], 9),
        (dialogs[0], 0),
    ]


async def test_a_deleted_dialog_is_gone_for_good_whatever_is_written_late(archive: Archive) -> None:
    dialog, other = new_id(), new_id()
    rows = [*(posted(dialog, seq) for seq in OVER_BORDER), edited(dialog, 3 * BORDER, BORDER + 1)]
    await archive.write([*rows, posted(other, 1)], epoch=3)
    await archive.erase([(dialog, BORDER)], epoch=3)
    for _ in range(2):
        await archive.delete_dialog(dialog, 3 * BORDER, epoch=3)
        assert await read(archive, dialog) == []
        assert await archive.read_about(dialog, BORDER, BORDER + 39, limit=9, newest_first=False) == []
        await archive.write([*rows, erased(rows[0])], epoch=3)
        await archive.write(rows, epoch=2)
        await archive.erase([(dialog, BORDER), (dialog, BORDER + 1)], epoch=3)
    assert await read(archive, dialog) == []
    assert await archive.read_rows(dialog, seqs_of(rows)) == []
    assert await archive.read_tags(dialog, BORDER - 9, BORDER + 9) == {}
    assert await archive.read_newest_about(dialog, BORDER + 1, tag_of(Edited), limit=9) == []
    assert await read(archive, other) == [posted(other, 1)]
    await archive.write([posted(dialog, 1, "after a restore")], epoch=4)
    assert await read(archive, dialog) == [posted(dialog, 1, "after a restore")]
