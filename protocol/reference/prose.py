"""What the reference of the protocol says in sentences; `protocol.reference.page` adds what is generated."""
# ruff: noqa: E501 - a row of a table cannot be wrapped

from __future__ import annotations

OPENING = """\
# The wire protocol, version 1

Generated from `protocol/` by `make docs`; a test compares. This page is all that is needed to write a client.

A **principal** is a member or an author: a person, bot, business or service. A **device** is one installation of a
client. A **dialog** has a **timeline**: its events, numbered by **`seq`** from 1 without holes. A client sends
**commands**; the server sends **replies** to them, and **events** without a request.

**The server does not look into payloads. Until a client encrypts them, they are what that client puts there: not
encrypted.**

## Connecting

One websocket (RFC 6455) at `/v1/ws`, with exactly one of these subprotocols in `Sec-WebSocket-Protocol`:

| subprotocol | messages | for |
|---|---|---|
| `tchat.v1.msgpack` | binary, MessagePack arrays | clients |
| `tchat.v1.json` | text, JSON objects | browsers, debugging |

One websocket message carries one command, reply or event. The server never agrees to compression. A message of the
wrong kind (text under msgpack, binary under json) closes the connection.

### Getting an access token

The HTTP API on the same port issues access tokens; `/v1/docs` describes all of it. A first sign-in:

```text
POST /v1/sign-in/codes   {"phone_number": "+6591234567"}
                         202 {"expires_in_s": 300, "code_id": "..."}; a code goes to that phone (a development server logs it)
POST /v1/sign-in         {"phone_number": "+6591234567", "code": "123456", "code_id": "...", "display_name": "Ann",
                          "device": {"platform": "web", "app_version": "1.0"}}
                         200 {"principal", "device", "sign_in", "access_token", "expires_in_s", "refresh_token"}
POST /v1/tokens/refresh  {"refresh_token": "..."}
                         200 the same fields, with a new access token and a new refresh token
POST /v1/people/find     {"phone_number": "+6598765432"}, header Authorization: Bearer and the access token
                         200 {"principal", "display_name", "avatar_url"}: the person to create a dialog with
```

`code_id` says that it is the same client that requested the code; without it, the code is valid only from the same
network. Keep `device`, and send it as `device.device_id` when signing in again: it is the same installation. Refresh the access
token before `expires_in_s` is over. Store the new refresh token before using the new access token, and never use an old
refresh token again, except when the answer to it was lost: within a minute it gives the same new one. A refusal is `{"code", "message", "retry_after_s"}` with the [codes](#error-codes) below.

### Layout under `tchat.v1.msgpack`

Every struct is an array of its fields in the order of the tables below. Commands, replies, events and bodies begin with
their **tag** (an integer), then the fields; other structs have no tag. Ids are 16 bytes (`bin`), payloads `bin`, text
`str` (UTF-8), enumerations their integer, `null` is `nil`, integers are MessagePack integers (a float such as `1.0` is
refused). Fields at the end that have a default may be left out.

### Layout under `tchat.v1.json`

Every struct is an object with the names of its fields; commands, replies, events and bodies have `"tag"` with the name of
their type. Ids are canonical UUID text in lower case, other bytes base64 (RFC 4648 section 4, with padding),
enumerations their name in lower case. Fields that have a default may be left out. Integers never exceed 2^53 - 1.

### Compatibility

Tags, names, codes and meanings never change. Fields are only ever appended, with defaults: **ignore array elements and
object fields that you do not know**. Skip replies and events with an unknown tag. An event with an unknown body counts as
received; treat the body as `erased`. An unknown error code is a permanent refusal; an unknown close code means
reconnect. The server answers an unknown command with `unknown_command`.
"""

