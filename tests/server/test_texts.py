"""Texts that others read cannot forge what they see."""

import re

import pytest

from protocol.errors import ErrorCode
from server.refusals import RequestRefusedError
from server.texts import ONE_LINE, check_https, check_line, check_paragraphs

FORGED = [
    "a\nb",
    "a\n",
    "a\rb",
    "a\tb",
    "\x1b[2J",
    "\x9b2J",
    "a\u202eb",
    "\u2066a",
    "a\u2028b",
    "\x00",
    "\x7f",
    "\ud800",
]
HONEST = ["", "Ann Tan", "ชาย", "محمد\u200f علي", "\U0001f469\u200d\U0001f4bb", "naïve - “quoted”"]


@pytest.mark.parametrize("text", FORGED)
def test_control_characters_and_overrides_of_direction_are_refused_in_a_line(text: str) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        check_line("name", text)
    assert (refused.value.code, refused.value.detail[:5]) == (ErrorCode.INVALID_ARGUMENT, "name:")
    assert not re.search(ONE_LINE, text)


@pytest.mark.parametrize("text", HONEST)
def test_names_of_all_languages_are_lines(text: str) -> None:
    check_line("name", text)
    assert re.search(ONE_LINE, text)


def test_a_description_has_lines_and_no_other_controls() -> None:
    check_paragraphs("description", "one\n\ttwo")
    for text in FORGED[4:]:
        with pytest.raises(RequestRefusedError, match="description"):
            check_paragraphs("description", text)


@pytest.mark.parametrize("url", ["", "https://pictures.example/ann.png", "https://[2001:db8::1]/a?b=c#d"])
def test_an_https_url_or_none_is_taken(url: str) -> None:
    check_https("avatar_url", url)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript://pictures.example/%0aalert(1)",
        "http://pictures.example/a.png",
        "data:text/html,x",
        "https://",
        "https:///a",
        "//pictures.example/a",
        "https://[a/",
        "https://pictures.example/\u202egnp.exe",
        "https://pictures.example/a b",
        "\njavascript:alert(1)",
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(RequestRefusedError, match="avatar_url"):
        check_https("avatar_url", url)
