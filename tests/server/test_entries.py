"""The journal's entry of an event of content: what the flush judges by comes from the body."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from protocol.bodies import Edited, Header, Posted, Reacted, tag_of
from protocol.kinds import KINDS, Kind
from server.entries import make_entry

IDS = (b"d" * 16, b"a" * 16, b"v" * 16)
HEADER = Header(reply_to=5, expires_at_ms=99, keys_seq=7)


@pytest.mark.parametrize("kind", list(Kind))
def test_an_envelope_gives_what_its_header_and_kind_say_and_keys_for_members_only(kind: Kind) -> None:
    entry = make_entry(*IDS, 3, Posted(kind, HEADER, b"x"))
    assert (entry.dialog, entry.author, entry.device, entry.n) == (*IDS, 3)
    assert (entry.tag, entry.target, entry.expires_at_ms) == (tag_of(Posted), 5, 99)
    assert entry.counts == KINDS[kind].counts_unread
    assert entry.keys_seq == (7 if KINDS[kind].by_members else None)
    assert msgspec.msgpack.decode(entry.body, type=Posted) == Posted(kind, HEADER, b"x")


def test_edits_and_reactions_have_a_target_and_keys_and_one_that_is_withdrawn_a_target_only() -> None:
    edit = make_entry(*IDS, 3, Edited(4, b"y", HEADER))
    assert (edit.tag, edit.target, edit.keys_seq) == (tag_of(Edited), 4, 7)
    reaction = make_entry(*IDS, 3, Reacted(4, b"+", HEADER))
    assert (reaction.tag, reaction.target, reaction.keys_seq) == (tag_of(Reacted), 4, 7)
    withdrawn = make_entry(*IDS, 3, Reacted(4, b"", HEADER))
    assert (withdrawn.target, withdrawn.keys_seq) == (4, None)
    for entry in (edit, reaction, withdrawn):
        assert (entry.counts, entry.expires_at_ms) == (False, None)


@pytest.mark.parametrize("make", [lambda h: Posted(Kind.MESSAGE, h, b"x"), lambda h: Edited(4, b"x", h)])
def test_what_names_a_content_type_counts_as_not_sealed(make: Callable[[Header], Posted | Edited]) -> None:
    for content_type, session in (("", b"s" * 32), ("text/plain", None)):
        header = Header(content_type, session=b"s" * 32, commitment=bytes(32))
        assert make_entry(*IDS, 3, make(header)).session == session