HANDSHAKE = """\
## From connecting to live

1. Send `authenticate` with an access token. The reply is `authenticated`: the principal and device of this session, and
   what the server expects.
2. Send `sync` with the `position` that the client kept (empty the first time) and its own `receipts`. The reply is `synced`.
3. Catch-up follows: for every dialog that changed, a `dialog_state` and then its `timeline_event` events, in order of
   `seq`. Some of them may be known already. Commands may be sent from `synced` on.
4. `caught_up` ends catch-up, with a new position. From here on events come as they happen. What catch-up has brought may
   come once more, where the server heard of it from another node only then.

Every command with an `id` above 0 gets one reply with the same `id`. With `id` 0 it gets neither `done` nor `failed`: that
is for `heartbeat`, `receipt` and `typing`. Only a message in which the server finds no `id` is refused with `id` 0. Choose
ids above 0 that no unanswered command of the connection uses. The server answers commands in order, except pipelined ones
(the [table](#commands) below names them): many may be under way, and each is answered as soon as it is decided. So are
`pay` and `read_payment`, which another service answers. A refusal (`failed`) changes nothing.

A connection has `early_messages_max` messages and a few kilobytes (16 KiB by default) until it is `authenticated`: wait
for that before sending more. Send each message in one frame, and a websocket ping every few seconds at most: pings and
fragments have a rate, and above it the server closes with `RATE_LIMITED`.

A client may send `authenticate` with a newer token at any time; the connection closes when its token expires. A device
has one connection: the newest wins, and the server closes the older one with `REPLACED`. The newest is the one whose
`sync` the server reads last. So after a cut an older connection of the same client may win, when its `sync` was still on
the way. A client that is replaced within 30 seconds of its connect therefore reconnects, up to three times in a row; one
that is replaced later, or a fourth time, stops, because another client uses the device.

The state of a session says which commands are allowed; any other is refused with `wrong_state`. A session is
`connected` when the websocket opens, `authenticated` after `authenticate`, and `live` from `synced` on.
"""

RESUME = """\
## Resuming without a loss

**Position.** An opaque text. Keep the one of `caught_up`, and of every `heartbeat_reply` that has one, and send it in the
next `sync`. Replace the kept position only when every event that came before the new one is applied.

**Recovered.** `synced.recovered` true: the client's state stays valid, and everything that it lacks follows. False (too
far behind, another epoch, a position that is too old or unknown): drop the state of *all* dialogs. A window of the
newest events of each dialog follows; fetch older ones with `history`. Drop your own high-water marks, too: in another
epoch their numbers may be those of other events. While the server cannot read old events, a window
has what it can read, perhaps nothing (`first_seq` is one past `seq`), and `history` is `unavailable` for the rest. A
second `dialog_state` of a dialog then replaces the first: only its `first_seq` is higher.

**Ordering.** Per dialog keep `have`, the highest `seq` up to which every event is applied.

- `timeline_event` with `seq <= have`: drop it. `seq == have + 1`: apply it. Above that: keep it aside, and request
  `history(from_seq=have+1, to_seq=seq-1, newest_first=false)` until the gap is closed. Numbers outside
  of `visible` are no gap: catch-up and pages step over them.
- `dialog_state` with `first_seq > have + 1`: the events before `first_seq` do not come, because they are outside the window
  or not visible; set `have = first_seq - 1`.
- The server sends a slow connection back to catch-up without notice: a `dialog_state` comes, then the events from where
  it stopped.

**Joining and leaving.** When the client's principal joins or rejoins a dialog, its `dialog_state` comes first. The event
of their own removal or leaving is the last one that comes. `visible` lists the intervals of `seq` that they may read:
after the end of one, the next event is the first of the next one. Who returns gets `missed_changes` after the
`dialog_state`: what was done meanwhile to messages that they may see. Apply its events like those of `history`; they
move neither `have` nor counters.

**Folding.** Of several edits of a message, the one with the highest `seq` counts. Of one person's reactions to it, the
newest counts, and an empty one withdraws it. `deleted` removes payload, header, edits and reactions. In a timeline that
is read later, a deleted message and its edits and reactions are `erased`; the `deleted` event remains. A `dialog_state`
already contains the membership and settings events up to its `seq`. A page of `history` lists in `later` the edits,
deletions and reactions that came after the page for messages in it: apply both lists in the same way. It has all of
them, but of a message with very many: then the newest edit, and the newest reaction of each of the people who reacted
last, at most `reactions_per_message_max` and as many as fit.

**Pages.** No message of the server is larger than `reply_bytes_max`, in either codec. A page of history or of members that
would be is shorter, and `more` is true: ask for the rest with the numbers, or the id, after those that came.

**What ends by its age.** The server erases a message at the `expires_at_ms` of the header that it was posted with (that
of an edit does not count), and `message_retention_days` after its `at_ms` if the settings of its dialog say so; the table
of kinds says what is kept longer, and what ends earlier. Whatever is due first counts, and what hangs on the message ends
with it. No event announces it: a client computes the same times and hides the message. A client that reads it later
gets `erased`. Numbers and counters stay.

**What ends with a person.** When a person who asked to be deleted is erased, a month later by default, so is all that
they wrote in any dialog: messages, edits, reactions. No event announces it: a client that reads it later gets
`erased`, with the id of its author. That they were members stays.
"""

