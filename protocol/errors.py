"""The catalogue of error codes: why a command or an HTTP request was refused, and what to do.

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
    CONSENT_REQUIRED = "consent_required"
    SIGNATURE_REQUIRED = "signature_required"
    INVITATIONS_BOUND = "invitations_bound"
    DIALOGS_BOUND = "dialogs_bound"
    # numbering
    CONFLICT = "conflict"
    NUMBER_PASSED = "number_passed"
    STALE = "stale"
    EARLIER_FIRST = "earlier_first"
    # keys
    KEYS_REFUSED = "keys_refused"
    KEYS_PASSED = "keys_passed"
    KEYS_BOUND = "keys_bound"
    KEYS_MISSING = "keys_missing"
    LOG_PASSED = "log_passed"
    # messages to devices
    MESSAGES_BOUND = "messages_bound"
    # reports
    REPORT_REFUSED = "report_refused"
    REPORTS_OFF = "reports_off"
    BACKUP_BOUND = "backup_bound"
    # money
    INSUFFICIENT = "insufficient"
    OVER_LIMIT = "over_limit"
    CHANGED = "changed"
    PROOF_REQUIRED = "proof_required"
    PAYMENT_NOT_FOUND = "payment_not_found"
    PAYMENT_STATE = "payment_state"
    PAYMENT_EXPIRED = "payment_expired"
    AMOUNT_REFUSED = "amount_refused"
    CURRENCY_REFUSED = "currency_refused"
    OWN_PAYEE = "own_payee"
    WALLET_NOT_FOUND = "wallet_not_found"
    WALLET_CLOSED = "wallet_closed"
    QUOTE_REFUSED = "quote_refused"
    KEY_REUSED = "key_reused"
    # personal data
    RECORD_NOT_FOUND = "record_not_found"
    RECORDS_BOUND = "records_bound"
    ERASURE_REFUSED = "erasure_refused"
    PERSON_ERASED = "person_erased"
    # shops
    BUSINESS_NOT_FOUND = "business_not_found"
    BUSINESS_CLOSED = "business_closed"
    PRODUCT_NOT_FOUND = "product_not_found"
    SKU_TAKEN = "sku_taken"
    LAST_OWNER = "last_owner"
    SHOP_BOUND = "shop_bound"
    CART_EMPTY = "cart_empty"
    SHIPPING_REFUSED = "shipping_refused"
    OUT_OF_STOCK = "out_of_stock"
    ORDER_NOT_FOUND = "order_not_found"
    ORDER_STATE = "order_state"
    GATEWAY_REFUSED = "gateway_refused"
    SOURCE_REFUSED = "source_refused"
    INTENT_NOT_FOUND = "intent_not_found"
    # capacity
    RATE_LIMITED = "rate_limited"
    DAILY_LIMIT = "daily_limit"
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


_TEMPORARY = frozenset({ErrorCode.EARLIER_FIRST, ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE})

_SENTENCES: dict[ErrorCode, str] = {
    ErrorCode.MALFORMED: "The message does not match its type; compare it with the reference of the protocol.",
    ErrorCode.UNKNOWN_COMMAND: "This server does not know the command; check its tag and the subprotocol version.",
    ErrorCode.WRONG_STATE: (
        "This command is not allowed in this state; send `authenticate` first, then `sync`, then other commands."
    ),
    ErrorCode.INVALID_ARGUMENT: "A field has a value that is not allowed; correct the field that the message names.",
    ErrorCode.TOO_LARGE: "The message is larger than the limit; send a smaller one.",
    ErrorCode.TOKEN_INVALID: "The access token is not valid, or its issuer is not configured here; sign in again.",
    ErrorCode.TOKEN_EXPIRED: "The access token has expired; get a new one with the refresh token.",
    ErrorCode.SIGNED_OUT: "This sign-in has ended; sign in again.",
    ErrorCode.SUSPENDED: "This account is suspended or deleted; contact the platform.",
    ErrorCode.WRONG_PERSON: "The token belongs to another person, device or sign-in; open a new connection for it.",
    ErrorCode.CODE_WRONG: "The code is wrong, expired, used, or tried too often; check it, or request a new one.",
    ErrorCode.NOT_ALLOWED: (
        "This account has no permission for this, or the message must be kept, or a sealed dialog would become public; "
        "do not retry."
    ),
    ErrorCode.DIALOG_NOT_FOUND: "You are not a member of such a dialog, or it was deleted; check its id.",
    ErrorCode.PRINCIPAL_NOT_FOUND: "There is no such person, bot, business or service here; check the id or number.",
    ErrorCode.EVENT_NOT_FOUND: "There is no such message in this dialog that you may change; check its number.",
    ErrorCode.ROLE_REQUIRED: "Only an admin of this dialog may do this; ask one of them.",
    ErrorCode.BLOCKED: "One of you has blocked the other; end your block, or do not write to them.",
    ErrorCode.MEMBERS_BOUND: "This type of dialog allows fewer members, or needs more; change the list of members.",
    ErrorCode.ALREADY_MEMBER: "They are already a member of this dialog; leave them out.",
    ErrorCode.NOT_MEMBER: "They are not a member of this dialog; fetch its members again.",
    ErrorCode.LAST_ADMIN: "A dialog keeps at least one admin; promote somebody else first.",
    ErrorCode.FIXED_ROSTER: "The members of this type of dialog never change; create another dialog.",
    ErrorCode.CONSENT_REQUIRED: (
        "Somebody in the list lets only people they know add them, or nobody; leave them out, then `invite` them."
    ),
    ErrorCode.SIGNATURE_REQUIRED: (
        "Nobody comes to read or decide in a sealed group without a signature; sign this on a device that has keys, or "
        "create the group with `mode` open."
    ),
    ErrorCode.INVITATIONS_BOUND: "This person has too many invitations, in all or from you; wait until they answer.",
    ErrorCode.DIALOGS_BOUND: "Somebody, or you, is in as many dialogs as one person may be; leave one first.",
    ErrorCode.CONFLICT: "This `n` was used for another message; use a new, higher one.",
    ErrorCode.NUMBER_PASSED: (
        "A higher `n` of this device is stored already; this one is not and never will be: send again with a new `n`."
    ),
    ErrorCode.STALE: (
        "Who may read has changed since, or lacks the keys; share them at the new `keys_seq` of the dialog, then send "
        "again with the same `n`, before anything later."
    ),
    ErrorCode.EARLIER_FIRST: (
        "An earlier number of this dialog was refused for now; send `awaited_n` again, or give it up with `skip`, "
        "then send this one again with the same `n`."
    ),
    ErrorCode.KEYS_REFUSED: "These keys, or this entry of the log, cannot be believed; correct what the message names.",
    ErrorCode.KEYS_PASSED: (
        "This device has other keys of this generation, or a higher generation: its store is a copy or was lost; make "
        "new keys with a generation above `key_generation` of `synced`."
    ),
    ErrorCode.KEYS_BOUND: "The device has as many one-time keys here as it may; upload more when some are claimed.",
    ErrorCode.KEYS_MISSING: "The device has no keys here; upload them first.",
    ErrorCode.LOG_PASSED: (
        "The device log is not the one that this goes on from; read it with `read_devices`, then make the entry anew."
    ),
    ErrorCode.MESSAGES_BOUND: (
        "As many messages wait for one of these devices as may, in all or from you; wait until it was connected."
    ),
    ErrorCode.REPORT_REFUSED: (
        "This is not what the author of the message committed to, or it was erased too long ago: nothing is proved."
    ),
    ErrorCode.REPORTS_OFF: (
        "This server takes no reports; its operator makes a key with `tchat reports key` and sets "
        "`reports.moderators_key`."
    ),
    ErrorCode.INSUFFICIENT: "The wallet has less than this available; top it up, then pay again with a new key.",
    ErrorCode.OVER_LIMIT: "This is more than this person may pay in a day or month; pay less, or wait until it ends.",
    ErrorCode.CHANGED: "This is not what was shown; read it again, show it, and approve or change what it says now.",
    ErrorCode.PROOF_REQUIRED: (
        "This needs a signature of the device, or the platform's own check of the person; add a `proof`."
    ),
    ErrorCode.PAYMENT_NOT_FOUND: "You are no party to such a payment; check its id.",
    ErrorCode.PAYMENT_STATE: "The payment is in a state in which this cannot be done; read it again.",
    ErrorCode.PAYMENT_EXPIRED: "The payment has expired, and what was held is back; make a new one.",
    ErrorCode.AMOUNT_REFUSED: "The amount must be 1 to 10^15 minor units, and not more than is left; correct it.",
    ErrorCode.CURRENCY_REFUSED: "The currency is unknown here, has no rate, or is not that of the wallet; change it.",
    ErrorCode.OWN_PAYEE: "Nobody pays themselves; name another payee.",
    ErrorCode.WALLET_NOT_FOUND: "There is no such wallet, or it is not yours; check its id and currency.",
    ErrorCode.WALLET_CLOSED: "The wallet of one of the parties is closed; contact the platform.",
    ErrorCode.QUOTE_REFUSED: "The quote was used, has expired, or is for another exchange; request a new one.",
    ErrorCode.KEY_REUSED: "This idempotency key was used with another request; use a new key for a new request.",
    ErrorCode.RECORD_NOT_FOUND: "You have no such address, legal record, export or erasure; check its id.",
    ErrorCode.RECORDS_BOUND: "You keep as many of these as one person may; delete one first.",
    ErrorCode.ERASURE_REFUSED: (
        "Money or a business of this person is still open, as the message names it; settle it, then ask again with a "
        "new key."
    ),
    ErrorCode.PERSON_ERASED: "This person is erased here, for good; nothing can be stored or read for them.",
    ErrorCode.BUSINESS_NOT_FOUND: "There is no such business here, or you are not of its staff; check its id.",
    ErrorCode.BUSINESS_CLOSED: "The business takes no orders now; ask it, or try again another day with a new key.",
    ErrorCode.PRODUCT_NOT_FOUND: "There is no such product or variant, or it is not sold now; take it out of the cart.",
    ErrorCode.SKU_TAKEN: "Another variant of this business has this article number; choose another one.",
    ErrorCode.LAST_OWNER: "A business keeps at least one owner; give the role to somebody else first.",
    ErrorCode.SHOP_BOUND: "There are as many of these as there may be, or the person has as many; remove some first.",
    ErrorCode.CART_EMPTY: "The cart has no lines; put something into it first.",
    ErrorCode.SHIPPING_REFUSED: (
        "This needs a way of shipping that the business offers in this currency; read its shipping options, name one."
    ),
    ErrorCode.OUT_OF_STOCK: "There is less of this than you ask for; ask for less, or wait until there is more.",
    ErrorCode.ORDER_NOT_FOUND: "There is no such order that is yours or of your business; check its id.",
    ErrorCode.ORDER_STATE: "The order is in a state in which this cannot be done; read it again.",
    ErrorCode.GATEWAY_REFUSED: "No payment gateway here has this method and currency; choose another.",
    ErrorCode.SOURCE_REFUSED: "This payment cannot be paid back to what paid it; refund it without `to`.",
    ErrorCode.INTENT_NOT_FOUND: "You have no such top-up, withdrawal or item of suspense; check its id.",
    ErrorCode.BACKUP_BOUND: "The backup has as many values as one person may keep here; nothing is added to it.",
    ErrorCode.RATE_LIMITED: "Too many requests; wait `retry_after_s`, then send again.",
    ErrorCode.DAILY_LIMIT: (
        "You have begun as many dialogs, or added and invited as many people, as one person may in a day; "
        "try again after `retry_after_s`, with a new `n`."
    ),
    ErrorCode.UNAVAILABLE: (
        "The server cannot serve this now; wait `retry_after_s`, then send the same again, "
        "a numbered command with the same `n`."
    ),
    ErrorCode.INTERNAL: "The server failed and logged why; report it to the platform.",
}
