"""Configuration: a file, the environment that overrides it, and errors that name the place and the mistake."""

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from server.config.load import ConfigError, load
from server.config.setting_types import Secret
from server.config.settings import Config

ROOT = Path(__file__).parents[3]

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file of this version."""

    def written(text: str, version: str = "version = 1\n") -> Path:
        path = tmp_path / "my.toml"
        path.write_text(version + text)
        return path

    return written


def refusal(path: Path, **environment: str) -> str:
    """The error that loading raises."""
    with pytest.raises(ConfigError) as caught:
        load(path, environment)
    return str(caught.value)


def test_the_file_at_the_root_holds_the_defaults() -> None:
    loaded = load(ROOT / "config.toml", {})
    server = msgspec.structs.replace(loaded.server, data_dir=Path(".tchat"))
    commerce = msgspec.structs.replace(loaded.commerce_service, data_dir=Path(".tchat-commerce"))
    relay = msgspec.structs.replace(loaded.relay, data_dir=Path(".tchat-commerce"))
    folders = (loaded.server.data_dir, loaded.commerce_service.data_dir, loaded.relay.data_dir)
    assert folders == (ROOT / ".tchat", ROOT / ".tchat-commerce", ROOT / ".tchat-commerce")
    assert msgspec.structs.replace(loaded, server=server, commerce_service=commerce, relay=relay) == Config()


def test_without_a_file_the_defaults_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).sessions == Config().sessions
    assert load(None, {}).server.data_dir == tmp_path / ".tchat"


def test_the_file_in_the_current_folder_is_read_by_default(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("[server]\nport = 1234\n").rename(tmp_path / "config.toml")
    assert load(None, {}).server.port == 1234


def test_a_file_sets_its_keys_and_leaves_the_others(write: Write) -> None:
    config = load(write("[sessions]\nheartbeat_s = 5\n"), {})
    assert config.sessions.heartbeat_s == 5.0
    assert config.sessions.idle_timeout_s == Config().sessions.idle_timeout_s


def test_the_environment_overrides_the_file(write: Write) -> None:
    config = load(write("[server]\nport = 1\n"), {"TCHAT__SERVER__PORT": "2", "TCHATTER": "ignored"})
    assert config.server.port == 2


@pytest.mark.parametrize("text", ["TH, SG", '["TH", "SG"]'])
def test_the_environment_writes_a_list_with_commas_or_as_toml(write: Write, text: str) -> None:
    assert load(write(""), {"TCHAT__IDENTITY__COUNTRIES": text}).identity.countries == ("TH", "SG")


def test_a_text_from_the_environment_is_not_parsed(write: Write) -> None:
    assert load(write(""), {"TCHAT__IDENTITY__ISSUER": "7"}).identity.issuer == "7"


def test_relative_paths_start_at_the_files_folder(write: Write) -> None:
    path = write('[server]\ndata_dir = "data"\n')
    assert load(path, {}).server.data_dir == path.parent / "data"
    assert load(path, {"TCHAT__SERVER__DATA_DIR": "/elsewhere"}).server.data_dir == Path("/elsewhere")


def test_issuers_are_tables(write: Write) -> None:
    text = '[[identity.issuers]]\nissuer = "a"\naudience = "b"\njwks_url = "https://c/keys"\ntenant = 2\n'
    (issuer,) = load(write(text), {}).identity.issuers
    assert (issuer.issuer, issuer.tenant) == ("a", 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nhots = '127.0.0.1'\n", "my.toml:3: 'hots' is not a key of [server]; the nearest is 'host'"),
        ("[gateway]\nport = 1\n", "my.toml:3: 'port' is not a key of [gateway], but of [server]"),
        ("[sever]\nport = 1\n", "my.toml:2: 'sever' is not a section; the nearest is 'server'"),
        ("server = 1\n", "server is a section, not a key: write [server]"),
        (
            "[server]\n# c\nport = 'x'\n",
            "my.toml:4: server.port takes a whole number, at least 0, at most 65535, not 'x'",
        ),
        ("[server]\nport = 65536\n", "my.toml:3: server.port takes a whole number"),
        ("[server]\nport = true\n", "not True"),
        ("[server]\nmode = 'test'\n", '"development" or "production", not \'test\''),
        ("[server]\ndata_dir = 3\n", "server.data_dir takes a path, not 3"),
        ("[sessions]\nheartbeat_s = 0\n", "more than 0"),
        ("[identity]\ncountries = [1]\n", "identity.countries takes a list of texts"),
        ("[[identity.issuers]]\nisuer = 'a'\n", "isuer"),
        ("[server\n", "is not TOML"),
        ("[storage]\npostgres_password = 'hunter2'\n", "storage.postgres_password is a secret"),
        ("[storage]\npostgres_url = 'postgresql://u:hunter2@h/d'\n", "TCHAT__STORAGE__POSTGRES_PASSWORD"),
        ("[server]\nhost = '0.0.0.0'\n", "not a loopback address"),
        ("[server]\nadmin_host = 'example.org'\n", "server.admin_host: development serves this machine only"),
        ("[sessions]\nidle_timeout_s = 20\n", "must be longer than sessions.heartbeat_s"),
        ("[pipeline]\nqueue_rows_max = 499\n", "can never fill a flush of pipeline.batch_rows_max"),
        ("[gateway]\nmessage_bytes_max = 65536\n", "gateway.message_bytes_max: 65536 bytes do not fit"),
    ],
)
def test_a_mistake_is_named_with_its_place(write: Write, text: str, said: str) -> None:
    refused = refusal(write(text))
    assert said in refused
    assert "hunter2" not in refused


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TCHAT__SERVER__PROT", "1", "TCHAT__SERVER__PROT: 'prot' is not a key of [server]; the nearest is 'port'"),
        ("TCHAT__SERVER", "1", "'' is not a key of [server]"),
        (
            "TCHAT__SERVER__PORT",
            "many",
            "TCHAT__SERVER__PORT takes a whole number, at least 0, at most 65535, not 'many'",
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(write: Write, variable: str, value: str, said: str) -> None:
    assert said in refusal(write(""), **{variable: value})


@pytest.mark.parametrize(("version", "said"), [("", "has no version"), ("version = 2\n", "is of version 2")])
def test_a_file_of_another_version_is_refused(tmp_path: Path, version: str, said: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(version)
    refused = refusal(path)
    assert said in refused
    assert "this tchat reads version 1" in refused


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    assert "no configuration file" in refusal(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(b"\xff")
    assert "cannot be read" in refusal(path)


def test_production_may_be_exposed_but_logs_no_codes(write: Write) -> None:
    refused = refusal(write("[server]\nmode = 'production'\nhost = '0.0.0.0'\n"))
    assert refused.startswith("identity.code_sender")


def test_a_secret_comes_from_the_environment_or_from_a_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    path = write("[storage]\npostgres_password_file = 'password'\n")
    assert load(path, {}).storage.postgres_password.reveal() == "from a file"
    given = {"TCHAT__STORAGE__POSTGRES_PASSWORD": "given"}
    assert load(write(""), given).storage.postgres_password.reveal() == "given"


def test_a_secret_that_is_given_twice_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    path = write("[storage]\npostgres_password_file = 'password'\n")
    refused = refusal(path, TCHAT__STORAGE__POSTGRES_PASSWORD="hunter2")
    assert refused.startswith("storage.postgres_password_file: TCHAT__STORAGE__POSTGRES_PASSWORD is set, too")
    assert "hunter2" not in refused


def test_all_that_is_unsafe_is_said_at_once(write: Write) -> None:
    refused = refusal(write("[server]\nmode = 'production'\nadmin_host = '0.0.0.0'\n"))
    assert [line.split(":")[0] for line in refused.splitlines()] == ["identity.code_sender", "server.admin_host"]


def test_a_missing_secret_file_is_refused(write: Write) -> None:
    refused = refusal(write("[storage]\npostgres_password_file = 'none'\n"))
    assert re.search(r"storage\.postgres_password_file: .*none cannot be read", refused)


def test_a_secret_is_never_shown(write: Write) -> None:
    config = load(write(""), {"TCHAT__STORAGE__POSTGRES_PASSWORD": "hunter2"})
    assert "hunter2" not in f"{config!r} {config} {Secret('hunter2')}"
    assert "Secret(***)" in repr(config)
