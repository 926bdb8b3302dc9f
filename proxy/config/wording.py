"""Validation errors in plain words: where, what is wrong, and the closest correct name or value."""

import re
import types
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from proxy.config.parameters import KIND_OF_PARAMETER
from proxy.config.source import Document, Path, looks_secret
from proxy.errors import ConfigError

# Keys of planned features. "Not available yet" helps more than "unknown key".
_NOT_YET = frozenset({"shadow", "retry"})


_LIST, _MAPPING = "a list (`- …` lines, or `[…]`)", "a mapping (`key: …` lines, or `{…}`)"


def validation_errors(
    error: ValidationError, document: Document, model: type[BaseModel], at: Path = ()
) -> Iterator[ConfigError]:
    """Each problem of `error` as a `ConfigError`. `at` is the path of the validated data in the document."""
    for problem in error.errors(include_url=False):
        unfit = getattr(problem.get("ctx", {}).get("error"), "at", ())
        inner = _written_path((*problem["loc"], *unfit), document, at)
        path = at + inner
        if _already_reported(path, problem["type"], document):
            continue
        is_key = problem["type"] == "extra_forbidden"
        yield document.error(_message(problem, path, inner, document, model), path, key=is_key)


def _written_path(loc: tuple[str | int, ...], document: Document, at: Path) -> Path:
    """The path in the file of a validated value: `to: x` is validated as `to: [{target: x}]`."""
    path: Path = ()
    for step in loc:
        around = _value_at(document.data, at + path)
        if isinstance(around, dict) or (isinstance(around, list) and isinstance(step, int)):
            path = (*path, step)
        # else: validation added this step
    return path


def _value_at(data: Any, path: Path) -> Any:
    for step in path:
        try:
            data = data[step]
        except (LookupError, TypeError):
            return None
    return data


def _already_reported(path: Path, kind: str, document: Document) -> bool:
    if any(path[:length] in document.faulty for length in range(len(path) + 1)):
        return True
    return kind in {"missing", "value_error"} and path[: -1 if kind == "missing" else None] in document.incomplete


def closest(name: str, known: Collection[str]) -> str | None:
    """The most similar of `known`, or None if none is similar. Compares the first 64 characters, in either case."""
    from difflib import get_close_matches  # noqa: PLC0415 - 0.2 MB, needed only after a mistake

    spelled = {one.lower(): one for one in known}
    near = get_close_matches(name[:64].lower(), spelled, n=1, cutoff=0.6)
    return spelled[near[0]] if near else None


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean …?`, or the list of the known names."""
    if not known:
        return ""
    near = closest(name, known)
    return f"; did you mean `{near}`?" if near else f"; there is: {', '.join(sorted(known))}"


def dotted(path: Path) -> str:
    """`routes[0].match.model`"""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _message(problem: Any, path: Path, inner: Path, document: Document, model: type[BaseModel]) -> str:
    kind, context, name = problem["type"], problem.get("ctx", {}), dotted(path) or "the file"
    if kind == "extra_forbidden":
        return _unknown_key(path, inner, model)
    if kind == "missing":
        around = dotted(path[:-1])
        return f"`{path[-1]}` is missing" + (f" in {around}" if around else "")
    if kind == "value_error":
        said = str(context.get("error", problem["msg"]))
        return said if not path else f"{name}: {said}"
    if path in document.unset:
        return f"{name}: no value"  # an unset variable that is not reported elsewhere
    if kind == "literal_error":
        return f"{name}: {_wrong_choice(problem['input'], path, document, model, inner)}"
    if bound := _BOUNDS.get(kind):
        return f"{name} must be {bound.format(**context)}"
    if wanted := _WANTED.get(kind):
        hint = _defaults(model, inner) if wanted == _MAPPING and problem["input"] is True else ""
        return f"{name} takes {wanted}, not {_described(problem['input'], path, document, wanted)}{hint}"
    return f"{name}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "a finite number",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
}
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
}
_NUMBERS = ("a number", "a whole number")


def _described(value: Any, path: Path, document: Document, wanted: str) -> str:
    word = document.place(path).word if not looks_secret(path[-1] if path else "") else ""
    match value:
        case None:
            return "nothing; give it a value or remove the key"
        case bool() | int() | float() if wanted == "text":
            kind = "true or false" if isinstance(value, bool) else "a number"
            return f'{kind}; quote it: "{word}"' if word else f"{kind}; quote it"
        case str() if path in document.from_environment:
            return "text, and a ${VARIABLE} is always text; write the value here"
        case str() if wanted == _MAPPING and re.match(r"[\w-]+:\S", value):
            return "text; write a space after the `:`"
        case str() if wanted in _NUMBERS and (number := re.match(r"-?\d+(?:\.\d+)?(?=\s*[a-zA-Z%]+$)", value)):
            return f"text; write {number[0]}, without a unit"
        case str():
            return "text; remove the quotes" if not word and wanted not in {_LIST, _MAPPING} else "text"
        case bool():
            return "true or false"
        case float() if wanted == "a whole number":
            return "a fraction"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _defaults(model: type[BaseModel], inner: Path) -> str:
    """What to write for a mapping that needs no key, in place of `true`."""
    found = _annotation_at(model, inner)
    try:
        found.model_validate({})
    except (AttributeError, ValidationError):
        return ""
    return "; write {} for its defaults"


def _wrong_choice(value: Any, path: Path, document: Document, model: type[BaseModel], inner: Path) -> str:
    choices = [str(choice) for choice in allowed_values(model, inner)]
    if not isinstance(value, str) or path in document.from_environment or len(value) > 40 or looks_secret(path[-1]):
        return "not one of " + ", ".join(choices) if choices else "not one of the allowed values"
    near = closest(value, choices)
    hint = f"did you mean `{near}`?" if near else f"there is: {', '.join(choices)}"
    return f"`{value}` is not one of its values; {hint}"


def _unknown_key(path: Path, inner: Path, model: type[BaseModel]) -> str:
    key, around = str(path[-1]), dotted(path[:-1])
    where = f" in {around}" if around else ""
    shown = key if len(key) <= 40 else key[:39] + "…"
    if key in _NOT_YET:
        return f"`{shown}`{where} is not available yet; remove it"
    found = _annotation_at(model, inner[:-1])
    known = list(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else []
    if "set" in known and key in KIND_OF_PARAMETER:
        return f"unknown key `{shown}`{where}; write it below `default` (where a request has none) or below `set`"
    return f"unknown key `{shown}`{where}{nearest(key, known)}"


def _annotation_at(annotation: Any, path: Path) -> Any:
    """The declared type at `path`; None if the models declare none."""
    annotation = _bare(annotation)
    for step in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(step))
            annotation = _bare(field.annotation) if field else None
        elif get_origin(annotation) is list and isinstance(step, int):
            annotation = _bare(get_args(annotation)[0])
        elif get_origin(annotation) is dict:
            annotation = _bare(get_args(annotation)[1])
        else:
            return None
    return annotation


def _bare(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    while get_origin(annotation) in {Annotated, Union, types.UnionType}:
        some = [part for part in get_args(annotation) if part is not type(None)]
        annotation = some[0]
    return annotation


def allowed_values(model: type[BaseModel], path: Path) -> tuple[Any, ...]:
    """The values of a Literal, or of a list of Literals."""
    found = _annotation_at(model, path)
    if get_origin(found) is list:
        found = _bare(get_args(found)[0])
    return get_args(found)
