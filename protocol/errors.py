"""The catalogue of error codes: what a refused command is answered with.

A code never changes its meaning. `temporary` says whether the same command, sent again unchanged
(after `retry_after_s` where one is given), may succeed.
"""

from __future__ import annotations

import enum


class ErrorCode(enum.StrEnum):
    """Stable codes of refused commands and HTTP requests."""

    # form
    MALFORMED = "malformed"
    UNKNOWN_COMMAND = "unknown_command"
    WRONG_STATE = "wrong_state"
    INVALID_ARGUMENT = "invalid_argument"
    TOO_LARGE = "too_large"
    # identity
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    SIGNED_OUT = "signed_out"
    SUSPENDED = "suspended"
    WRONG_PERSON = "wrong_person"
    CODE_WRONG = "code_wrong"
    CODE_EXPIRED = "code_expired"
    NOT_ALLOWED = "not_allowed"
    # dialogs and timelines
    DIALOG_NOT_FOUND = "dialog_not_found"
    PRINCIPAL_NOT_FOUND = "principal_not_found"
    EVENT_NOT_FOUND = "event_not_found"
    ROLE_REQUIRED = "role_required"
    BLOCKED = "blocked"
    MEMBERS_BOUND = "members_bound"
    ALREADY_MEMBER = "already_member"
    NOT_MEMBER = "not_member"
    LAST_ADMIN = "last_admin"
    FIXED_ROSTER = "fixed_roster"
    # numbering
    CONFLICT = "conflict"
    NUMBER_PASSED = "number_passed"
    STALE = "stale"
    # capacity
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"

    @property
    def sentence(self) -> str:
        """What to do about it, for people."""
        return _SENTENCES[self]

    @property
    def temporary(self) -> bool:
        """Whether the same command may succeed later."""
        return self in _TEMPORARY


_TEMPORARY = frozenset({ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE})

_SENTENCES: dict[ErrorCode, str] = {
    ErrorCode.MALFORMED: "The message does not match its type; compare it with the reference of the protocol.",
    ErrorCode.UNKNOWN_COMMAND: "This server knows no such command; check the tag and the subprotocol version.",
    ErrorCode.WRONG_STATE: "This command is not allowed now; authenticate first, then sync, then the rest.",
    ErrorCode.INVALID_ARGUMENT: "A field has a value that is not allowed; the message names it.",
    ErrorCode.TOO_LARGE: "The message is larger than the stated limit; send less at once.",
    ErrorCode.TOKEN_INVALID: "The access token is not one of ours or of a configured issuer; sign in again.",
    ErrorCode.TOKEN_EXPIRED: "The access token has expired; get a new one with the refresh token.",
    ErrorCode.SIGNED_OUT: "This sign-in has ended; sign in again.",
    ErrorCode.SUSPENDED: "This account is suspended or deleted; contact the platform.",
    ErrorCode.WRONG_PERSON: "The token names another person, device or sign-in than this connection; open a new one.",
    ErrorCode.CODE_WRONG: "The code is not right; check it, or ask for a new one.",
    ErrorCode.CODE_EXPIRED: "The code has expired or was used up; ask for a new one.",
    ErrorCode.NOT_ALLOWED: "This account may not do that.",
    ErrorCode.DIALOG_NOT_FOUND: "There is no such dialog among yours.",
    ErrorCode.PRINCIPAL_NOT_FOUND: "There is no such person, bot, business or service here.",
    ErrorCode.EVENT_NOT_FOUND: "There is no such message in this dialog that you may change.",
    ErrorCode.ROLE_REQUIRED: "Only an admin of this dialog may do that.",
    ErrorCode.BLOCKED: "One of the two has blocked the other.",
    ErrorCode.MEMBERS_BOUND: "The number of members would leave the bounds of this type of dialog.",
    ErrorCode.ALREADY_MEMBER: "They are a member of this dialog already.",
    ErrorCode.NOT_MEMBER: "They are not a member of this dialog.",
    ErrorCode.LAST_ADMIN: "A dialog keeps at least one admin; promote somebody else first.",
    ErrorCode.FIXED_ROSTER: "The members of this type of dialog never change.",
    ErrorCode.CONFLICT: "This number was used for another message; use a new, higher one.",
    ErrorCode.NUMBER_PASSED: (
        "This number was passed over or decided long ago; look for it in the timeline, "
        "and if it is not there send again under a new number."
    ),
    ErrorCode.STALE: (
        "The members changed since this was made; take the dialog's new `keys_seq` and send again "
        "under the same number, before anything later."
    ),
    ErrorCode.RATE_LIMITED: "Too much at once; wait `retry_after_s`, then send again.",
    ErrorCode.UNAVAILABLE: (
        "The server cannot store anything right now; wait `retry_after_s`, then send the same again "
        "under the same number."
    ),
    ErrorCode.INTERNAL: "The server failed at this and logged why; report it to the platform.",
}
