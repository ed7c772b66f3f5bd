"""The one error boundary of an API: every failure becomes `{"code", "message", "retry_after_s"}` and a status.

A refusal goes to the client and not to the log. A fault of the server is logged once, with its traceback; the client
learns only that it happened.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import ClientException, HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from protocol.errors import ErrorCode
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from storage.unavailable import BooksReadOnlyError, StorageUnavailableError


class ClientGoneError(Exception):
    """The client went away before its request was complete: nobody reads the answer."""


_log = logging.getLogger(__name__)

_REASONS_SHOWN = 5

_STATUS = {
    ErrorCode.MALFORMED: 400,
    ErrorCode.UNKNOWN_COMMAND: 404,
    ErrorCode.INVALID_ARGUMENT: 400,
    ErrorCode.KEYS_REFUSED: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.TOKEN_INVALID: 401,
    ErrorCode.TOKEN_EXPIRED: 401,
    ErrorCode.SIGNED_OUT: 401,
    ErrorCode.DIALOG_NOT_FOUND: 404,
    ErrorCode.PRINCIPAL_NOT_FOUND: 404,
    ErrorCode.EVENT_NOT_FOUND: 404,
    ErrorCode.PAYMENT_NOT_FOUND: 404,
    ErrorCode.WALLET_NOT_FOUND: 404,
    ErrorCode.RECORD_NOT_FOUND: 404,
    ErrorCode.BUSINESS_NOT_FOUND: 404,
    ErrorCode.PRODUCT_NOT_FOUND: 404,
    ErrorCode.ORDER_NOT_FOUND: 404,
    ErrorCode.INTENT_NOT_FOUND: 404,
    ErrorCode.SUSPENDED: 403,
    ErrorCode.WRONG_PERSON: 403,
    ErrorCode.CODE_WRONG: 403,
    ErrorCode.NOT_ALLOWED: 403,
    ErrorCode.ROLE_REQUIRED: 403,
    ErrorCode.BLOCKED: 403,
    ErrorCode.PROOF_REQUIRED: 403,
    ErrorCode.AMOUNT_REFUSED: 400,
    ErrorCode.CURRENCY_REFUSED: 400,
    ErrorCode.OWN_PAYEE: 400,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.DAILY_LIMIT: 429,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.INTERNAL: 500,
}
_OTHER_STATUS = 409
_BY_STATUS = {404: ErrorCode.UNKNOWN_COMMAND, 405: ErrorCode.UNKNOWN_COMMAND, 413: ErrorCode.TOO_LARGE}
_MESSAGES = {ErrorCode.UNKNOWN_COMMAND: "There is nothing at this address, or not with this method; see /v1/docs."}


class ErrorBody(msgspec.Struct):
    """What every refusal looks like. `code` is stable, `message` is for people."""

    code: str
    message: str
    retry_after_s: float | None = None


REFUSALS = {
    status: ResponseSpec(ErrorBody, generate_examples=False, description=f"{meaning}; `code` says what exactly")
    for status, meaning in (
        (400, "Refused"),
        (401, "Not signed in"),
        (403, "Not allowed"),
        (404, "Not found"),
        (409, "Not in this state"),
        (429, "Too much at once"),
        (503, "Not now"),
    )
}
"""For the OpenAPI document."""


def answer_failure(_request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """The response to an exception."""
    match error:
        case RequestRefusedError():
            return _refusal(error.code, error.detail, error.retry_after_s)
        case StorageUnavailableError():
            return _refusal(ErrorCode.UNAVAILABLE, _explain(error), RETRY_AFTER_S)
        case ValidationException():
            return _refusal(ErrorCode.INVALID_ARGUMENT, _reasons(error))
        case HTTPException(status_code=404 | 405 | 413 as status):
            return _refusal(_BY_STATUS[status])
        case ClientException() | ClientGoneError() | RecursionError():
            return _refusal(ErrorCode.MALFORMED)
        case _:
            _log.error("a request failed", exc_info=error)
            return _refusal(ErrorCode.INTERNAL)


def render_refusal(error: RequestRefusedError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of a refusal, for an answer outside the framework."""
    answer = _refusal(error.code, error.detail, error.retry_after_s)
    body = msgspec.json.encode(answer.content)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
    status = _STATUS.get(error.code, _OTHER_STATUS)
    return status, [(name.lower().encode(), value.encode()) for name, value in headers.items()], body


def _refusal(code: ErrorCode, detail: str = "", retry_after_s: float | None = None) -> Response[ErrorBody]:
    headers = {}
    status = _STATUS.get(code, _OTHER_STATUS)
    if status == _STATUS[ErrorCode.TOKEN_INVALID]:
        headers["WWW-Authenticate"] = "Bearer"
    if retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_s))
        retry_after_s = round(retry_after_s, 3)
    message = _MESSAGES.get(code, code.sentence)
    body = ErrorBody(str(code), f"{message} ({detail})" if detail else message, retry_after_s)
    return Response(body, status_code=status, headers=headers)


def _explain(error: StorageUnavailableError) -> str:
    """What a client may know of it."""
    if isinstance(error, BooksReadOnlyError):
        return str(error)
    _log.warning("a request could not be served: %s", error)
    return ""


def _reasons(error: ValidationException) -> str:
    found = error.extra if isinstance(error.extra, list) else []
    reasons = [
        ": ".join(filter(None, (str(reason.get("key", "")), str(reason.get("message", "")))))
        for reason in found[:_REASONS_SHOWN]
        if isinstance(reason, dict)
    ]
    return "; ".join(reasons)
