"""Read `/chat` requests."""

from collections.abc import Mapping

from proxy.errors import BadRequest
from proxy.request import ChatRequest
from proxy.wire.json_body import (
    NOT_EVERYWHERE,
    decode_params,
    decode_tools,
    get_array,
    get_boolean,
    get_object,
    get_string,
    need_array,
    no_calls,
    other_tools,
    parse_object,
)
from proxy.wire.messages import read_messages
from proxy.wire.omissions import unread_settings


def decode_request(
    body: bytes, *, id: str, path: str = "", headers: Mapping[str, str], stream: bool = True
) -> ChatRequest:
    """The request in a body. `stream` applies when the body does not say whether to stream.

    Raises `BadRequest`: status 400 for a body that is no JSON object, 422 for an object that is no chat request.
    """
    fields = parse_object(body)
    try:
        messages = need_array(fields, "messages")
        if not messages:
            raise BadRequest("messages: expected at least one message, got an empty list", param="messages")
        asked = get_boolean(fields, "stream")
        tools = get_array(fields, "tools")
        if decode_tools(tools):
            raise no_calls("chat", "ask at /v1/chat/completions")
        params = decode_params(fields)
        return ChatRequest(
            id=id,
            contract="chat",
            dialect="chat",
            messages=read_messages(messages),
            model=get_string(fields, "model") or None,
            params=params,
            hints=NOT_EVERYWHERE & params.keys(),
            hosted_tools=other_tools(tools),
            unread=unread_settings(fields),
            stream=stream if asked is None else asked,
            user=get_string(fields, "user"),
            metadata=get_object(fields, "metadata") or {},
            path=path,
            headers=headers,
        )
    except BadRequest as error:
        error.status = 422
        raise
