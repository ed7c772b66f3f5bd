"""What the reference of the protocol says in sentences; `protocol.reference.page` adds what is generated."""
# ruff: noqa: E501 - a row of a table cannot be wrapped

from __future__ import annotations

OPENING = """\
# The wire protocol, version 1

Generated from `protocol/` by `make docs`; a test compares. With this page alone one can write a client.

A **principal** is whoever can be a member or an author (person, bot, business, service). A **device** is one
installation of a client. A **dialog** has a **timeline**: its events, numbered by **`seq`** from 1 without holes. A
client sends **commands**; the server answers with **replies** and tells **events** unasked.

**Payloads are opaque bytes to the server, and until end-to-end encryption is part of a client, they are whatever that
client puts there: not encrypted.**

## Connecting

One websocket (RFC 6455) at `/v1/ws`, with exactly one of these subprotocols in `Sec-WebSocket-Protocol`:

| subprotocol | messages | for |
|---|---|---|
| `tchat.v1.msgpack` | binary, MessagePack arrays | clients |
| `tchat.v1.json` | text, JSON objects | browsers and eyes |

One websocket message carries one command, reply or event. Compression is never agreed to. A message of the wrong kind
(text under msgpack, binary under json) closes the connection.

### Getting an access token

The HTTP API on the same port gives out access tokens; it describes itself in full at `/v1/docs`. A first sign-in:

```text
POST /v1/sign-in/codes   {"phone_number": "+6591234567"}
                         202 {"expires_in_s": 300}; the code goes to that phone (a development server logs it)
POST /v1/sign-in         {"phone_number": "+6591234567", "code": "123456", "display_name": "Ann",
                          "device": {"platform": "web", "app_version": "1.0"}}
                         200 {"principal", "device", "sign_in", "access_token", "expires_in_s", "refresh_token"}
POST /v1/tokens/refresh  {"refresh_token": "..."}
                         200 the same fields, with a new access token and a new refresh token
POST /v1/people/find     {"phone_number": "+6598765432"}, header Authorization: Bearer and the access token
                         200 {"principal", "display_name", "avatar_url"}: whom to create a dialog with
```

Keep `device` and say it as `device.device_id` when signing in again: it stays the same installation. Renew the access
token before `expires_in_s` is over, store the new refresh token before anything is done with the new access token, and
never use an old one again. A refusal is `{"code", "message", "retry_after_s"}` with the [codes](#error-codes) below.

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
object fields that you do not know**. Skip replies and events with an unknown tag. An event with a body that you do not
understand still counts as received, like an `erased` one. Unknown error codes are definite refusals; unknown close codes mean reconnect. An unknown
command is answered with `unknown_command`.
"""

HANDSHAKE = """\
## From connecting to live

1. Send `authenticate` with an access token. The reply is `authenticated`: who one is and what the server expects.
2. Send `sync` with the `position` that is held (empty the first time) and one's own `marks`. The reply is `synced`.
3. Catch-up follows: for every dialog that changed, a `dialog_state` and then its `timeline_event` events, in order of `seq`,
   perhaps some that are already held. Commands may be sent from `synced` on.
4. `live` ends catch-up, with a new position. From here on events come as they happen.

Every command but those with `id` 0 gets one reply with the same `id`. Choose ids above 0, unique among what is
unanswered on the connection. Commands are answered in order, except `send`, `edit` and `react`, which are
pipelined: many may be under way, and their answers come as they are decided. A refusal (`failed`) changes nothing.

A newer token may be sent at any time with `authenticate`; a connection closes when its token expires. One connection
per device: the newest wins, the older one is closed with `REPLACED`. What each state allows:
"""

