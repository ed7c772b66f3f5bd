"""The SQL functions of the chat: one file each in `functions/` (`function_files.py` says how they are rendered).

`${VerdictCode.STALE}` stands for the number of an enum's member, `${tag.Edited}` for the tag of a body,
`${packed.Erased}` for the stored bytes of a body without fields, `${packed_with_id.Promoted}` for those of a body whose
one required field is an id, up to where its 16 bytes follow, `${SIGN_IN_AUDIT_KEPT_MS}` for a constant.

`change_NAME` takes the change whose body has the tag name NAME (`journal.py`).
"""

from pathlib import Path
from typing import get_args

import msgspec

from protocol.bodies import AnyBody, Body, tag_of
from protocol.dialog_types import DialogType, Mode, Role
from protocol.ids import NIL
from protocol.kinds import DAY_MS, KINDS, Kind
from protocol.limits import (
    BACKUP_KEPT_DAYS,
    DEVICE_MESSAGES_BY_ONE_MAX,
    DEVICE_MESSAGES_KEPT_DAYS,
    DEVICE_MESSAGES_REMEMBERED,
    DEVICE_MESSAGES_WAITING_MAX,
    FORMER_IDENTITIES_MAX,
    INVITATIONS_BY_ONE_MAX,
    INVITATIONS_MAX,
    KEY_CLAIMS_KEPT,
    ONE_TIME_KEYS_MAX,
    ROSTER_EVENTS_MAX,
    SEALED_MEMBERS_MAX,
    SHARE_DEVICES_NAMED_MAX,
    SHARES_IN_FLIGHT_MAX,
    SLICES_KEPT_DAYS,
    VISIBLE_INTERVALS_MAX,
)
from storage.backups import BackupOutcome
from storage.device_keys import KeysOutcome
from storage.device_messages import SendOutcome
from storage.function_files import FunctionFiles
from storage.identity_rows import SIGN_IN_AUDIT_KEPT_MS, EndReason, Outcome, WhoMayAdd
from storage.nodes import LARGE_ABOVE
from storage.purged_authors import NUMBERS_TOGETHER
from storage.reports import COMMITMENT_KEPT_MS
from storage.rows import PrincipalStatus, PrincipalType, SignInState, VerdictCode
from storage.shares import StagingOutcome

FOLDER = Path(__file__).parent / "functions"
_ENUMS = (
    VerdictCode,
    PrincipalType,
    PrincipalStatus,
    SignInState,
    Outcome,
    EndReason,
    WhoMayAdd,
    KeysOutcome,
    StagingOutcome,
    SendOutcome,
    BackupOutcome,
    DialogType,
    Mode,
    Role,
    Kind,
)
INCARNATION_ENDED = "TC001"
"""The SQLSTATE of a write whose node has been replaced."""
TARGET_ARCHIVED = "TC002"
"""The SQLSTATE of a flush of which a row is about an event that is in the archive only."""
CALL_OVERTAKEN = "TC003"
"""The SQLSTATE of a call that arrives after its node gave it up."""
INCARNATION_LOCKS = 0x7463
"""First half of the advisory locks of incarnations; the second is the incarnation, or 0 for the node that serves."""
WORK_LOCKS = 0x7464
"""First half of the advisory locks of work that one node does for all (`work_locks.py`)."""
LOWEST_XID = 3
"""The lowest stamp that a row can have."""
STILL = 2**63 - 1
"""Where an interval of `roster_intervals` ends that has not ended."""
_CONSTANTS: dict[str, int | str] = {
    "SIGN_IN_AUDIT_KEPT_MS": SIGN_IN_AUDIT_KEPT_MS,
    "DAY_MS": DAY_MS,
    "ENDED_ACCESS_KEPT_MS": 3_600_000,
    "PURGE_ROWS_MAX": 100,  # of a person who signs up again; the purge does the rest
    "ERASER_LOCK_KEY": 0x7463686175,
    "PUT_BACK_AFTER_MS": 10_000,
    "NUMBERS_TOGETHER": NUMBERS_TOGETHER,
    "TRIMMER_LOCK_KEY": 0x7463686177,
    "LOWEST_XID": LOWEST_XID,
    "STILL": STILL,
    "TARGET_ARCHIVED": TARGET_ARCHIVED,
    "ERASE_HANGING_AFTER_MS": 60_000,  # longer than a flush may take that was under way
    "VISIBLE_INTERVALS_MAX": VISIBLE_INTERVALS_MAX,
    "KEPT_KINDS": ", ".join(
        f"('\\x{kind:02x}'::bytea, {rule.kept_days_min * DAY_MS}::bigint)"
        for kind, rule in KINDS.items()
        if rule.kept_days_min
    ),
    "INCARNATION_ENDED": INCARNATION_ENDED,
    "CALL_OVERTAKEN": CALL_OVERTAKEN,
    "INCARNATION_LOCKS": INCARNATION_LOCKS,
    "INVITATIONS_MAX": INVITATIONS_MAX,
    "INVITATIONS_BY_ONE_MAX": INVITATIONS_BY_ONE_MAX,
    "LARGE_ABOVE": LARGE_ABOVE,
    "ONE_TIME_KEYS_MAX": ONE_TIME_KEYS_MAX,
    "KEY_CLAIMS_KEPT": KEY_CLAIMS_KEPT,
    "BACKUP_KEPT_DAYS": BACKUP_KEPT_DAYS,
    "DEVICE_MESSAGES_BY_ONE_MAX": DEVICE_MESSAGES_BY_ONE_MAX,
    "DEVICE_MESSAGES_WAITING_MAX": DEVICE_MESSAGES_WAITING_MAX,
    "DEVICE_MESSAGES_REMEMBERED": DEVICE_MESSAGES_REMEMBERED,
    "DEVICE_MESSAGES_KEPT_DAYS": DEVICE_MESSAGES_KEPT_DAYS,
    "FORMER_IDENTITIES_MAX": FORMER_IDENTITIES_MAX,
    "ROSTER_EVENTS_MAX": ROSTER_EVENTS_MAX,
    "SEALED_MEMBERS_MAX": SEALED_MEMBERS_MAX,
    "SHARES_IN_FLIGHT_MAX": SHARES_IN_FLIGHT_MAX,
    "SLICES_KEPT_DAYS": SLICES_KEPT_DAYS,
    "SHARE_DEVICES_NAMED_MAX": SHARE_DEVICES_NAMED_MAX,
    "COMMITMENT_KEPT_MS": COMMITMENT_KEPT_MS,
    "PAYMENT_CALLS_KEPT_MS": 30 * DAY_MS,  # as long as commerce keeps its answers
}
_BODIES: dict[str, type[Body]] = {body.__name__: body for body in get_args(AnyBody)}


def _literal(value: bytes) -> str:
    return f"'\\x{value.hex()}'::bytea"


CHAT = FunctionFiles(
    FOLDER,
    enums=_ENUMS,
    constants=_CONSTANTS,
    others={
        "tag": lambda name: str(tag_of(_BODIES[name])),
        "packed": lambda name: _literal(msgspec.msgpack.encode(_BODIES[name]())),
        "packed_with_id": lambda name: _literal(msgspec.msgpack.encode((tag_of(_BODIES[name]), NIL)).removesuffix(NIL)),
    },
)
"""The functions of the chat's database."""
