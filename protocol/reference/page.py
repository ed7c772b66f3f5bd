"""The reference page of the protocol, generated from its types and catalogues: `python -m protocol.reference`."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from protocol import ids, limits
from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK
from protocol.command_rules import EVERY_COMMAND, CommandRule
from protocol.commands import COMMANDS
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.errors import ErrorCode
from protocol.events import AnyEvent
from protocol.ids import Id
from protocol.json_forms import tag_name
from protocol.kinds import KINDS, Kind, KindRule
from protocol.payment_commands import PayAction
from protocol.reference import examples, guide
from protocol.reference import prose as reference_prose
from protocol.reference.examples import ANN, BOB, BODIES, EVENTS, REPLIES, timeline_event
from protocol.reference.tables import list_limits, list_shared
from protocol.replies import AnyReply
from protocol.states import SessionState

_ENUMS: dict[type[enum.IntEnum], str] = {
    Kind: "kinds",
    DialogType: "types of dialogs",
    Mode: "modes",
    Role: "roles",
    PayAction: "actions of pay",
}
_EVERY_NUMBERED = frozenset.intersection(*(command.rule.codes for command in COMMANDS if command.rule.appends))
_WORDS: dict[type, str] = {bool: "boolean", float: "number", int: "integer", str: "text", bytes: "bytes"}
_UNITS: dict[type, str] = {str: "characters", bytes: "bytes"}


def as_markdown() -> str:
    """The whole page."""
    return "\n".join(_page()).rstrip() + "\n"


def _page() -> Iterator[str]:
    yield reference_prose.OPENING
    yield reference_prose.HANDSHAKE
    yield from _states()
    yield reference_prose.RESUME
    yield reference_prose.NUMBERS
    yield from _derived_ids()
    yield reference_prose.CONSENT
    yield reference_prose.KEYS
    yield reference_prose.SEALED
    yield reference_prose.RECEIPTS
    yield from _close_codes()
    yield from guide.as_markdown()
    yield reference_prose.MESSAGES
    yield from _commands()
    yield from _messages("Commands, one by one", examples.COMMANDS, COMMANDS)
    yield from _messages("Replies", REPLIES, get_args(AnyReply))
    yield from _messages("Events", EVENTS, get_args(AnyEvent))
    yield from _bodies()
    yield "### Shared structs\n"
    for struct in list_shared():
        yield from _struct(struct)
    yield from _catalogues()


def _derived_ids() -> Iterator[str]:
    for said, dialog in (
        ("the `self` dialog of", ids.self_dialog_id(ANN)),
        ("the direct dialog with `" + ids.to_text(BOB) + "` of", ids.direct_dialog_id(BOB, ANN)),
        ("the dialog that is created with `n` = 5 by device", ids.created_dialog_id(ANN, 5)),
    ):
        yield f"- {said} `{ids.to_text(ANN)}`: `{ids.to_text(dialog)}`"
    yield ""


def _messages(title: str, shown: Iterable[msgspec.Struct], members: Iterable[type[msgspec.Struct]]) -> Iterator[str]:
    by_type = {type(example): example for example in shown}
    yield f"### {title}\n"
    for struct in members:
        yield from _struct(struct)
        yield from _example(by_type[struct])


def _commands() -> Iterator[str]:
    """The rules of the commands as one table."""
    yield "### Commands\n"
    yield (
        "A command that appends is *numbered*: it carries `n`, and its body becomes an event of a timeline. The cost\n"
        "counts against the rate of commands of the session and grows with what a command asks for; the table has the\n"
        "cost of the example below. Pipelined commands have a rate of their own. Any command may be refused with\n"
        f"{_codes(EVERY_COMMAND)}, a numbered one with\n{_codes(_EVERY_NUMBERED)}, too.\n"
    )
    yield "| command | appends | to | pipelined | cost | refused with |"
    yield "|---|---|---|---|---|---|"
    by_type = {type(example): example for example in examples.COMMANDS}
    for command in COMMANDS:
        rule: CommandRule = command.rule
        appends = "" if rule.appends is None else f"`{tag_name(rule.appends)}`"
        timeline = "" if rule.appends is None else rule.timeline.value
        codes = rule.codes if rule.appends is None else rule.codes - _EVERY_NUMBERED
        cost = "one send" if rule.pipelined else str(rule.cost(by_type[command]))
        yield f"| `{tag_name(command)}` | {appends} | {timeline} | {_yes(rule.pipelined)} | {cost} | {_codes(codes)} |"
    yield ""


def _codes(codes: Iterable[ErrorCode]) -> str:
    return ", ".join(f"`{code}`" for code in sorted(codes))


def _bodies() -> Iterator[str]:
    yield "### Bodies\n"
    yield "The `body` of a `timeline_event` says what happened. The examples show the whole event.\n"
    for body in BODIES:
        yield from _struct(type(body))
        yield from _example(timeline_event(body))


def _struct(struct: type[msgspec.Struct]) -> Iterator[str]:
    tag = struct.__struct_config__.tag
    yield f"#### `{tag_name(struct)}`" + ("" if tag is None else f" (tag {tag})") + "\n"
    yield (inspect.getdoc(struct) or "") + "\n"
    fields = msgspec.structs.fields(struct)
    if not fields:
        yield "No fields.\n"
        return
    hints = get_type_hints(struct, include_extras=True)
    yield "| field | value | default |"
    yield "|---|---|---|"
    for field in fields:
        yield f"| `{field.name}` | {_value(hints[field.name])} | {_default(field)} |"
    yield ""


def _value(hint: Any, meta: msgspec.Meta | None = None) -> str:
    """What a field takes, in words."""
    if hint == Id:
        return "id"
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *metas = get_args(hint)
        return _value(inner, next((one for one in metas if isinstance(one, msgspec.Meta)), None))
    if origin in (Union, types.UnionType):
        arms = [arm for arm in get_args(hint) if arm is not types.NoneType]
        return f"{_value(arms[0])}, or null" if len(arms) == 1 else "a [body](#bodies)"
    if origin is list:
        return f"list of {_value(get_args(hint)[0])}{_bounds(meta, 'of them')}"
    if origin is tuple:
        return "pair of " + " and ".join(_value(each) for each in get_args(hint))
    return _plain(hint, meta)


def _plain(hint: type, meta: msgspec.Meta | None) -> str:
    if issubclass(hint, msgspec.Struct):
        tag = hint.__struct_config__.tag
        return f"[{tag_name(hint)}](#{tag_name(hint)}{'' if tag is None else f'-tag-{tag}'})"
    if issubclass(hint, enum.IntEnum):
        name = _ENUMS[hint]
        return f"one of the [{name}](#{name.replace(' ', '-')})"
    words = _WORDS[hint]
    return words + _bounds(meta, _UNITS.get(hint, ""))


def _bounds(meta: msgspec.Meta | None, unit: str) -> str:
    if meta is None:
        return ""
    low, high = (meta.ge, meta.le) if not unit else (meta.min_length, meta.max_length)
    if high is None:
        return "" if low is None else f", {low} or more"
    top = "2^53 - 1" if high == limits.N_MAX else f"{high:,}"
    if low == high:
        return f", exactly {top} {unit}".rstrip()
    return f", {low or 0} to {top} {unit}".rstrip()


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default is not msgspec.NODEFAULT:
        return _literal(field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return _literal(field.default_factory())
    return "required"


def _literal(value: object) -> str:
    if isinstance(value, enum.Enum):
        return f"`{value.name.lower()}`"
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    if isinstance(value, bytes):
        return "all zeros"
    if value == limits.N_MAX:
        return "2^53 - 1"
    return "empty" if value in ("", [], ()) else f"`{msgspec.json.encode(value).decode()}`"


def _example(message: msgspec.Struct) -> Iterator[str]:
    yield "```json"
    yield JSON.encode(message).decode()
    yield "```\n"
    yield "```text"
    data = MSGPACK.encode(message).hex()
    yield from (data[start : start + 112] for start in range(0, len(data), 112))
    yield "```\n"


def _states() -> Iterator[str]:
    yield "| command | " + " | ".join(state.value for state in SessionState) + " |"
    yield "|---|" + "---|" * len(SessionState)
    for command in COMMANDS:
        cells = ("yes" if state in command.rule.states else "" for state in SessionState)
        yield f"| `{tag_name(command)}` | " + " | ".join(cells) + " |"
    yield ""


def _close_codes() -> Iterator[str]:
    yield "| code | name | meaning | do |"
    yield "|---|---|---|---|"
    for code in CloseCode:
        yield f"| {code.value} | `{code.name}` | {code.meaning} | {code.advice.value} |"
    yield "\nAfter an end without a close code, or with an unknown one: reconnect with back-off and resume.\n"


def _catalogues() -> Iterator[str]:
    yield from _error_codes()
    yield from _dialog_types()
    yield "## Kinds\n"
    yield "The kind of a posted envelope: its number under msgpack, its name under json.\n"
    yield "| kind | number | meaning | counts as unread | posted by | kept |"
    yield "|---|---|---|---|---|---|"
    for kind, rule in KINDS.items():
        by = "members" if rule.by_members else "services"
        said = f"{rule.meaning} | {_yes(rule.counts_unread)} | {by} | {_kept(rule)}"
        yield f"| `{kind.name.lower()}` | {kind.value} | {said} |"
    yield ""
    for numbers in (Mode, Role, PayAction):
        yield f"## {_ENUMS[numbers].capitalize()}\n"
        yield (inspect.getdoc(numbers) or "") + "\n"
        yield from (f"- `{each.name.lower()}`: {each.value}" for each in numbers)
        yield ""
    yield from _limits()


def _kept(rule: KindRule) -> str:
    if rule.kept_days_min:
        return f"{rule.kept_days_min} days at least"
    return "as the dialog's settings say" if rule.kept_days_max is None else f"{rule.kept_days_max} days at most"


def _error_codes() -> Iterator[str]:
    yield "## Error codes\n"
    yield "| code | temporary | what to do |"
    yield "|---|---|---|"
    for code in ErrorCode:
        yield f"| `{code.value}` | {_yes(code.temporary)} | {code.sentence} |"
    yield ""


def _dialog_types() -> Iterator[str]:
    yield "## Types of dialogs\n"
    yield (
        "| type | number | members | who writes | members change | named | admins "
        "| receipts | typing | history before joining | default mode |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for kind, rule in DIALOG_TYPES.items():
        cells = (
            f"`{kind.name.lower()}`",
            str(kind.value),
            f"{rule.members_min} to {rule.members_max}",
            "admins" if rule.admins_only_write else "members",
            _yes(not rule.fixed_roster),
            _yes(rule.named),
            _yes(rule.has_admins),
            _yes(rule.receipts),
            _yes(rule.typing),
            _yes(rule.full_history),
            f"`{rule.default_mode.name.lower()}`",
        )
        yield "| " + " | ".join(cells) + " |"
    yield "\nThe lower bound of members holds at creation only. A principal has a `self` dialog from the beginning.\n"


def _limits() -> Iterator[str]:
    yield "## Limits\n"
    yield (
        "The limits of the protocol are the same on every server. Rates are settings of the server, which "
        "`authenticated` names: what a device sends above them waits, and is answered later.\n"
    )
    yield "| limit | value | |"
    yield "|---|---|---|"
    for name, value, meaning in list_limits():
        yield f"| `{name}` | {value} | {meaning} |"


def _yes(value: object) -> str:
    return "yes" if value else "no"
