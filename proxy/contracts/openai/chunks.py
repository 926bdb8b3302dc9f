"""What we read of an OpenAI chunk or completion, typed as its documentation says; all other fields are skipped.

msgspec decodes a chunk into these structs in about a microsecond, half of what a dict costs, and refuses a field of
another type on the way. A chunk that is refused is read again by `lenient`. Fields that each vendor writes in its own
form are `Any` here: their readers check the types.
"""

from typing import Any

import msgspec

from proxy.request import Usage
from proxy.wire.finish import meaning
from proxy.wire.upstream_errors import is_error


class Function(msgspec.Struct, gc=False):
    """A function's name and arguments; a custom tool has `input` in their place, and the Llamas write `parameters`."""

    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    parameters: str | None = None

    @property
    def text(self) -> str:
        return self.arguments or self.input or self.parameters or ""


class ToolCallPiece(Function, gc=False):
    """A piece of a call. Some gateways leave the object `function` out, so that it has a function's own fields."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: Function | None = None
    extra_content: Any = None  # Gemini: the signature of the thought before it


class Delta(msgspec.Struct, gc=False):
    """A chunk's `delta`, or a completion's `message`: the same fields, but whole."""

    content: str | None = None
    reasoning_content: str | None = None  # DeepSeek and most servers
    reasoning: str | list[Any] | dict[str, Any] | bool | None = None  # vLLM, OpenRouter; elsewhere settings echoed
    reasoning_text: Any = None  # GitHub Copilot
    thinking: Any = None  # Ollama's word
    reasoning_details: Any = None  # OpenRouter, MiniMax: a list of pieces, beside or in place of `reasoning`
    thinking_blocks: Any = None  # litellm's form of Anthropic's thinking, with its signature
    refusal: str | None = None
    tool_calls: list[ToolCallPiece] | None = None
    function_call: Function | None = None
    audio: Any = None
    annotations: Any = None  # OpenAI's web search, OpenRouter, litellm
    citations: Any = None
    context: Any = None  # Azure's answers from own data: has citations in it
    images: Any = None  # OpenRouter, litellm: images that the model made
    extra_content: Any = None  # Gemini: says that `content` is a thought
    provider_specific_fields: Any = None  # litellm's place for what has no other, such as a citation of Anthropic's


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None  # what a completion without messages has in place of a delta or message
    finish_reason: str | None = None
    native_finish_reason: Any = None  # OpenRouter: the vendor's own word
    usage: dict[str, Any] | None = None  # Moonshot's place for it
    error: Any = None  # OpenRouter: this choice failed

    @property
    def reason(self) -> str | None:
        """Why it ended: the vendor's own word where that says that it gave up and the other does not (`stop`)."""
        native = self.native_finish_reason
        return (
            native if native is not None and self.finish_reason and meaning(native) == "error" else self.finish_reason
        )


class Chunk(msgspec.Struct, gc=False):
    """One event's data. `id` and `model` are read leniently: only text is made of them."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    id: Any = None
    model: Any = None
    base_resp: Any = None  # MiniMax: a status in each chunk, 0 for success
    citations: Any = None  # Perplexity, xAI: addresses of pages
    search_results: Any = None  # Perplexity: the same pages with their titles
    web_search: Any = None  # Zhipu: pages with a `link`
    x_groq: Any = None  # Groq: has the usage in it, or an error

    @property
    def failed(self) -> bool:
        """Whether there is an error in it, wherever that stands; `wire.upstream_errors` reads its words."""
        for choice in self.choices or ():
            if choice.error and is_error(choice.error):
                return True
        base, groq = self.base_resp, self.x_groq
        if self.error is base is groq is None:  # as nearly always
            return False
        return (
            (bool(self.error) and is_error(self.error))
            or (isinstance(base, dict) and bool(base.get("status_code")))
            or (isinstance(groq, dict) and bool(groq.get("error")))
        )

    @property
    def names_pages(self) -> bool:
        return bool(self.citations or self.search_results or self.web_search)


decode_chunk = msgspec.json.Decoder(Chunk).decode


def decode_text_chunk(data: bytes) -> Chunk:
    """A chunk of a completion without messages, or such a completion as a whole, with its texts as deltas."""
    chunk = decode_chunk(data)
    for choice in chunk.choices or ():
        if choice.text is not None and choice.delta is None:
            choice.delta = Delta(content=choice.text or None)
    return chunk


_PLAIN = {"prompt_tokens", "completion_tokens", "total_tokens"}


def read_usage(usage: dict[str, Any] | None, *, has_content: bool = False) -> Usage | None:
    """Token counts, read leniently: a count that is missing or no number is 0.

    None for an answer with content whose output counts nothing: that cannot be true, so the output is estimated and
    marked. Reasoning that some vendors (xAI, Gemini) leave out of the output is counted in: the total shows it.
    """
    if not usage:
        return None
    if usage.keys() == _PLAIN:  # what most servers send: three numbers, and nothing to look for
        given, made, total = usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]
        if type(given) is type(made) is type(total) is int and given >= 0 and made > 0 and total == given + made:
            return Usage(given, made)
    input_tokens = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    output_tokens = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    total = _count(usage, "total_tokens")
    reasoning = (
        _count(usage.get("completion_tokens_details"), "reasoning_tokens")
        or _count(usage.get("output_tokens_details"), "reasoning_tokens")
        or _count(usage, "reasoning_tokens")
    )
    if (reasoning or not output_tokens) and total > input_tokens + output_tokens:
        output_tokens = total - input_tokens
    elif reasoning > output_tokens:
        output_tokens += reasoning
    if has_content and not output_tokens:
        return None
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens")
        or _count(usage, "cached_tokens")  # Moonshot
        or _count(usage, "prompt_cache_hit_tokens"),  # DeepSeek
        reasoning_tokens=reasoning,
        cache_write_tokens=_count(usage.get("prompt_tokens_details"), "cache_write_tokens"),  # OpenRouter
        audio_input_tokens=_count(usage.get("prompt_tokens_details"), "audio_tokens"),
        audio_output_tokens=_count(usage.get("completion_tokens_details"), "audio_tokens"),
    )


def usage_in(chunk: Chunk) -> dict[str, Any] | None:
    """The token counts of a chunk, wherever they are; None where all of them are 0, as before the first token."""
    usage: Any = chunk.usage
    if not usage:
        for choice in chunk.choices or ():
            if choice.usage:
                usage = choice.usage
                break
        else:
            groq = chunk.x_groq
            usage = groq.get("usage") if groq is not None and isinstance(groq, dict) else None
    if usage is None or not isinstance(usage, dict):
        return None
    for name in usage:
        if _count(usage, name):
            return usage
    return None


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str):  # some gateways quote numbers
        try:
            value = float(value)
        except ValueError:
            return 0
    # NaN and infinity are no counts, so the comparison also keeps them out.
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 2**53 else 0


def image_address(image: Any) -> str:
    """The address of an image: the image itself, or `image_url` (a string or an object) or `url` of an object."""
    if isinstance(image, dict):
        image = image.get("image_url") or image.get("image") or image.get("url")
    if isinstance(image, dict):
        image = image.get("url")
    return image if isinstance(image, str) else ""
