"""Dialogs as one person sees them: queries of their states and of the pages of a snapshot, and what the rows mean."""

from __future__ import annotations

from operator import attrgetter
from uuid import UUID

import asyncpg
import msgspec

from protocol.bodies import Body, DialogCreated, Invited, Settings, SettingsChanged, tag_of
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import DialogState
from protocol.ids import ID_BYTES, NIL
from protocol.replies import Member
from storage.rows import DialogRow, PrincipalStatus, SignInState, SnapshotPage

PAGE_DIALOGS = 200
"""Memberships that one page of a snapshot looks at."""

_id_of = attrgetter("principal")
_decode_invited = msgspec.msgpack.Decoder(Invited).decode
_INVITED_AT = ID_BYTES + 8
"""Bytes before the body of an invitation, in `invited`."""
_TYPES = {each.value: each for each in DialogType}
_MODES = {each.value: each for each in Mode}
_ROLES = {each.value: each for each in Role}
_decode_known = msgspec.msgpack.Decoder(DialogCreated | SettingsChanged).decode


def tags_of(*bodies: type[Body]) -> str:
    """The tags of these bodies, as SQL lists them."""
    return ", ".join(str(tag_of(body)) for body in bodies)


_NAME_A_DIALOG = tags_of(DialogCreated, SettingsChanged)

_TYPES_WITH_MEMBERS = (DialogType.SELF, DialogType.DIRECT)
_HAS_ITS_MEMBERS = f"m.member AND h.type IN ({', '.join(map(str, _TYPES_WITH_MEMBERS))})"
"""Their members are so few that they come with the state."""


def _columns(asker_name: str) -> str:
    """What `make_dialog_row` takes, but for `unseen_from`, which follows; `asker_name` is read once, not for each row.

    Former members see the dialog as it was when they left; `known` is the last body that named it until then. `invited`
    has the bodies of open invitations, each after the device that wrote it and its number. `peer` is the other member.
    """
    return f"""
    h.dialog_id, h.type, h.mode, d.name, d.description, d.avatar_url, d.pinned,
    d.is_public, d.allow_media, d.message_retention_days, d.moderation_enabled,
    m.role, m.member, h.deleted, h.seq, h.keys_seq, h.member_count, m.visible,
    m.delivered, m.read, m.read_messages, m.muted_until_ms, m.from_seq,
    CASE WHEN m.member THEN h.messages ELSE (
        SELECT j.messages FROM journal j WHERE j.dialog_id = h.dialog_id AND j.seq = upper(m.visible) - 1)
    END AS messages,
    CASE WHEN NOT m.member THEN (
        SELECT j.body FROM journal j
        WHERE j.dialog_id = h.dialog_id AND j.tag IN ({_NAME_A_DIALOG}) AND j.seq < upper(m.visible)
        ORDER BY j.seq DESC LIMIT 1)
    END AS known,
    CASE WHEN h.type = {DialogType.SELF} THEN ARRAY(
        SELECT uuid_send(j.device_id) || int8send(j.n) || j.body
        FROM invitations i JOIN journal j ON j.dialog_id = h.dialog_id AND j.seq = i.seq
            AND j.tag = {tags_of(Invited)}
        WHERE i.principal_id = m.principal_id AND NOT i.declined ORDER BY i.seq)
    END AS invited,
    m.principal_id AS asker, CASE WHEN {_HAS_ITS_MEMBERS} THEN {asker_name} END AS asker_name,
    o.peer, o.peer_role, o.peer_name, o.peer_delivered, o.peer_read"""


_JOIN_PEER = f"""
    LEFT JOIN LATERAL (
        SELECT x.principal_id AS peer, x.role AS peer_role, x.delivered AS peer_delivered, x.read AS peer_read,
               (SELECT p.display_name FROM people p WHERE p.principal_id = x.principal_id) AS peer_name
        FROM members x
        WHERE h.type = {DialogType.DIRECT} AND m.member
          AND x.dialog_id = m.dialog_id AND x.member AND x.principal_id <> m.principal_id LIMIT 1) o ON true
"""
"""A direct dialog never has more than two rows in `members`."""


