"""The catalogue of websocket close codes, and what each asks of the client."""

from __future__ import annotations

import enum


class Advice(enum.Enum):
    """What a client does after a close."""

    RECONNECT = "reconnect with back-off and resume"
    RECONNECT_SPREAD = "reconnect after a random delay within the announced spread, and resume"
    REFRESH = "get a new access token, then reconnect and resume"
    SIGN_IN = "stop; only a new sign-in helps"
    STOP = "stop; another connection of this device is in use"
    FIX = "stop; the client has a fault that a retry does not cure"


class CloseCode(enum.IntEnum):
    """Close codes of tchat (4000-4999) and those of RFC 6455 section 7.4.1 that it sends."""

    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_TEXT = 1007
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011

    DRAINING = 4000
    SLOW_CONSUMER = 4001
    IDLE = 4002
    UNAVAILABLE = 4003
    RATE_LIMITED = 4004
    TOKEN_EXPIRED = 4100
    AUTH_TIMEOUT = 4101
    AUTH_FAILED = 4102
    SIGNED_OUT = 4200
    TOO_MANY_SIGN_INS = 4201
    SUSPENDED = 4202
    DELETED = 4203
    REPLACED = 4300
    BAD_MESSAGE = 4400

    @property
    def advice(self) -> Advice:
        """What the client does next."""
        return _CATALOGUE[self][0]

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _CATALOGUE[self][1]


_CATALOGUE: dict[CloseCode, tuple[Advice, str]] = {
    CloseCode.GOING_AWAY: (Advice.RECONNECT, "The other side is going away."),
    CloseCode.PROTOCOL_ERROR: (Advice.FIX, "A frame broke RFC 6455."),
    CloseCode.UNSUPPORTED_DATA: (Advice.FIX, "A text frame under msgpack, or a binary frame under json."),
    CloseCode.INVALID_TEXT: (Advice.FIX, "A text frame was not UTF-8."),
    CloseCode.MESSAGE_TOO_BIG: (Advice.FIX, "A message was larger than the limit."),
    CloseCode.INTERNAL_ERROR: (Advice.RECONNECT, "This session failed; no other did."),
    CloseCode.DRAINING: (Advice.RECONNECT_SPREAD, "This node is shutting down in good order."),
    CloseCode.SLOW_CONSUMER: (Advice.RECONNECT, "This connection read too slowly for too long."),
    CloseCode.IDLE: (Advice.RECONNECT, "Nothing was heard from this connection, not even a heartbeat."),
    CloseCode.UNAVAILABLE: (Advice.RECONNECT, "The server cannot serve this session right now."),
    CloseCode.RATE_LIMITED: (Advice.RECONNECT, "This connection kept sending too much."),
    CloseCode.TOKEN_EXPIRED: (Advice.REFRESH, "The access token expired and no new one came."),
    CloseCode.AUTH_TIMEOUT: (Advice.RECONNECT, "No authentication came in time."),
    CloseCode.AUTH_FAILED: (Advice.REFRESH, "The access token was refused."),
    CloseCode.SIGNED_OUT: (Advice.SIGN_IN, "This sign-in was ended by the person."),
    CloseCode.TOO_MANY_SIGN_INS: (Advice.SIGN_IN, "A newer sign-in took the place of this one, the oldest."),
    CloseCode.SUSPENDED: (Advice.SIGN_IN, "This account is suspended."),
    CloseCode.DELETED: (Advice.SIGN_IN, "This account is deleted."),
    CloseCode.REPLACED: (Advice.STOP, "A newer connection of the same device took over."),
    CloseCode.BAD_MESSAGE: (Advice.FIX, "Too many messages that could not be understood."),
}


def advice_for(code: int | None) -> Advice:
    """What to do after a close with this code; unknown codes and cut connections mean reconnect."""
    try:
        return CloseCode(code or 0).advice
    except ValueError:
        return Advice.RECONNECT
