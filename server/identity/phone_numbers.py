"""Phone numbers: E.164, checked against the numbering plans of the served countries."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec
import phonenumbers

from protocol.errors import ErrorCode
from server.refusals import RequestRefusedError

_RECEIVE_SMS = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


class PhoneNumber(msgspec.Struct, frozen=True):
    """A number in canonical E.164 form, and its country (ISO 3166-1 alpha-2)."""

    e164: str
    country: str


def read_phone_number(text: str, countries: Collection[str]) -> PhoneNumber:
    """Parse a number; raises RequestRefusedError unless it is a valid mobile one of `countries`."""
    if not _E164.fullmatch(text):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "phone_number: write it as + and 7 to 15 digits (E.164)")
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "phone_number: there is no such number") from None
    if not phonenumbers.is_valid_number(number):
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "phone_number: there is no such number")
    country = phonenumbers.region_code_for_number(number)
    if country is None or country not in countries:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "phone_number: its country is not served here")
    if phonenumbers.number_type(number) not in _RECEIVE_SMS:
        # A premium or shared-cost number earns its owner money with each code; the others get no SMS.
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "phone_number: must be a mobile number")
    return PhoneNumber(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), country)
