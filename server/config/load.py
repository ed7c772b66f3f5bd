"""Reading the configuration: `config.toml`, then the environment over it, then what only makes sense together.

Every mistake is a ConfigError that names where it stands, what is wrong and, for a misspelt key, the nearest one.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from server.config.reference import takes
from server.config.settings import CONFIG_VERSION, ENVIRONMENT_PREFIX, Config, Secret

DEFAULT_PATH = Path("config.toml")

Fields = dict[str, msgspec.structs.FieldInfo]


class ConfigError(Exception):
    """The configuration cannot be used; the message says where and why."""


def sections() -> dict[str, Fields]:
    """The keys of every section, in order."""
    return {
        section.name: {field.name: field for field in msgspec.structs.fields(section.type)}
        for section in msgspec.structs.fields(Config)
    }


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Read the configuration; `path` None means ./config.toml if there is one, else the defaults.

    Relative paths in it are relative to the file's folder. Raises ConfigError.
    """
    text = _read(path)
    found = path or DEFAULT_PATH
    values: dict[str, dict[str, Any]] = {name: {} for name in sections()}
    if text is not None:
        _take_file(found, text, values)
    _take_environment(environment, values)
    config = _build(found.parent.absolute(), values)
    _check_together(config)
    return config


def _read(path: Path | None) -> str | None:
    try:
        return (path or DEFAULT_PATH).read_text(encoding="utf-8")
    except FileNotFoundError:
        if path is None:
            return None
        raise ConfigError(f"There is no configuration file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path or DEFAULT_PATH} cannot be read: {error}.") from error


def _take_file(path: Path, text: str, values: dict[str, dict[str, Any]]) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    version = document.pop("version", None)
    if version != CONFIG_VERSION:
        has = "has no version" if version is None else f"is of version {version!r}"
        raise ConfigError(
            f"{path} {has} and this tchat reads version {CONFIG_VERSION}: "
            f"compare it with `tchat config` and set version = {CONFIG_VERSION}."
        )
    for section, keys in document.items():
        where = f"{path}{_line_of(text, section, None)}"
        _known(where, section, values, "section")
        if not isinstance(keys, dict):
            raise ConfigError(f"{where}: {section} is a section: write [{section}].")
        for key, value in keys.items():
            where = f"{path}{_line_of(text, section, key)}"
            field = _field(where, section, key)
            if field.type is Secret:
                raise ConfigError(
                    f"{where}: {section}.{key} is a secret and does not belong into this file: "
                    f"set {_variable(section, key)}, or {section}.{key}_file."
                )
            values[section][key] = _converted(f"{where}: {section}.{key}", field, value)


def _take_environment(environment: Mapping[str, str], values: dict[str, dict[str, Any]]) -> None:
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        where = f"environment variable {variable}"
        _known(where, section, values, "section")
        field = _field(where, section, key)
        values[section][key] = _converted(where, field, _parsed(field, environment[variable]))


def _parsed(field: msgspec.structs.FieldInfo, text: str) -> Any:
    """What a variable's text means: texts as they are, lists as TOML or with commas, all else as TOML."""
    if field.type is Secret or isinstance(field.default, str | Path | None):
        return text
    if isinstance(field.default, tuple) and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _converted(where: str, field: msgspec.structs.FieldInfo, value: Any) -> Any:
    if field.default is None and value == "":
        return None
    try:
        return msgspec.convert(value, type=field.type, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        shown = "" if field.type is Secret else f", not {value!r}"
        detail = f" ({error})" if isinstance(value, list) else ""
        taken = takes(field.type)
        article = "" if taken.startswith(('"', "true ")) else "a "
        raise ConfigError(f"{where} takes {article}{taken}{shown}{detail}.") from error


def _from_text(kind: type, value: Any) -> Any:
    if not isinstance(value, str):
        raise msgspec.ValidationError("Expected `str`")
    return kind(value)


def _build(base: Path, values: dict[str, dict[str, Any]]) -> Config:
    parts: dict[str, Any] = {}
    for section in msgspec.structs.fields(Config):
        chosen = values[section.name]
        for field in msgspec.structs.fields(section.type):
            value = chosen.get(field.name, field.default)
            if isinstance(value, Path):
                chosen[field.name] = base / value
        for key in [key for key, path in chosen.items() if key.endswith("_file") and path is not None]:
            secret = key.removesuffix("_file")
            chosen[secret] = chosen.get(secret) or _secret_from(f"{section.name}.{key}", chosen[key])
        parts[section.name] = section.type(**chosen)
    return Config(**parts)


def _secret_from(where: str, path: Path) -> Secret:
    try:
        return Secret(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error}.") from error


def _check_together(config: Config) -> None:
    server = config.server
    if server.mode == "development":
        for key, host in (("host", server.host), ("admin_host", server.admin_host)):
            if not _is_loopback(host):
                raise ConfigError(
                    f"server.{key}: development serves this machine only and {host} is not a loopback address: "
                    'use 127.0.0.1, or server.mode = "production".'
                )
    elif config.identity.code_sender == "log":
        raise ConfigError(
            'identity.code_sender: "log" shows every sign-in code to whoever reads the log and is refused in '
            'production: name a sender of yours, or "none" where other issuers sign people in.'
        )
    if urlsplit(config.storage.postgres_url).password:
        raise ConfigError(
            "storage.postgres_url: the password does not belong into the URL: "
            f"set {_variable('storage', 'postgres_password')}, or storage.postgres_password_file."
        )
    if config.sessions.idle_timeout_s <= config.sessions.heartbeat_s:
        raise ConfigError("sessions.idle_timeout_s: must be longer than sessions.heartbeat_s, or idle clients are cut.")
    if config.pipeline.lanes >= config.storage.connections_max:
        raise ConfigError("pipeline.lanes: must be less than storage.connections_max, or nothing is left for reads.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _field(where: str, section: str, key: str) -> msgspec.structs.FieldInfo:
    known = sections()[section]
    elsewhere = [other for other, keys in sections().items() if key in keys]
    if key not in known and elsewhere:
        raise ConfigError(f"{where}: {key!r} is no key of [{section}], but of [{elsewhere[0]}].")
    _known(where, key, known, f"key of [{section}]")
    return known[key]


def _known(where: str, name: str, known: Mapping[str, object], what: str) -> None:
    if name in known:
        return
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise ConfigError(f"{where}: {name!r} is no {what}; the nearest is {nearest[0]!r}.")


def _variable(section: str, key: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()


def _line_of(text: str, section: str, key: str | None) -> str:
    """The line of a key or section as ":12", or nothing if it is written in a way that this does not see."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.]+)", line):
            inside = header[1].split(".")[0]
            if key is None and inside == section:
                return f":{number}"
        elif inside == section and key is not None and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return f":{number}"
    return ""