NUMBERS = """\
## Sending once, and in order

Every command that appends to a timeline carries `n`: a number that **grows per device, over all dialogs**, and is
never used again; gaps are fine. `(dialog, device, n)` is its idempotency key. A device keeps its counter and its
unanswered commands on disk: it stores a command *before* sending it, and removes it when the answer is final.

| answer | meaning | do |
|---|---|---|
| `acked` | durable, at `seq` | done; a retry gets the same answer |
| `failed` `earlier_first` | an earlier number of this dialog, `awaited_n`, was refused for now | send that one again, or `skip` it, then this one with the same `n` |
| `failed`, other temporary code | not accepted now | wait `retry_after_s`, then send the same `n` again, and after it the later commands of this dialog |
| `failed` `stale` | members or their devices changed since `header.keys_seq` | set `header.keys_seq` to `failed.keys_seq`, in later commands of this dialog, too (encrypt again), then send them in order, each with its `n` |
| `failed` `number_passed` | a higher `n` is stored; this one is not, and never will be | send again with a new `n` |
| `failed`, any other code | refused for good | show it to the person; later commands go on |
| none, the connection was lost | unknown | after the next `synced`, send everything unanswered again, in order of `n`, unchanged |

After `unavailable` or `stale` the dialog is **held** on this connection: the server refuses every later number of that
device in it with `earlier_first` until the refused `n` is sent again. This keeps a sender's order. Wait until everything
under way in that dialog is answered, then start again at the refused one; or give it up with `skip`. The
dialog of a command is here the one to which it appends (the [table](#commands) says it): for `mute`, `block`, `unblock`
and `decline` the own `self` dialog, for `invite` that of the invited person. A hold ends with its connection. After
`unavailable` the refused command may still turn out to be stored. After any other refusal it is not, unless an earlier
connection sent it to another node of the server, where it still waits: if it is stored there, its event says so. An
event of the own device with that `n` that arrives before the ack counts as the ack: if the server then awaits that `n`,
`skip` it.
The server works on at most `in_flight_max` pipelined commands of a connection at once; further ones wait, like those
above a rate.

**Rates.** `authenticated` names how many pipelined and other commands of this device the server takes, on average and at
once; all devices of a principal together have a few times as much. A rate belongs to the device, not to the connection.
What is above it is not refused: it waits in the server, in order, and the server stops reading when too much waits. So
answers may come late: wait for them, and do not repeat a command on the same connection.

**`keys_seq`** of a dialog is the `seq` of the last event that changed who must have keys, 0 before: `dialog_state` carries
it, and a later `members_added`, `member_removed`, `member_left` or `devices_changed` raises it to its own `seq`. Put it
into the header of every message, edit and reaction: a sealed dialog refuses as `stale` what was encrypted at another one.

**In the clear** a sealed dialog takes from members only a reaction that withdraws. Everything else has a `session` and a
`commitment` in its header, and no `content_type`; else it is `invalid_argument`. What was encrypted names its `n` and
`keys_seq`: after `number_passed` and `stale` encrypt it again.

**A message brings its keys.** A `session` is accepted only if the server has seen it shared with everybody who must have
it, at the present `keys_seq`; else it is `stale`. Upload the slices first
(`upload_slices`, with `more` in all but the last one, until `complete`), then name the `share` in the header. The slices
go out with the first accepted event that names it: a device gets its own as `key_slices` before that event. A page of `history` may have events that are still on their
way: before it come the newest keys of the dialog that are not confirmed, also those that came before. It answers
with `confirm_slices` once it has stored the keys, after a random time of up to two seconds: in a large group all get
theirs at the same moment. Until then they come again with each sync, before all else, whatever `position` says. A slice that came before is the same bytes under the same `number`. Name the share in every later event
of the session until one of them is acked. From then on events of the same `session` need no share until `keys_seq` changes. An addition then needs a share of the same session with one slice
for each new device. Once somebody who was handed the session may not read any more (`extra`), it is of no use: begin
another one. So `stale` with a `keys_seq` that the client knows already means: share again, then encrypt and send again.

**Messages from device to device** are outside of dialogs and timelines: devices verify each other with them, and hand
keys on. `send_to_device` stores them; each comes as `from_device`, at once or after the next sync, until it is confirmed.
`body` is canonical JSON, `{"content":...,"type":...}`, as Matrix has to-device messages.

**The backup** is what a person's devices add with `put_backup`, each value sealed under the recovery key, and what a
fresh device reads with `read_backup` when its person has entered that key: the identity first, then sessions.

The `acked` of a command comes before or after its own `timeline_event`, and that of a `create` before or after the
`dialog_state` of the new dialog.

**Ids of dialogs are derived**, so that a retry creates no second dialog. The id is BLAKE2b with a digest of 16 bytes
over the parts below in order (16 bytes each, unless stated), personalised with the purpose (ASCII, zero bytes up to 16),
with the version (8) and variant bits of a UUID set. A client that does not derive ids waits for `acked`, which names the
dialog.

| dialog | purpose | parts |
|---|---|---|
| `self` | `self` | the principal |
| direct | `direct` | both principals, the smaller first |
| others | `created` | the creator's device, `n` as 8 bytes, big endian |

To check an implementation:
"""

