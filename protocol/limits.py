"""Limits of the protocol itself: the same on every server, so that a client can rely on them.

Limits that an operator sets are in `config.toml`.
"""

from __future__ import annotations

PAYLOAD_BYTES_MAX = 60_000
SEALED_CONTENT_BYTES_MAX = 43_000
"""What a sealed message contains: its base64, and what else is in the ciphertext, fit into a payload."""
CONTENT_TYPE_CHARS_MAX = 128
REF_CHARS_MAX = 128
NAME_CHARS_MAX = 100
DESCRIPTION_CHARS_MAX = 1000
URL_CHARS_MAX = 2000
REACTION_BYTES_MAX = 1024
TOKEN_CHARS_MAX = 8192
POSITION_CHARS_MAX = 200
MEMBERS_PER_COMMAND_MAX = 1000
PRESENCE_SUBSCRIPTIONS_MAX = 500
HISTORY_EVENTS_MAX = 200
MISSED_CHANGES_MAX = 200
ROSTER_MEMBERS_MAX = 500
REACTIONS_PER_MESSAGE_MAX = 100
"""`later` of a `history_page` has the reactions to a message of at most so many people: those who reacted last."""
REPLY_BYTES_MAX = 262_144
"""No message of the server is larger, in either codec: a page that would be has fewer items, and `more` is true."""
RECEIPTS_PER_SYNC_MAX = 1000
STATE_MEMBERS_MAX = 100
"""In larger dialogs a `dialog_state` lists no members (use `roster`), and others' receipts and typing are not sent."""
SEND_UNIT_BYTES = 16_384
"""A pipelined command counts once against its rate, and once more for each so many bytes of the message."""
EARLY_MESSAGES_MAX = 10
"""Messages of a connection before `authenticated`; a refused one counts as two. One more closes the connection."""
BAD_MESSAGES_MAX = 20
"""Messages of a device that the server refuses as `malformed`, `unknown_command` or `wrong_state`. One more closes the
connection, also the next one of the device."""
BAD_MESSAGE_FORGIVEN_S = 10
"""After so many seconds one bad message counts no longer."""
VISIBLE_INTERVALS_MAX = 64
"""A person who was removed and came back more often may read the newest intervals of the dialog only."""
INVITATIONS_MAX = 100
"""A person has at most so many invitations, those that they declined included; the oldest declined ones go first."""
INVITATIONS_BY_ONE_MAX = 10
"""Of these, at most so many are from one inviter."""
N_MAX = 2**53 - 1
"""The largest number on the wire: what every JSON reader holds exactly."""
RETENTION_DAYS_MAX = 3650
TYPING_SHOWN_S = 10
"""For so long after a `typing_changed` a client shows that the member is writing."""
DEVICES_PER_PERSON_MAX = 10
"""A device log has at most so many devices at a time: a message in a sealed dialog costs one slice for each."""
DEVICE_LOG_ENTRIES_MAX = 1000
"""The last ones are for removals: a log that cannot grow must still be able to shrink the number of devices."""
DEVICE_LOG_ENTRY_BYTES_MAX = 1024
FORMER_IDENTITIES_MAX = 10
"""The device logs of so many identities that a person had before can be read: clients check what these have signed."""
IDENTITIES_AHEAD_MAX = 100
"""A new identity has a `generation` at most so much above the last that the server has, which a restore may have lost
some after: nobody who is signed in for a moment leaves a person without generations."""
KEY_OBJECT_BYTES_MAX = 2048
"""Of device keys and cross-signing keys, each as canonical JSON."""
KEY_ID_CHARS = 11
ONE_TIME_KEY_BYTES_MAX = 512
"""Of one-time keys and fallback keys, each as canonical JSON."""
ONE_TIME_KEYS_PER_COMMAND_MAX = 50
ONE_TIME_KEYS_MAX = 100
"""The server keeps at most so many one-time keys of a device."""
KEY_CLAIMS_PER_COMMAND_MAX = 100
KEY_CLAIMS_KEPT = 16
"""The same claim gets the same answer while its number is among the so many below the highest of its device."""
PEOPLE_PER_COMMAND_MAX = 50
DEVICE_LOG_ENTRIES_PER_COMMAND_MAX = 20
BACKUP_VALUE_BYTES_MAX = 1024
"""Of one thing that is sealed under the recovery key: the identity, the keys of a session, whom its person trusts."""
BACKUP_KEY_BYTES = 32
BACKUP_VALUES_PER_COMMAND_MAX = 40
BACKUP_VALUES_PER_PAGE_MAX = 100
BACKUP_KEPT_DAYS = 60
"""The backup of an identity that another one has followed is kept for so many days after it was last added to."""
SLICES_PER_COMMAND_MAX = 24
SLICE_BYTES_MAX = 3072
"""Of a slice: the keys of a session, encrypted to one device."""
DEVICE_MESSAGES_PER_COMMAND_MAX = 20
DEVICE_MESSAGES_BY_ONE_MAX = 50
"""So many messages of one person may wait for a device."""
DEVICE_MESSAGES_WAITING_MAX = 500
"""So many messages may wait for a device, those of its own person not counted."""
DEVICE_MESSAGES_KEPT_DAYS = 30
"""A message to a device that it has not confirmed is kept for so many days."""
DEVICE_MESSAGES_REMEMBERED = 64
"""The same `message` of a device is stored once while it is among the last so many."""
SHARES_IN_FLIGHT_MAX = 16
"""A device may have uploaded slices of so many shares that no event has named yet."""
SHARE_DEVICES_NAMED_MAX = 100
"""`slices_uploaded` names at most so many devices in each of its lists."""
SLICES_KEPT_DAYS = 60
"""A slice that its device has not confirmed is kept for so many days."""
SEALED_MEMBERS_MAX = 1000
"""A sealed dialog has at most so many members: who writes hands keys to each of their devices."""
REPORT_REASON_CHARS_MAX = 1000
STEP_UP_CHARS_MAX = 4096
"""Of the platform's own proof that a person approves a payment."""
COMMITMENT_KEPT_DAYS = 30
"""A sealed message can be reported for so many days after it was erased, by those who had read it."""
ROSTER_VIEWS_MAX = 64
"""A change of the members that its author signed before so many later ones is not believed: sign it again."""
ROSTER_EVENTS_MAX = 100
"""An invitation into a sealed dialog ends when so many changes of its members and their devices have come since."""
