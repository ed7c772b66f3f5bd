"""From a command line to a running chat, and every way in which that does not come about."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import keyring.errors
import pytest

from protocol.commands import Leave, Send
from tchat import terminal as chat
from tchat.actions import SignInRequiredError
from tchat.terminal import start
from tchat.terminal.account import LocalAccount
from tchat.terminal.start import CannotStartError
from tests.tchat.terminal.test_account import Api, account, refused, signed_in

PHONE = "+6591234567"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the person types on the plain terminal."""
    typed = io.StringIO()
    monkeypatch.setattr("sys.stdin", typed)
    yield typed
    typed.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert chat.main(arguments) == 2
    return capsys.readouterr().err


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = said(capsys, "--phone", PHONE, "--server", "http://127.0.0.1:1", "--state", str(tmp_path))
    assert "http://127.0.0.1:1 does not answer" in error
    assert "is the server running?" in error


def test_a_server_is_a_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--server is a URL" in said(capsys, "--phone", PHONE, "--server", "localhost", "--state", str(tmp_path))


def test_a_second_chat_of_the_same_person_is_kept_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start._locked(start._folder(tmp_path, chat.DEFAULT_SERVER, PHONE)):
        assert "is running already" in said(capsys, "--phone", "+65 9123-4567", "--state", str(tmp_path))


def test_help_says_what_is_encrypted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chat.main(["--help"])
    assert "groups are end-to-end encrypted; channels are not" in " ".join(capsys.readouterr().out.split())


def test_keys_are_kept_in_the_keyring_or_else_in_a_file_of_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyring.get_password", no_keyring)
    for _ in range(2):
        start._open_store(tmp_path, "1").close()
    assert stat.S_IMODE((tmp_path / "key-1").stat().st_mode) == 0o600
    (tmp_path / "key-1").rename(tmp_path / "kept")
    with pytest.raises(CannotStartError, match="neither in a keyring that opens nor in"):
        start._open_store(tmp_path, "1")
    (tmp_path / "key-1").write_bytes(bytes(32))
    with pytest.raises(CannotStartError, match="key"):
        start._open_store(tmp_path, "1")


def test_what_an_older_copy_of_a_store_had_not_sent_is_shown() -> None:
    told = start._given_up([Send(0, bytes(16), 7, b"hello \x1b[2J"), Leave(0, bytes(16), 8)])
    assert "may have been sent before" in told
    assert told.count("\n  ") == 1
    assert "\x1b" not in told


def no_keyring(_service: str, _name: str) -> str:
    raise keyring.errors.NoKeyringError


def test_state_is_kept_apart_by_server_and_person_and_from_others(tmp_path: Path) -> None:
    folders = {
        start._folder(tmp_path, server, phone)
        for server in ("http://one:7420", "https://two")
        for phone in (PHONE, "+6598765432")
    }
    assert len(folders) == 4
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_without_a_folder_state_goes_where_the_system_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert start._folder(None, "http://one:7420", PHONE) == tmp_path / "tchat" / "one_7420" / PHONE


SENT = httpx.Response(202, json={"expires_in_s": 300})


async def sign_in(one: LocalAccount) -> None:
    await start._signed_in(one, PHONE, "Ann")


def type_codes(keyboard: io.StringIO, *codes: str) -> None:
    keyboard.write("".join(f"{code}\n" for code in codes))
    keyboard.seek(0)


@pytest.mark.anyio
async def test_a_code_is_asked_for_and_may_be_mistyped(tmp_path: Path, keyboard: io.StringIO) -> None:
    api = Api(SENT, refused(403, "code_wrong"), signed_in(1))
    type_codes(keyboard, "000000", " 123456 ")
    await sign_in(account(tmp_path, api))
    assert [body.get("code") for _, body, _ in api.asked] == [None, "000000", "123456"]


@pytest.mark.anyio
async def test_a_sign_in_of_before_needs_no_code(tmp_path: Path, keyboard: io.StringIO) -> None:
    type_codes(keyboard, "123456")
    await sign_in(account(tmp_path, Api(SENT, signed_in(1))))
    await sign_in(account(tmp_path, Api()))


@pytest.mark.anyio
async def test_an_ended_sign_in_leads_to_a_new_code(
    tmp_path: Path, keyboard: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    type_codes(keyboard, "123456", "654321")
    await sign_in(account(tmp_path, Api(SENT, signed_in(1, expires_in_s=0))))
    await sign_in(account(tmp_path, Api(refused(401, "signed_out"), SENT, signed_in(2))))
    assert "You were signed out" in capsys.readouterr().out


@pytest.mark.anyio
async def test_who_was_signed_out_while_the_chat_ran_signs_in_again_at_the_next_start(
    tmp_path: Path, keyboard: io.StringIO
) -> None:
    type_codes(keyboard, "123456", "654321")
    running = account(tmp_path, Api(SENT, signed_in(1)))
    await sign_in(running)
    assert "Start it again to sign in" in start._why_ended(running, SignInRequiredError("You were removed."))
    api = Api(refused(401, "signed_out"), SENT, signed_in(2))
    await sign_in(account(tmp_path, api))
    assert not api.answers


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answers", "codes", "reason"),
    [
        ([refused(429, "rate_limited")], [], "no code could be sent"),
        ([SENT, refused(403, "suspended")], ["1"], "the sign-in was refused"),
        ([SENT, *(refused(403, "code_wrong") for _ in range(3))], ["1", "2", "3"], "the sign-in was refused"),
        ([SENT], [], "a code is needed"),
    ],
)
async def test_a_sign_in_that_fails_says_why(
    tmp_path: Path, keyboard: io.StringIO, answers: list[httpx.Response], codes: list[str], reason: str
) -> None:
    type_codes(keyboard, *codes)
    with pytest.raises(CannotStartError, match=reason):
        await sign_in(account(tmp_path, Api(*answers)))


@pytest.mark.anyio
async def test_the_sentence_of_a_server_cannot_command_the_terminal(
    tmp_path: Path, keyboard: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = httpx.Response(403, json={"code": "code_wrong", "message": "no\x1b]0;owned\x07", "retry_after_s": None})
    type_codes(keyboard, "1", "2", "3")
    with pytest.raises(CannotStartError) as refused:
        await sign_in(account(tmp_path, Api(SENT, evil, evil, evil)))
    shown = capsys.readouterr().out + str(refused.value)
    assert "owned" in shown
    assert not {"\x1b", "\x07"} & set(shown)


@pytest.mark.anyio
async def test_it_does_not_draw_into_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    async with httpx.AsyncClient() as http:
        with pytest.raises(CannotStartError, match="terminal"):
            await start._run("http://one:7420", tmp_path, LocalAccount(tmp_path, http), "Ann")