CONSENT = """\
## Who may add whom

A person says in their profile (`PATCH /v1/me`, field `who_may_add`) who may add them to groups and channels: `everybody`;
`known`, those with whom they began a direct dialog or to whom they wrote in one; or `nobody`. Until they choose, the
server's setting holds. If somebody in the list of a `create` or `add` does not let the author add them, it is refused
with `consent_required` and nobody is added: leave them out, and `invite` each. A direct dialog needs no consent: that is
how strangers meet, and `block` ends it.

An invitation is the event `invited` in the `self` dialog of the invited person, whose `dialog_state` lists the open ones
in `invitations`. `accept` makes them a member: the `dialog_state` of the dialog comes, on all their devices. `decline`
appends `declined`; the inviter is not notified, and further invitations into that dialog do not reach the person. Fold it
so: `invited` opens the invitation into its `dialog`; `declined`, or a `dialog_state` of that dialog with `member` true,
ends it; a `dialog_state` of the `self` dialog replaces all that came up to its `seq`. The inviter may have lost their role
meanwhile: then `accept` is refused with `dialog_not_found`, and the client offers to decline.

What one person may begin, add and invite in a day is bounded by settings of the server, over all devices. Above it the
refusal is `daily_limit`. It is definite, so later commands of the same dialog go on; `retry_after_s` says when a new
command may succeed.
"""

