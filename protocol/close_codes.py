"""The catalogue of websocket close codes, and what a client does after each."""

from __future__ import annotations

import enum


class Advice(enum.Enum):
    """What a client does after a close."""

    RECONNECT = "reconnect with back-off and resume"
    RECONNECT_SPREAD = "reconnect after a random delay within the announced `spread_s`, and resume"
    REFRESH = "get a new access token, then reconnect and resume"
    SIGN_IN = "stop; only a new sign-in helps"
    STOP = "stop, because this device uses another connection; in the first 30 s of a connection see `REPLACED` above"
    FIX = "stop; correct the client: a retry fails in the same way"


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
    CloseCode.GOING_AWAY: (Advice.RECONNECT, "The other side closes the connection."),
    CloseCode.PROTOCOL_ERROR: (Advice.FIX, "A frame broke RFC 6455."),
    CloseCode.UNSUPPORTED_DATA: (Advice.FIX, "A text frame under msgpack, or a binary frame under json."),
    CloseCode.INVALID_TEXT: (Advice.FIX, "A text frame was not UTF-8."),
    CloseCode.MESSAGE_TOO_BIG: (Advice.FIX, "A message was larger than the limit."),
    CloseCode.INTERNAL_ERROR: (Advice.RECONNECT, "The server failed to serve this session; it logged why."),
    CloseCode.DRAINING: (
        Advice.RECONNECT_SPREAD,
        "This node shuts down; another node, or this one after its restart, takes over.",
    ),
    CloseCode.SLOW_CONSUMER: (Advice.RECONNECT, "This connection read too slowly for too long."),
    CloseCode.IDLE: (Advice.RECONNECT, "The client sent nothing for too long, not even a heartbeat."),
    CloseCode.UNAVAILABLE: (Advice.RECONNECT, "The server cannot serve this session now."),
    CloseCode.RATE_LIMITED: (Advice.RECONNECT, "The client sent too much for too long."),
    CloseCode.TOKEN_EXPIRED: (Advice.REFRESH, "The access token expired and the client sent no newer one."),
    CloseCode.AUTH_TIMEOUT: (Advice.RECONNECT, "The client did not authenticate in time."),
    CloseCode.AUTH_FAILED: (Advice.REFRESH, "The server refused the access token."),
    CloseCode.SIGNED_OUT: (Advice.SIGN_IN, "The person ended this sign-in."),
    CloseCode.TOO_MANY_SIGN_INS: (
        Advice.SIGN_IN,
        "The person has too many sign-ins; a newer one ended this one, the oldest.",
    ),
    CloseCode.SUSPENDED: (Advice.SIGN_IN, "This account is suspended."),
    CloseCode.DELETED: (Advice.SIGN_IN, "This account is deleted."),
    CloseCode.REPLACED: (Advice.STOP, "A newer connection of the same device took over."),
    CloseCode.BAD_MESSAGE: (Advice.FIX, "The client sent too much that the server cannot decode or does not allow."),
}


def advice_for(code: int | None) -> Advice:
    """What to do after a close with this code; None (no close frame) and unknown codes mean reconnect."""
    try:
        return CloseCode(code or 0).advice
    except ValueError:
        return Advice.RECONNECT
