"""Administration by admins, and the events of service accounts."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta

from protocol.bodies import Header, Posted, Ref
from protocol.dialog_types import Mode
from protocol.errors import ErrorCode
from protocol.ids import NIL
from protocol.kinds import KINDS, Kind
from server.api import fields as f
from server.api.auth import AsCaller, AsServiceAccount
from server.api.edge import RATED_AS_ACCOUNT
from server.api.parts import Parts
from server.http.errors import REFUSALS
from server.refusals import RequestRefusedError
from storage.identity_rows import PostedRow

_KINDS = {kind.name.lower(): kind for kind, rule in KINDS.items() if not rule.by_members or kind is Kind.MESSAGE}
_KIND_NAMES = ", ".join(_KINDS)

_BUSINESSES_MAX = 1000

KindName = Annotated[str, Meta(max_length=32, description=f"one of {_KIND_NAMES}")]


class ServiceRequest(f.Request):
    """A new service, and what its key may do: post these kinds, and act for these businesses.

    The key writes in dialogs of which one of its businesses is a member; with `all_dialogs`, in all of your platform.
    """

    name: f.ServiceName
    kinds: Annotated[list[KindName], Meta(min_length=1, max_length=len(_KINDS))]
    businesses: Annotated[list[UUID], Meta(max_length=_BUSINESSES_MAX)] = msgspec.field(default_factory=list)
    all_dialogs: bool = False


class ServiceReply(msgspec.Struct):
    """A new service and its API key. The key is never shown again."""

    service: UUID
    key: str


class RefRequest(f.Request):
    """The object of the platform that the event is about."""

    type: f.RefText
    id: f.RefText


class EventRequest(f.Request):
    """An event of a service, or a message of a bot or a business, which must be a member of the dialog.

    `acting_for` names the business that a service acts for, a member of the dialog. The first version of a payment
    names its `requester`: they must be a member who may write there. Later versions name nobody, and pass.
    """

    n: f.N
    kind: KindName
    payload: f.Payload
    content_type: f.ContentType = ""
    ref: RefRequest | None = None
    acting_for: UUID | None = None
    requester: UUID | None = None
    expires_at_ms: f.Millis | None = None


class AppendedReply(msgspec.Struct):
    """The event is durable at `seq`."""

    seq: int
    at_ms: int


class ModeReply(msgspec.Struct):
    """Whether a dialog is sealed: only endpoints can read it."""

    mode: Literal["sealed", "open"]


class EpochReply(msgspec.Struct):
    """The epoch of this deployment."""

    epoch: int


class PostedDialogReply(msgspec.Struct):
    """A dialog in which the key has posted, and the highest `n` there. `principal`: it is their `self` dialog."""

    dialog: UUID
    last_n: int
    principal: UUID | None = None


class PostedDialogsReply(msgspec.Struct):
    """Some of them, by their ids. `after` is for the next page, which may be empty; null at the end."""

    dialogs: list[PostedDialogReply]
    after: UUID | None


class PostedEventReply(msgspec.Struct):
    """What the key has posted under `n`; `payload` in base64, null when it was erased."""

    n: int
    seq: int
    kind: str | None = None
    content_type: str = ""
    ref: RefRequest | None = None
    payload: str | None = None


class PostedEventsReply(msgspec.Struct):
    """Some of them, newest first. The next page is that before the last `n`; an empty one is the end."""

    events: list[PostedEventReply]


@post("/admin/principals/{principal:uuid}/suspend", status_code=204, responses=REFUSALS)
async def suspend(principal: FromPath[UUID], admin: AsCaller, parts: Parts) -> None:
    """Suspend a person, bot, business or service; their connections close at once."""
    await parts.profiles.suspend(admin.claims.tenant, admin.claims.principal, principal.bytes)


@post("/admin/principals/{principal:uuid}/reinstate", status_code=204, responses=REFUSALS)
async def reinstate(principal: FromPath[UUID], admin: AsCaller, parts: Parts) -> None:
    """End a suspension; former sign-ins are valid again."""
    await parts.profiles.reinstate(admin.claims.tenant, admin.claims.principal, principal.bytes)


@post("/admin/services", status_code=201, responses=REFUSALS)
async def create_service(data: JSONBody[ServiceRequest], admin: AsCaller, parts: Parts) -> ServiceReply:
    """Create a service with an API key. To revoke the key, suspend the service."""
    created = await parts.service_accounts.create(
        admin.claims.tenant,
        admin.claims.principal,
        data.name,
        kinds=[_kind(name) for name in data.kinds],
        businesses=[business.bytes for business in data.businesses],
        all_dialogs=data.all_dialogs,
    )
    return ServiceReply(f.text_id(created.service), created.key)


@post("/admin/services/{service:uuid}/key", status_code=200, responses=REFUSALS)
async def renew_service_key(service: FromPath[UUID], admin: AsCaller, parts: Parts) -> ServiceReply:
    """Replace the API key of a service; the old one ends at once. Numbers `n` go on: the key stays the same device."""
    renewed = await parts.service_accounts.renew_key(admin.claims.tenant, admin.claims.principal, service.bytes)
    return ServiceReply(f.text_id(renewed.service), renewed.key)


@post("/dialogs/{dialog:uuid}/events", status_code=200, responses=REFUSALS)
async def append_event(
    dialog: FromPath[UUID],
    data: JSONBody[EventRequest],
    service_account: AsServiceAccount,
    parts: Parts,
    request: Request[Any, Any, Any],
) -> AppendedReply:
    """Append an event to a dialog in which the key may write. Retry it unchanged until you get an answer.

    Bots and businesses write messages (`kind` "message") in open dialogs; in sealed ones only a client can.
    """
    request.state[RATED_AS_ACCOUNT] = True
    verdict = await parts.service_accounts.append(service_account, dialog.bytes, data.n, _posted(data))
    return AppendedReply(verdict.seq, verdict.at_ms)


@post("/principals/{principal:uuid}/self/events", status_code=200, responses=REFUSALS)
async def append_to_self(
    principal: FromPath[UUID],
    data: JSONBody[EventRequest],
    service_account: AsServiceAccount,
    parts: Parts,
    request: Request[Any, Any, Any],
) -> AppendedReply:
    """Append a state of a payment to the `self` dialog of one of its parties, with a key for all dialogs."""
    request.state[RATED_AS_ACCOUNT] = True
    verdict = await parts.service_accounts.append_to_self(service_account, principal.bytes, data.n, _posted(data))
    return AppendedReply(verdict.seq, verdict.at_ms)


@get("/dialogs/{dialog:uuid}/mode", responses=REFUSALS)
async def read_mode(dialog: FromPath[UUID], service_account: AsServiceAccount, parts: Parts) -> ModeReply:
    """The mode of a dialog, which never changes: what may be said there in the clear. With a key for all dialogs."""
    mode = await parts.service_accounts.read_mode(service_account, dialog.bytes)
    return ModeReply("sealed" if mode is Mode.SEALED else "open")


@get("/epoch", responses=REFUSALS)
async def read_epoch(service_account: AsServiceAccount, parts: Parts) -> EpochReply:
    """The epoch. In a new one (after a restore, say), what was appended in the one before may be lost."""
    del service_account  # any key will do
    return EpochReply(await parts.service_accounts.read_epoch())


@get("/posted-dialogs", responses=REFUSALS)
async def list_posted_dialogs(
    service_account: AsServiceAccount,
    parts: Parts,
    after: FromQuery[UUID] = UUID(bytes=NIL),  # noqa: B008 - a constant
) -> PostedDialogsReply:
    """Where this key has posted, which stays the same device over its renewals. With a key for all dialogs."""
    page = await parts.service_accounts.list_posted_dialogs(service_account, after.bytes)
    dialogs = [
        PostedDialogReply(
            f.text_id(each.dialog), each.last_n, None if each.principal is None else f.text_id(each.principal)
        )
        for each in page.dialogs
    ]
    return PostedDialogsReply(dialogs, None if page.after is None else UUID(bytes=page.after))


@get("/dialogs/{dialog:uuid}/posted-events", responses=REFUSALS)
async def list_posted_events(
    dialog: FromPath[UUID],
    service_account: AsServiceAccount,
    parts: Parts,
    before_n: FromQuery[Annotated[int, Meta(ge=1, le=2**53)]] = 2**53,
) -> PostedEventsReply:
    """What this key has posted in a dialog, newest first, as far as it is in the journal."""
    rows = await parts.service_accounts.list_posted(service_account, dialog.bytes, before_n)
    return PostedEventsReply([_as_posted(row) for row in rows])


def _as_posted(row: PostedRow) -> PostedEventReply:
    if row.body is None:
        return PostedEventReply(row.n, row.seq)
    header, payload = row.body.header, base64.b64encode(row.body.payload).decode()
    ref = None if header.ref is None else RefRequest(header.ref.type, header.ref.id)
    return PostedEventReply(row.n, row.seq, row.body.kind.name.lower(), header.content_type, ref, payload)


def _posted(data: EventRequest) -> Posted:
    ref = None if data.ref is None else Ref(data.ref.type, data.ref.id)
    return Posted(
        _kind(data.kind),
        Header(content_type=data.content_type, expires_at_ms=data.expires_at_ms, ref=ref),
        data.payload,
        None if data.acting_for is None else data.acting_for.bytes,
        None if data.requester is None else data.requester.bytes,
    )


def _kind(name: str) -> Kind:
    kind = _KINDS.get(name)
    if kind is None:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, f"kind: one of {_KIND_NAMES}")
    return kind