KEYS = """\
## Keys of devices

Formats are Matrix'; ids in them are `@<principal>:tchat` and `<device>`, each id as 32 hexadecimal digits. Every object
is canonical JSON (Matrix specification, appendix) without fields that are not named here, and the server checks what it
can: form, owner, keys that are zero or of low order, signatures. What it refuses as `keys_refused` no client could
believe. **Check all of it again**: the server's word makes nobody a device of anybody.

**Uploading.** `upload_keys` shows the `device_keys` object, signed by the device itself, and hands in `signed_curve25519`
objects: one-time keys, and a fallback key (`"fallback":true`). Ids grow: a key whose id is not above all before it is
passed over, so after a lost answer upload the same again. Upload more when `one_time_keys` of `keys_uploaded` or of
`synced` is low, and a new fallback key weekly and when `fallback_used` is true. A device whose store was lost makes new
keys with a higher `generation`; one whose store is a copy learns it from `synced` (`n_max`, `key_generation`). After a
restore of the server's database `synced` says 0 one-time keys: those from before are never given out again.

**Claiming.** `claim_keys` gives one key of each device, of members of a dialog that the claimer is in, too. `claim` counts
by one for each device and never falls: store it with its devices before sending. When no answer came, send the same
again: it gives the same keys. The server knows a claim among the last `key_claims_kept` of its device; below, and with a
number that was passed over, the refusal is `number_passed`: claim under a new one. Above a rate of the claimer or of the
device, and when no one-time key is left, `fallback` is true: many may have got that key. No rate refuses a claim.

**The device log** says which devices are a person's: entries signed by their master key, each naming the hash of the one
before (`protocol/device_log.py` has the format). Its first entry starts an identity; the entries of the identity before
can still be read then: `read_devices` gives the rest of an older `generation` that it is asked for, and the newest when
there is no rest. `append_device_log` takes entries that follow; those that are there already are passed over. Of two
devices that append at once one is refused with `log_passed`: read the log, make the entry anew. A device that is added
has uploaded the same keys before. A device that is removed is signed out, and its keys go, like those of any device
whose sign-in ends. `put_identity` shows the cross-signing keys of the identity whose log there is. `read_devices` tells
head and length of the log, what follows on the entries that the client has, the identity, and the device keys. A log that
is shorter than one seen before, or does not go on from it, is a lie or a restore: its owner's client, whose log is
longer, appends what is missing, with the same bytes.

**Rosters.** In sealed dialogs creation, additions, invitations and promotions are signed (`protocol/roster.py` has the
formats), and every client folds the members from the events by itself. The server refuses what has no signature, as
`signature_required`, and checks none: clients do. Direct and own dialogs need no signature. `logs` of `dialog_created` and `members_added`, and
`devices_changed`, say how far the device logs of members go at that place; the server writes `devices_changed` a moment
after a log has grown. `keys_seq` of a dialog is the number of the last event that changed who must have keys.
A newcomer, who sees nothing older, asks `read_roster_at`: the members at the `keys_seq` that is signed in the event that
brought them, which hash to the signed `view`, and the changes from there to that event.
"""