RESUME = """\
## Resuming, and missing nothing

**Position.** An opaque text. Keep the one of `live`, and of any `heartbeat` answer (`heartbeat_reply`) that has one, and say it in
the next `sync`; take it over only when every event that came before it has been dealt with.

**Recovered.** `synced.recovered` true: what is held stays valid, and all that is missing follows. False (too far behind,
another epoch, an unknown position): forget *all* dialogs; a window of the newest events of each follows, and what
is older is to be had by `history`.

**Ordering.** Per dialog keep `have`, the highest `seq` up to which all was dealt with.

- `timeline_event` with `seq <= have`: drop it. `seq == have + 1`: apply it. Beyond: hold it, and ask
  `history(from_seq=have+1, to_seq=seq-1, newest_first=false)` until the gap is closed. A number that a page passes over
  is not visible to you.
- `dialog_state` with `first_seq > have + 1`: what lies before `first_seq` will not come (cut off by the window, or not
  visible); set `have = first_seq - 1`.
- A slow connection is sent back to catch-up without notice: a `dialog_state` comes, then the events from where it stopped.

**Joining and leaving.** When one joins or rejoins a dialog, its `dialog_state` comes first. The event of one's own
removal or leaving is the last one that comes. `visible` names the intervals of `seq` that one may read.

**Folding.** Of several edits of a message, the one with the highest `seq` counts; of one person's reactions to it, the
newest, and an empty one withdraws it. `deleted` ends it: payload, header, edits and reactions go. In a timeline that
is read later, a deleted message and its edits and reactions stand as `erased`; the `deleted` event stands. A
`dialog_state` already contains the membership and settings events up to its `seq`. The pages of `history` bring in
`later` the edits, deletions and reactions that came after the page for messages in it: apply both alike.
"""

NUMBERS = """\
## Sending: once, and in order

Every command that appends to a timeline carries `n`: a number that **grows per device, over all dialogs**, and is
never used again; gaps are fine. `(dialog, device, n)` is its idempotency key. A device keeps its counter, and what
is unanswered, on disk: the command is stored *before* it is sent, and removed when its answer is definite.

| answer | meaning | do |
|---|---|---|
| `acked` | durable, at `seq` | done; a retry gets the same answer |
| `failed`, temporary code | nothing happened | wait `retry_after_s`, then send the same `n` again, and after it what follows in this dialog |
| `failed` `stale` | members were removed since `header.keys_seq` | take `failed.keys_seq` into the header (re-encrypt), send again under the same `n`, then what follows |
| `failed` `number_passed` | the number was passed over or decided long ago | look for `(own device, n)` in the timeline: there means done, else send again under a new `n` |
| `failed`, any other code | refused for good | tell the person; the rest goes on |
| none, the connection went | unknown | after the next `synced`, send everything unanswered again, in order of `n`, unchanged |

After a temporary refusal of a `send`, `edit` or `react` the server refuses everything later of that device in that
dialog with a temporary code until the refused `n` comes again: a sender's order is kept. Wait until everything under
way in that dialog is answered, then begin again at the refused one. An own event (own `device`, that `n`) that arrives
while the ack is missing is as good as the ack. At most `in_flight_max` of them may be unanswered at once.

**`keys_seq`** of a dialog is the `seq` of the last removal or leaving of a member, 0 before: `dialog_state` says it, and a
later `member_removed` or `member_left` raises it to its own `seq`. Say it in the header of all that is sent or edited: a
sealed dialog refuses as `stale` what was made for members of whom one has gone since.

The `acked` of a command comes before or after its own `timeline_event`, and that of a `create` before or after the
`dialog_state` of the new dialog.

**Ids of dialogs are derived**, so that creating one twice is creating it once: BLAKE2b with a digest of 16 bytes over
the parts (16 bytes each, unless said) one after another, personalised with the purpose (ASCII, filled up with zero bytes to
16), then the version (8) and variant bits of a UUID set. A client that does not want to know can wait for `acked`, which
names the dialog.

| dialog | purpose | parts |
|---|---|---|
| `self` | `self` | the principal |
| direct | `direct` | both principals, the smaller first |
| others | `created` | the creator's device, `n` as 8 bytes, big endian |

`mute`, `block` and `unblock` append to one's `self` dialog, whose events are one's own changes. To check the ids against:
"""

MARKS = """\
## Receipts, unread, typing, presence

`receipt` says how far one has received and read; marks only grow, so the newest replaces what was not yet said: say
them at most about twice a second, and all of one's own again in `sync.marks`. Who posts has read up to there: say so
with a receipt as well. Others' marks come as `receipt_changed`, except in types of dialogs without receipts. **Unread** is `messages` of the dialog
minus `read_messages`. `typing_changed` is forgotten after ten seconds. Presence is told of those whom one follows.

## Heartbeats, closing, coming back

Send `heartbeat` (id 0) when nothing else was sent for 0.8 x `heartbeat_s`; when nothing was heard for 2 x `heartbeat_s`,
reconnect. Reconnect with full jitter: a random delay up to a bound that doubles from 0.5 s to 30 s and starts again
after `live`. After `draining`, reconnect once after a random delay within `spread_s`. The close code says what else:
"""

MESSAGES = """\
## Messages

The tables give the fields in order; under msgpack the tag comes first. Examples show the same message in both codecs.
"""
