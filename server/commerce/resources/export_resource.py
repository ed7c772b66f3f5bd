"""`/v1/exports`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import get, post
from litestar.params import FromPath, JSONBody, PathParameter

from server.commerce.personal.exports import ExportPart, ExportReply
from server.commerce.resources.asking import AsAsker, AsKeyed, NoFields
from server.commerce.resources.commerce_parts import InCommerce
from server.http.errors import REFUSALS


@post("/exports", status_code=201, responses=REFUSALS)
async def begin_export(keyed: AsKeyed, parts: InCommerce, data: JSONBody[NoFields | None] = None) -> ExportReply:
    """Put all that is your own here together; the export that you have, while it has not expired."""
    del data  # it has no fields
    return await parts.personal.exports.begin(keyed)


@get("/exports/{export:uuid}", responses=REFUSALS)
async def read_export(export: FromPath[UUID], asker: AsAsker, parts: InCommerce) -> ExportReply:
    """How far an export of yours is."""
    return await parts.personal.exports.read(asker, export.bytes)


@get("/exports/{export:uuid}/parts/{part:int}", responses=REFUSALS)
async def read_export_part(
    export: FromPath[UUID], part: Annotated[int, PathParameter(ge=0, le=2**31 - 1)], asker: AsAsker, parts: InCommerce
) -> ExportPart:
    """A part of an export of yours, from 0."""
    return await parts.personal.exports.read_part(asker, export.bytes, part)
