"""What a target takes in a conversation: its grammar as data. No I/O.

A conversation that is translated for another dialect is written in the target's vocabulary. A backend kind, a preset
or a model has a row; what a row does not name is what most servers of OpenAI's language take.
"""

import re
import string
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

_ANY = re.compile(r"[\x21-\x7e]+")
EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's words of `reasoning_effort` besides `none`, in order. Others are a vendor's own, which its routes may use."""
WORD = string.ascii_letters + string.digits + "_-"


class IdForm(msgspec.Struct, frozen=True):
    """The call ids that a target takes: from `shortest` to `longest` characters.

    `characters` empty: any visible ASCII.
    """

    characters: str = ""
    shortest: int = 1
    longest: int = 256

    def takes(self, id_: str) -> bool:
        """Whether the target takes this id as it is."""
        if not self.shortest <= len(id_) <= self.longest:
            return False
        return not set(id_).difference(self.characters) if self.characters else _ANY.fullmatch(id_) is not None


class NameForm(msgspec.Struct, frozen=True):
    """The names of tools that a target takes: up to `longest` of `characters`; empty: any visible ASCII.

    `starts` are the characters that a name may begin with; empty: any of them.
    """

    characters: str = WORD
    longest: int = 64
    starts: str = ""

    def takes(self, name: str) -> bool:
        """Whether the target takes this name as it is."""
        if not 0 < len(name) <= self.longest or (self.starts and name[0] not in self.starts):
            return False
        return not set(name).difference(self.characters) if self.characters else _ANY.fullmatch(name) is not None


PartForms = Literal["", "mistral"]

GEMINI_SEAL = "gemini:"
"""What a signature of Gemini's begins with on its way through clients, which tells it from those of other vendors."""


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """What a target takes in a conversation."""

    call_ids: IdForm = IdForm()
    tool_names: NameForm = NameForm()
    system: Literal["anywhere", "after_user", "head"] = "head"
    """Where system text may stand. Most chat templates of open models answer with an error to a later one.

    `after_user`: between a user's turn and the answer to it, or at the end.
    """
    developer: bool = False
    """Whether it knows the role `developer`. Else that text is `system`."""
    signatures: Literal["", "anthropic", "gemini"] = ""
    """Whose signed reasoning it reads. Each signature then stays with its own reasoning, in a message of its own."""
    unsigned: str = ""
    """The signature of a call that another model made, where it answers with an error to a call without one."""
    cache_marks: int = 0
    """How many marks of what to keep in its prompt cache it takes."""
    allowed_tools: bool = False
    """Whether `tool_choice` may be a list of the tools that may be called now."""
    media: frozenset[str] = frozenset({"audio", "file", "image"})
    """What it takes besides text. What a tool has shown is else named in the tool's result."""
    parts: PartForms = ""
    """Whose forms of files and sounds it takes. Empty: OpenAI's."""
    files: frozenset[str] = frozenset()
    """The media types of files that it takes; empty: any. Other files of text are sent as text."""
    file_ids: Literal["", "openai", "anthropic"] = "openai"
    """Whose ids of files it knows: each vendor keeps its own."""
    images: frozenset[str] = frozenset()
    """The media types of images that it takes; empty: any."""
    image_addresses: bool = True
    """Whether it fetches images by their address."""
    parameters: Mapping[str, str] = {}
    """Its own names of settings, by OpenAI's."""
    refused: frozenset[str] = frozenset()
    """Fields that it answers with an error, or ignores. A request of its own dialect keeps them."""
    refused_thinking: frozenset[str] = frozenset()
    """The same, for requests with an effort to think."""
    hottest: float | None = None
    """The highest `temperature` that it takes."""
    coldest: float = 0
    """The lowest one."""
    no_thinking: Mapping[str, Any] | None = None
    """The fields that stop a model from thinking, for `reasoning_effort: none`.

    Empty: it thinks only if asked to. None: not known, or it always thinks; then it is sent the least of `efforts`.
    """
    thinking: Mapping[str, Any] = {}
    """The fields that make a model think, for any other effort."""
    efforts: tuple[str, ...] | None = None
    """The words of `reasoning_effort` that it takes besides `none`: the nearest one is sent, of two the first here.

    Empty: it has no such setting. None: not known; what the client says is sent.
    """
    effort_with_tools: bool = True
    """Whether it takes an effort beside tools. Else a request with tools is sent as one not to think."""
    choices: Literal["", "required", "unthinking", "auto"] = ""
    """Which forms of `tool_choice` it takes: all; no name of a tool; those that demand a call only while the model does
    not think; none but `auto`."""
    formats: frozenset[str] = frozenset({"json_object", "json_schema"})
    """The types of `response_format` that it takes besides text."""
    schemas: Literal["", "closed", "inline", "openapi"] = ""
    """Which JSON Schemas it takes: all; all, but `strict` ones with closed objects alone, all of whose properties are
    required; none with a `$ref`; the subset that OpenAPI 3.0 has."""
    empty_turns: bool = True
    """Whether it takes a message without any content, and text of white space alone."""
    result_media: bool = False
    """Whether the result of a tool may hold more than text. Else the rest follows as the user's."""
    user_first: bool = False
    """Whether the user has to begin the conversation. Else a full stop is put before an answer at its beginning."""
    user_after_result: bool = True
    """Whether the user may speak right after the result of a tool. Else an answer is put between them."""
    prefill: Literal["", "none", "trailing", "prefix_flag", "continue_final_message"] = ""
    """How a model is made to continue an answer at the end of its conversation. Empty: not known; it is sent as it is.

    `trailing`: it does. `prefix_flag`: the message needs `prefix: true`. `continue_final_message`: the body needs that,
    and no `add_generation_prompt`. `none`: it answers with an error, so a request to continue is put behind the answer,
    and announced.
    """
    names: bool = True
    """Whether the messages of users and assistants may have a `name`."""
    stops: int = 0
    """How many stop sequences it takes; 0: any number."""
    blank_stops: bool = True
    """Whether it takes a stop sequence of white space alone."""
