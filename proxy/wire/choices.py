"""The choice of tools in the forms of every contract, as clients mix them. No I/O."""

from typing import Any

_WORDS = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


def is_word(choice: Any) -> bool:
    """Whether a choice is one word that some contract has: `any` is Anthropic's and Mistral's."""
    return type(choice) is str and choice in _WORDS


def in_openai_form(choice: Any) -> Any:
    """The choice as Chat Completions has it. A form that no contract has comes back as it is."""
    match choice:
        case str(word) | {"type": str(word)} if word in _WORDS:
            return _WORDS[word]
        case {"type": "function" | "tool", "name": str(name), **more} if more.keys().isdisjoint(
            {"function", "namespace"}
        ):
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice
