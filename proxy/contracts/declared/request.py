"""Read requests of a declared contract: the usual things, at the places that the declaration names.

Errors name the place that the contract uses. Fields that the declaration does not name are ignored.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import json
from msgspec.structs import replace

from proxy.config.frontends import ACCEPT, ALWAYS, NEVER, FrontendSettings
from proxy.config.parameters import KIND_OF_PARAMETER
from proxy.errors import BadRequest
from proxy.request import ChatRequest, Message, Other, Part, Role, Text
from proxy.wire.json_body import (
    NOT_EVERYWHERE,
    decode_params,
    decode_tools,
    get_array,
    get_object,
    get_string,
    missing,
    no_calls,
    one_choice,
    other_tools,
    parse_object,
    wrong,
)
from proxy.wire.messages import ROLES, read_calls
from proxy.wire.omissions import unread_settings
from proxy.wire.parts import read_content, read_part

DIALECT = "declared"

MOST_ECHOED = 1024
"""The most characters of a field that the answer repeats, for it may repeat it in every frame."""

_SCALARS = (str, int, float, bool)


class Places:
    """The places of one thing: fields or paths, of which the first that holds a value counts."""

    __slots__ = ("_paths", "name")

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = tuple([tuple(path.split(".")) for path in paths])
        self.name = ".".join(self._paths[0])

    def find(self, value: Any) -> tuple[Any, str]:
        """The value and its path; None if there is no value, or null."""
        for path in self._paths:
            found = at(value, path)
            if found is not None:
                return found, ".".join(path)
        return None, self.name

    def put(self, value: Any) -> Any:
        """The smallest object that holds `value` at this place."""
        for step in reversed(self._paths[0]):
            value = [*[None] * int(step), value] if step.isdecimal() else {step: value}
        return value

    def get(self, value: Any, expected: str, kind: type, prefix: str = "") -> Any:
        """The value, which must have this type. Raises `BadRequest` that names the place."""
        found, path = self.find(value)
        if found is None or type(found) is kind:
            return found
        raise wrong(prefix + path, expected, found)


def at(value: Any, path: Iterable[str]) -> Any:
    """The value at a path of names and list indices; None if there is none."""
    for step in path:
        if type(value) is dict:
            value = value.get(step)
        elif type(value) is list and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


class RequestReader:
    """Reads the requests of one contract."""

    def __init__(
        self, name: str, settings: FrontendSettings, *, calls_tools: bool, echoed: Mapping[str, tuple[str, ...]]
    ) -> None:
        request = settings.request
        self._name, self._echoed = name, echoed
        self._prompt = _places(request.prompt)
        self._messages = _places(request.messages or (None if request.prompt else ["messages"]))
        self._role, self._content = Places(request.role), Places(request.content)
        self._roles: Mapping[str, Role] = {**{role: role for role in ROLES}, **request.roles}
        self._system = _places(request.system)
        self._model, self._user = Places(request.model), Places(request.user)
        self._stream = request.stream
        self._stream_at = Places(request.stream)
        self._parameters = (
            None
            if request.parameters is None
            else {parameter: Places(fields) for parameter, fields in request.parameters.items()}
        )
        self._parameters_in = tuple(request.parameters_in.split(".")) if request.parameters_in else ()
        self._tools = _places(request.tools or (["tools"] if calls_tools else None))
        self._metadata = (
            None if request.metadata is None else {entry: Places(fields) for entry, fields in request.metadata.items()}
        )
        defaults = request.defaults
        self._defaults = {parameter: value for parameter, value in defaults.items() if parameter in KIND_OF_PARAMETER}
        self._default_model, self._default_system = defaults.get("model"), defaults.get("system")
        self._default_stream = defaults.get("stream", True)

    def decode(
        self, body: bytes, *, id: str, path: str, headers: Mapping[str, str], accepts_stream: bool
    ) -> ChatRequest:
        """The request in a body. Raises `BadRequest`: 400 if it is no JSON object, 422 if it is no chat request."""
        fields = parse_object(body)
        try:
            self._refuse_tools(fields)
            user, user_at = self._user.find(fields)
            if user is not None and (type(user) is bool or type(user) not in _SCALARS):
                raise wrong(user_at, "a string or a number", user)
            params = self._params(fields)
            messages = self._conversation(fields)
            tools = self._tools.get(fields, "a list", list) if self._tools else None
            return ChatRequest(
                id=id,
                contract=self._name,
                dialect=DIALECT,
                messages=_without_unknown(messages),
                model=self._model.get(fields, "a string", str) or self._default_model,
                params=params,
                hints=NOT_EVERYWHERE & params.keys(),
                tools=decode_tools(tools, self._tools.name) if self._tools else (),
                hosted_tools=other_tools(tools),
                unread=(*self._unread(fields), *_unknown(messages)),
                stream=self._streams(fields, accepts_stream=accepts_stream),
                user=None if user is None else str(user),
                metadata=self._metadata_of(fields),
                path=path,
                headers=headers,
                raw_body={name: _echo(fields, steps) for name, steps in self._echoed.items()},
            )
        except BadRequest as error:
            error.status = 422
            raise

    def smallest_body(self) -> bytes:
        """A request that says "hi" and nothing else."""
        if self._prompt is not None:
            return json.encode(self._prompt.put("hi"))
        assert self._messages is not None
        user = next((word for word, role in reversed(list(self._roles.items())) if role == "user"), "user")
        return json.encode(self._messages.put([_merged(self._role.put(user), self._content.put("hi"))]))

    # -- messages ----------------------------------------------------------------------------------------------

    def _conversation(self, fields: dict[str, Any]) -> tuple[Message, ...]:
        messages: list[Message] = []
        if self._messages is not None:
            values = self._messages.get(fields, "a list of messages", list)
            where = self._messages.find(fields)[1]
            messages += [self._message(value, f"{where}[{index}]") for index, value in enumerate(values or ())]
        if self._prompt is not None and (prompt := self._prompt.get(fields, "a string", str)) is not None:
            messages.append(Message("user", (Text(prompt),)))
        if not messages:
            raise self._no_messages(fields)
        system = self._system.get(fields, "a string", str) if self._system is not None else None
        if not system and not any(message.role in {"system", "developer"} for message in messages):
            system = self._default_system
        if system:
            messages.insert(0, Message("system", (Text(system),)))
        return tuple(messages)

    def _no_messages(self, fields: dict[str, Any]) -> BadRequest:
        if self._prompt is not None:
            return missing(self._prompt.name, "a string")
        assert self._messages is not None
        found, where = self._messages.find(fields)
        if found is None:
            return missing(where, "a list of messages")
        return BadRequest(f"{where}: expected at least one message, got an empty list", param=where)

    def _message(self, value: Any, path: str) -> Message:
        if type(value) not in {dict, list}:
            raise wrong(path, "an object", value)
        role = self._role_of(value, path)
        content, where = self._content.find(value)
        where = f"{path}.{where}"
        named = value if type(value) is dict and self._tools is not None else {}
        calls = read_calls(get_array(named, "tool_calls", path) or [], f"{path}.tool_calls")
        if content is None and role != "assistant":
            raise missing(where, "a string or a list of parts")
        return Message(
            role=role,
            parts=_parts(content, where),
            tool_calls=calls,
            tool_call_id=get_string(named, "tool_call_id", path),
            name=get_string(named, "name", path),
        )

    def _role_of(self, value: Any, path: str) -> Role:
        word, where = self._role.find(value)
        where = f"{path}.{where}"
        if word is None:
            raise missing(where, "a string")
        if type(word) is bool:  # such as `isUser`: the declaration maps `true` and `false` to roles
            word = "true" if word else "false"
        if type(word) is not str:
            raise wrong(where, "a string", word)
        role = self._roles.get(word)
        if role is None:
            raise BadRequest(f"{where}: {word[:32]!r} is none of {', '.join(self._roles)}", param=where)
        return role

    # -- settings ----------------------------------------------------------------------------------------------

    def _params(self, fields: dict[str, Any]) -> dict[str, Any]:
        holder = fields
        if self._parameters_in:
            found = at(fields, self._parameters_in)
            if found is not None and type(found) is not dict:
                raise wrong(".".join(self._parameters_in), "an object", found)
            holder = found or {}
        if self._parameters is None:
            params = decode_params(holder, at=".".join(self._parameters_in))
        else:
            found_params = {name: places.find(holder) for name, places in self._parameters.items()}
            params = one_choice(
                {name: value for name, (value, _) in found_params.items() if value is not None},
                {name: ".".join((*self._parameters_in, path)) for name, (_, path) in found_params.items()},
            )
        return {**self._defaults, **params}

    def _unread(self, fields: dict[str, Any]) -> tuple[str, ...]:
        if self._parameters is not None:
            return ()  # the names are the contract's own, and what else there is may be the application's
        return unread_settings(at(fields, self._parameters_in) or {})

    def _streams(self, fields: dict[str, Any], *, accepts_stream: bool) -> bool:
        match self._stream:
            case [word] if word == ALWAYS:
                return True
            case [word] if word == NEVER:
                return False
            case [word] if word == ACCEPT:
                return accepts_stream
            case _:
                stream: bool | None = self._stream_at.get(fields, "a boolean", bool)
                return bool(self._default_stream) if stream is None else stream

    def _metadata_of(self, fields: dict[str, Any]) -> Mapping[str, Any]:
        if self._metadata is None:
            return get_object(fields, "metadata") or {}
        found = {name: places.find(fields)[0] for name, places in self._metadata.items()}
        return {name: value for name, value in found.items() if type(value) in _SCALARS}

    def _refuse_tools(self, fields: dict[str, Any]) -> None:
        """Refuse tools that the contract does not read: their client would wait for calls that never come."""
        if self._tools is not None:
            return
        tools = fields.get("tools")
        if type(tools) is list and any(type(tool) is dict and tool.get("type") == "function" for tool in tools):
            raise no_calls(self._name, "declare `tool_call` for it")


def _places(paths: list[str] | None) -> Places | None:
    return Places(paths) if paths else None


def _parts(content: Any, path: str) -> tuple[Part, ...]:
    """A message's content."""
    if type(content) is not list:
        return read_content(content, path, required=False)
    parts: list[Part] = []
    for index, part in enumerate(content):
        where = f"{path}[{index}]"
        if type(part) is str:
            parts.append(Text(part))
        elif type(part) is not dict:
            raise wrong(where, "an object", part)
        elif "type" not in part and type(part.get("text")) is str:
            parts.append(Text(part["text"]))
        else:
            parts += read_part(part, where)
    return tuple(parts)


def _unknown(messages: tuple[Message, ...]) -> Iterator[str]:
    """The types of parts that no backend could carry, for notices."""
    kinds = [part.kind for message in messages for part in message.parts if isinstance(part, Other)]
    return (f"a part of type {kind}" if kind.isidentifier() else "a part" for kind in dict.fromkeys(kinds))


def _without_unknown(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if not any(_unknown(messages)):
        return messages
    return tuple(
        replace(message, parts=tuple(part for part in message.parts if not isinstance(part, Other)))
        for message in messages
    )


def _merged(one: Any, other: Any) -> Any:
    """Two small objects merged into one."""
    match one, other:
        case dict(), dict():
            return {**one, **{name: _merged(one.get(name), value) for name, value in other.items()}}
        case list(), list():
            length = max(len(one), len(other))
            padded = (list(values) + [None] * (length - len(values)) for values in (one, other))
            return [_merged(*pair) for pair in zip(*padded, strict=True)]
        case _:
            return one if other is None else other


def _echo(fields: dict[str, Any], steps: tuple[str, ...]) -> Any:
    """A field that the answer repeats: a string, a number or a boolean; null in place of anything else."""
    value = at(fields, steps)
    if type(value) is str and len(value) > MOST_ECHOED:
        where = ".".join(steps)
        raise BadRequest(
            f"{where}: expected at most {MOST_ECHOED} characters, as the answer repeats it; got {len(value)}",
            param=where,
        )
    return value if type(value) in _SCALARS else None