_ASKER_NAME = "(SELECT p.display_name FROM people p WHERE p.principal_id = $1)"

_COLUMNS = 34
"""Those, and `unseen_from`."""

_FIRST = f"'{UUID(bytes=NIL)}'"
"""After this the first page begins."""


def _page(principal: str, after: str) -> str:
    """The memberships that one page looks at, former ones included."""
    return f"members x WHERE x.principal_id = {principal} AND x.dialog_id > {after} ORDER BY x.dialog_id"


def _changed(principal: str, asker_name: str, after: str, since: str, window: str) -> str:
    """What the asker of a snapshot gets of one page of memberships."""
    return f"""
    SELECT {_columns(asker_name)}, CASE
        WHEN {since} IS NULL THEN greatest(h.seq - {window}, 0) + 1
        WHEN h.xid < {since}::text::xid8 THEN h.seq + 1
        ELSE first_unseen(m.dialog_id, h.seq, {since}::text::xid8) END AS unseen_from
    FROM (SELECT * FROM {_page(principal, after)} LIMIT {PAGE_DIALOGS}) m
    JOIN heads h ON h.dialog_id = m.dialog_id
    JOIN dialogs d ON d.dialog_id = m.dialog_id
    {_JOIN_PEER}
    WHERE CASE WHEN {since} IS NULL THEN m.member
               ELSE m.xid >= {since}::text::xid8
                    OR (m.member AND (h.xid >= {since}::text::xid8 OR (
                        SELECT k.xid FROM receipt_heads k WHERE k.dialog_id = m.dialog_id) >= {since}::text::xid8)) END
"""


def _next(principal: str, after: str) -> str:
    """Where the next page begins; nothing after the last one. Join it: a column is looked up for each row."""
    return f"SELECT x.dialog_id AS after FROM {_page(principal, after)} OFFSET {PAGE_DIALOGS - 1} LIMIT 1"


SNAPSHOTS = f"""
WITH now AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_xid,
           (SELECT epoch FROM deployment) AS epoch,
           (SELECT newest FROM trimming)::text::bigint AS newest_trimmed
)
SELECT a.nth, a.state, now.epoch, now.horizon, now.next_xid, now.newest_trimmed,
       own.generation, own.fallback_used, own.one_time, own.n_max, own.slices,
       next.after, changed.*
FROM now CROSS JOIN LATERAL (
    SELECT asked.*, s.device_id, n.display_name AS name, CASE
               WHEN p.status IS NULL THEN {SignInState.DELETED}
               WHEN p.status = {PrincipalStatus.SUSPENDED} THEN {SignInState.SUSPENDED}
               WHEN p.status = {PrincipalStatus.DELETED} THEN {SignInState.DELETED}
               WHEN s.sign_in_id IS NULL OR s.revoked_at_ms IS NOT NULL THEN {SignInState.REVOKED}
               ELSE {SignInState.LIVE}
           END AS state
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
        WITH ORDINALITY AS asked(principal_id, sign_in_id, since, window_events, nth)
    LEFT JOIN principals p ON p.principal_id = asked.principal_id
    LEFT JOIN sign_ins s ON s.sign_in_id = asked.sign_in_id AND s.principal_id = asked.principal_id
    LEFT JOIN people n ON n.principal_id = asked.principal_id
) a
LEFT JOIN LATERAL (
    {_next("a.principal_id", _FIRST)}
) next ON true
LEFT JOIN LATERAL (
    SELECT k.generation, coalesce(f.used, false) AS fallback_used,
           (SELECT count(*) FROM one_time_keys o WHERE o.device_id = k.device_id AND o.epoch = now.epoch) AS one_time,
           EXISTS (SELECT FROM slices c WHERE c.to_device = k.device_id) AS slices,
           (SELECT max((SELECT a.last_n FROM authors a
                        WHERE a.dialog_id = m.dialog_id AND a.device_id = k.device_id))
            FROM members m WHERE m.principal_id = k.principal_id) AS n_max
    FROM device_keys k LEFT JOIN fallback_keys f ON f.device_id = k.device_id
    WHERE k.device_id = a.device_id LIMIT 1
) own ON true
LEFT JOIN LATERAL (
    SELECT * FROM ({_changed("a.principal_id", "a.name", _FIRST, "a.since", "a.window_events")}) c
    WHERE a.state = {SignInState.LIVE}
) changed ON true
"""
"""The first pages of several askers in one snapshot, `nth` from 1: one row for each, or as many as their dialogs. With
what there is of the device of the sign-in. Its highest `n` is looked up in each dialog of its principal: the hot rows
of `authors` are in no other index than their key. It is not looked up for a device without keys. Each page looks at so
many memberships, not for so many changes: its work is bounded. LIMIT 1 keeps the planner from a join that reads all
keys of all devices, which is as cheap as a lookup while there are none. How many pages there can be follows from
`limits.dialogs_per_person_max` and from the dialogs that one has left. `after` is where the next page begins."""