SEALED = """\
## What is sealed

`frame(...)` is each part after its length (4 bytes, big endian). Numbers in it have 8 bytes, big endian; roles, types and
modes one; texts in quotation marks are ASCII; ids, keys and hashes are their bytes. In canonical JSON base64 is without
padding.

**A message, edit or reaction.** `payload` is a Megolm message, its bytes and not their base64, and `header.session` the
session's id, decoded. The plaintext is canonical JSON, `{"content":{...},"room_id":"!<dialog>:tchat","type":"tchat.event"}`
(the three outer fields may be in the order of Matrix' libraries, too: type, content, room_id). Its content has exactly these
fields:

| field | value |
|---|---|
| `author`, `device`, `n` | whose it is: `@<principal>:tchat`, `<device>`, and the number of the command |
| `tag`, `kind` | the tag of the [body](#bodies): 1, 2 or 4; the number of the [kind](#kinds), null but for `posted` |
| `target`, `reply_to`, `expires_at_ms`, `ref` | as in the command and its header; null where there is none |
| `keys_seq`, `view` | that of the header; the hash of the members at it, in base64 (`view_of` in `protocol/roster.py`) |
| `last_acked_n` | the highest `n` of this device in this dialog that the server had acked then, 0 if none |
| `body` | what was written, in base64: text, or of a reaction the symbol |
| `frank` | 32 random bytes in base64, others each time |
| `pad` | as many `-` as make the length of the plaintext a multiple of 256 |

A reader compares each with what the server says, and shows nothing that differs. It opens each index of a session for one
event only, and believes a session only from the device whose channel brought it. A device begins another session after 100
messages or a week.

**The commitment** in the header is HMAC-SHA256 under `frank` of `frame("tchat/frank/1", dialog, author, device, n, tag,
target, body)`, with 0 for no target. A reader checks it before it shows anything. `report` brings `frank` as `key` and the
body as `content`.

**A slice** is Matrix' `m.room.encrypted` content of `m.olm.v1.curve25519-aes-sha2` (`algorithm`, `sender_key`, `ciphertext`)
in canonical JSON. Its plaintext has `sender_device_keys`, too; it is an `m.room_key` with `algorithm` `m.megolm.v1.aes-sha2`,
`room_id`, `session_id` and `session_key`. Sender, recipient and the keys of both are those of the device logs.

**From device to device** go Matrix' `m.key.verification.*` with `transaction_id`, in the clear, and `m.room.encrypted` with
content like that of a slice. In it a device hands the identity to a new one that its person has compared: type
`tchat.identity`, with `secret` (the seeds of master, self-signing and user-signing key, 32 bytes each) and `recovery_key`.

**A value of the backup** is a nonce of 24 bytes and XChaCha20-Poly1305 under HMAC-SHA256(recovery key, purpose), with
`frame("tchat/recovery/1", principal, generation, key)` as associated data.

| value | purpose | `key` | `version` | content |
|---|---|---|---|---|
| identity | `tchat/recovery/identity/1` | 32 zero bytes; empty in the associated data | 1 | the three seeds |
| session | `tchat/recovery/session/1` | SHA-256 of `frame("tchat/backup/1", session, device)` | 2^53 - 1 less `first_index` | msgpack map: `session`, `dialog`, `principal`, `device`, `exported` (Matrix' exported session, base64), `first_index` |
| decision about a person | `tchat/recovery/trust/1` | 8 bytes 255, then 24 of HMAC-SHA256(K, person), where K is HMAC-SHA256(recovery key, `tchat/recovery/trust-place/1`) | when it was made, in ms since 1970 | msgpack array: person, and an array of the version, the generation and master key of the person's identity, and whether it was compared |

The newest decision about a person counts. A device that has added one sends the others of its person a message of type
`tchat.trust_grew`, in the clear and without content: then they read from 8 bytes 255 on.
"""

RECEIPTS = """\
## Receipts, unread, typing, presence

A `receipt` carries two **high-water marks**: the highest `seq` that the client's principal has received, and the highest
that they have read. They only grow, so a newer receipt replaces an older one that was not sent yet. Send receipts at
most about twice a second, and repeat all of them in `sync.receipts`. An author has read up to their own message: send a
receipt for it, too. The high-water marks of others come as `receipt_changed`, except in types of dialogs without
receipts and in dialogs of more than `state_members_max` members, where `typing_changed` does not come either.
**Unread** is `messages` of the dialog minus `read_messages`. Drop a `typing_changed` after `typing_shown_s`.
`presence_changed` comes for the people of the last `presence_subscribe`.

## Heartbeats, closing, reconnecting

Send `heartbeat` (id 0) when the client sent nothing else for 0.8 x `heartbeat_s`. When nothing came from the server for
2 x `heartbeat_s`, reconnect. Reconnect with full jitter: a random delay up to a bound that doubles from 0.5 s to 30 s and
starts again after `caught_up`. After `draining`, reconnect once after a random delay within `spread_s`. The close code
says what else to do:
"""

MESSAGES = """\
## Messages

The tables list the fields in order; under msgpack the tag comes first. Each example shows one message in both codecs.
Tags are counted apart in two tables: one of commands, replies and events, one of bodies. "Characters" are Unicode code
points, "bytes" those of UTF-8 or of the decoded base64.

`docs/protocol.json` has all tables of this page for programs that generate types: `commands` with their rules, `replies`,
`events`, `bodies`, `structs` (without a tag), `enums`, and the catalogues. A field without `default` is required; a
default is written as under json. `schema` grows when a reader of the file must change; keys are added without that.
"""
