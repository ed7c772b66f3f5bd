"""Reads the configuration: `config.toml`, then the environment, which overrides it, then the rules between keys.

Every mistake is a ConfigError that names the place, what is wrong and, for a misspelt key, the nearest one.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from server.config.reference import describe_type
from server.config.rules import find_broken_rules
from server.config.setting_types import Secret
from server.config.settings import CONFIG_VERSION, ENVIRONMENT_PREFIX, Config, name_variable

DEFAULT_PATH = Path("config.toml")

Fields = dict[str, msgspec.structs.FieldInfo]


class ConfigError(Exception):
    """The configuration cannot be used. Each of `problems` is a sentence that says where, and what to set."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _list_sections() -> dict[str, Fields]:
    """Return the keys of every section, in order."""
    return {
        section.name: {field.name: field for field in msgspec.structs.fields(section.type)}
        for section in msgspec.structs.fields(Config)
    }


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """Read the configuration; without a `path`, ./config.toml if it exists, else the defaults.

    Relative paths in it start at the file's folder. Raises ConfigError.
    """
    text = _read(path)
    found = path or DEFAULT_PATH
    values: dict[str, dict[str, Any]] = {name: {} for name in _list_sections()}
    if text is not None:
        _read_keys(found, text, values)
    _read_environment(environment, values)
    config = _build(found.parent.absolute(), values)
    if broken := list(find_broken_rules(config)):
        raise ConfigError(*broken)
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


def _read_keys(path: Path, text: str, values: dict[str, dict[str, Any]]) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    version = document.pop("version", None)
    if version != CONFIG_VERSION:
        has = "has no version" if version is None else f"is of version {version!r}"
        raise ConfigError(
            f"{path} {has}, but this tchat reads version {CONFIG_VERSION}: "
            f"compare it with `tchat config`, then set version = {CONFIG_VERSION}."
        )
    for section, keys in document.items():
        where = f"{path}{_find_line(text, section, None)}"
        _check_known(where, section, values, "section")
        if not isinstance(keys, dict):
            raise ConfigError(f"{where}: {section} is a section, not a key: write [{section}].")
        for key, value in keys.items():
            where = f"{path}{_find_line(text, section, key)}"
            field = _find_field(where, section, key)
            if field.type is Secret:
                raise ConfigError(
                    f"{where}: {section}.{key} is a secret and must not be in this file: "
                    f"set {name_variable(section, key)}, or {section}.{key}_file."
                )
            values[section][key] = _convert(f"{where}: {section}.{key}", field, value)


def _read_environment(environment: Mapping[str, str], values: dict[str, dict[str, Any]]) -> None:
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        where = f"environment variable {variable}"
        _check_known(where, section, values, "section")
        field = _find_field(where, section, key)
        values[section][key] = _convert(where, field, _parse(field, environment[variable]))


def _parse(field: msgspec.structs.FieldInfo, text: str) -> Any:
    """The value that a variable's text stands for: a text as it is, a list in TOML or with commas, others in TOML."""
    if field.type is Secret or isinstance(field.default, str | Path | None):
        return text
    if isinstance(field.default, tuple) and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(where: str, field: msgspec.structs.FieldInfo, value: Any) -> Any:
    if field.default is None and value == "":
        return None
    try:
        return msgspec.convert(value, type=field.type, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        shown = "" if field.type is Secret else f", not {value!r}"
        detail = f" ({error})" if isinstance(value, list) else ""
        taken = describe_type(field.type)
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
            if chosen.get(secret):
                raise ConfigError(
                    f"{section.name}.{key}: {name_variable(section.name, secret)} is set, too: remove one of them."
                )
            chosen[secret] = _read_secret(f"{section.name}.{key}", chosen[key])
        parts[section.name] = section.type(**chosen)
    return Config(**parts)


def _read_secret(where: str, path: Path) -> Secret:
    try:
        return Secret(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error}.") from error


def _find_field(where: str, section: str, key: str) -> msgspec.structs.FieldInfo:
    known = _list_sections()[section]
    elsewhere = [other for other, keys in _list_sections().items() if key in keys]
    if key not in known and elsewhere:
        raise ConfigError(f"{where}: {key!r} is not a key of [{section}], but of [{elsewhere[0]}].")
    _check_known(where, key, known, f"key of [{section}]")
    return known[key]


def _check_known(where: str, name: str, known: Mapping[str, object], what: str) -> None:
    if name in known:
        return
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise ConfigError(f"{where}: {name!r} is not a {what}; the nearest is {nearest[0]!r}.")


def _find_line(text: str, section: str, key: str | None) -> str:
    """The line of a key or section as ":12"; empty if it is written in a way that this search does not find."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.]+)", line):
            inside = header[1].split(".")[0]
            if key is None and inside == section:
                return f":{number}"
        elif inside == section and key is not None and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return f":{number}"
    return ""