SNAPSHOT_PAGE = f"""
SELECT next.after, changed.* FROM (SELECT ({_next("$1", "$2")}) AS after) next
LEFT JOIN LATERAL ({_changed("$1", _ASKER_NAME, "$2", "$3::bigint", "$4::bigint")}) changed ON true
"""

DIALOGS = f"""
SELECT {_columns(_ASKER_NAME)}, h.seq + 1 AS unseen_from
FROM members m JOIN heads h ON h.dialog_id = m.dialog_id JOIN dialogs d ON d.dialog_id = m.dialog_id
{_JOIN_PEER}
WHERE m.principal_id = $1 AND m.dialog_id = ANY ($2)
"""


def make_snapshot_page(rows: list[asyncpg.Record], since: int | None, window: int) -> SnapshotPage:
    """The page of which these are the rows."""
    dialogs = tuple(make_dialog_row(row) for row in rows if row["dialog_id"] is not None)
    return SnapshotPage(dialogs, rows[0]["after"], since, window)


def count_missed(page: SnapshotPage) -> int:
    """Events that the dialogs of a page lack; a dialog that changed without any counts as one."""
    return sum(max(1, row.head_seq - row.unseen_from + 1) for row in page.dialogs)


def make_dialog_row(row: asyncpg.Record) -> DialogRow:
    """A dialog as the asker sees it. Only the last columns of the record count: what comes before is of others."""
    # By position, all at once: three times as fast as by name, and a first sync reads hundreds of rows.
    (
        dialog, type_, mode, name, description, avatar_url, pinned, is_public, allow_media, retention_days, moderated,
        role, member, deleted, seq, keys_seq, member_count, visible, delivered, read, read_messages, muted_until_ms,
        joined_seq, messages, known, invited, asker, asker_name, peer, peer_role, peer_name, peer_delivered, peer_read,
        unseen_from,
    ) = row[-_COLUMNS:]  # fmt: skip
    settings = Settings(is_public, allow_media, retention_days, moderated)
    parts = [(part.lower, part.upper - 1 if part.upper else 0) for part in visible]
    head_seq = seq
    members: list[Member] = []
    if known is not None:
        look: DialogCreated | SettingsChanged = _decode_known(known)
        name, description, avatar_url, settings = look.name, look.description, look.avatar_url, look.settings
    if not member:
        seq, keys_seq, member_count, pinned, deleted = max((last for _, last in parts), default=0), 0, 0, None, False
    elif type_ in _TYPES_WITH_MEMBERS:
        members = [Member(asker, _ROLES[role], asker_name or "", delivered, read)]
        if peer is not None:
            members.append(Member(peer, _ROLES[peer_role], peer_name or "", peer_delivered, peer_read))
            members.sort(key=_id_of)
    state = DialogState(
        dialog, _TYPES[type_], _MODES[mode], name, description, avatar_url, settings, _ROLES[role], member, seq,
        messages, keys_seq, member_count, 0, parts, delivered, read, read_messages, muted_until_ms, members, pinned,
        [_decode_invited(each[_INVITED_AT:]) for each in invited] if invited else [],
        deleted,
        [(each[:ID_BYTES], int.from_bytes(each[ID_BYTES:_INVITED_AT])) for each in invited] if invited else [],
    )  # fmt: skip
    return DialogRow(state, head_seq, unseen_from, joined_seq)
