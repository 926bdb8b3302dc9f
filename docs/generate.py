"""Write docs/config.md and docs/cli.md, and the tables of other pages, from the code and bench/results.md: `make docs`.

The settings' own descriptions and the commands' own help are the reference; these pages only lay them out.
A test fails when they are behind.
"""

from __future__ import annotations

import ast
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from proxy.backends import model_vocabularies, vocabularies
from proxy.backends.base import kinds
from proxy.cli import main
from proxy.config.schema import json_schema
from proxy.wire.vocabulary import Vocabulary

FOLDER = Path(__file__).parent
MADE = "<!-- Made by `make docs` from the code: edit the descriptions there. -->"

CONFIG_INTRODUCTION = """\
# Config reference

One YAML file says everything. Every key it may hold is on this page; any other key is an error, and so are duplicate
keys, unknown backends, rules that no request can reach, and values that YAML would quietly turn into something else.
`chat-proxy check` names every mistake with file, line and column, and `chat-proxy schema` gives the same reference
to editors.

`${VAR}` in any string is replaced by the environment variable, `${VAR:-default}` by the default where it is not set.
A variable that is not set and has no default is an error, except in a backend that is `optional`, which is then off.
The file is read again when it changes, and taken up whole or not at all.
"""

CLI_INTRODUCTION = """\
# Commands

`chat-proxy` and `python -m proxy` are the same program. Exit status 0 is success, 1 a config or request that would be
refused, 2 a wrong command line.
"""

Schema = dict[str, Any]


def config_reference() -> str:
    """Lay out the JSON Schema that editors get, one table for each mapping of the file."""
    schema = json_schema({name: point.load().settings for name, point in kinds().items()})
    pages = [MADE, "", CONFIG_INTRODUCTION]
    for name, value in schema["properties"].items():
        pages += [f"## `{name}`", "", value["description"], ""]
        if name == "backends":
            for row in value["additionalProperties"]["oneOf"]:
                kind = _definition(schema, row)
                pages += _section(schema, f"kind: {kind['properties']['kind']['const']}", kind)
        elif "additionalProperties" in value:
            if name == "frontends":
                pages += ["[How to declare one](contracts/declared.md), with examples.", ""]
            contract = _definition(schema, value["additionalProperties"])
            pages += _section(schema, f"{name}.NAME", contract, heading=False)
        else:
            for definition in _mappings_in(schema, value):
                pages += _section(schema, name + ("[]" if "items" in value else ""), definition, heading=False)
    return "\n".join(pages).rstrip() + "\n"


def cli_reference() -> str:
    """Lay out the help texts of all commands."""
    pages = [MADE, "", CLI_INTRODUCTION]
    for name, command in _commands("chat-proxy", main):
        context = click.Context(command, info_name=name, max_content_width=100, **main.context_settings)
        pages += [f"## `{name}`", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(pages).rstrip() + "\n"


def _section(schema: Schema, path: str, definition: Schema, *, heading: bool = True) -> Iterator[str]:
    """Yield the table of one mapping, then those of the mappings inside it."""
    if heading:
        yield from [f"### `{path}`", "", " ".join(definition.get("description", "").split()), ""]
    yield from ["| key | value | default | |", "|---|---|---|---|"]
    inner = []
    required = definition.get("required", [])
    for name, value in definition["properties"].items():
        mappings = list(_mappings_in(schema, value))
        inner += [(f"{path}.{name}", mapping) for mapping in mappings]
        default = "needed" if name in required else _default(value, mapping=bool(mappings))
        about = value.get("description") or mappings[0]["description"]  # left out where it would say the same
        yield f"| `{name}` | {_escaped(_kind_of(schema, value))} | {default} | {_escaped(about)} |"
    yield ""
    for inner_path, mapping in inner:
        yield from _section(schema, inner_path, mapping)


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for inner, subcommand in command.commands.items():
            yield from _commands(f"{name} {inner}", subcommand)


def _definition(schema: Schema, reference: Schema) -> Schema:
    found: Schema = schema["$defs"][reference["$ref"].rpartition("/")[2]]
    return found


def _mappings_in(schema: Schema, value: Schema) -> Iterator[Schema]:
    """Yield the settings classes a value may be made of, each once."""
    seen: list[Schema] = []
    for part in [value, *value.get("anyOf", []), value.get("items", {})]:
        choices = [*part.get("anyOf", []), part.get("items", {})] if part is not value else []
        for reference in [part, *choices]:
            if "$ref" in reference and (definition := _definition(schema, reference)) not in seen:
                seen.append(definition)
                yield definition


def _kind_of(schema: Schema, value: Schema) -> str:
    """Say in words what a value may be."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{_plain(choice)}`" for choice in value["enum"] if choice is not False)
    if "$ref" in value:
        return "mapping, below"
    if "anyOf" in value:
        kinds_of = [_kind_of(schema, choice) for choice in value["anyOf"] if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds_of))
    match value.get("type"):
        case list():
            return "template"
        case "array":
            return f"list of {_kind_of(schema, value['items'])}"
        case "object":
            return "mapping"
        case "boolean":
            return "`true`, `false`"
        case "number" | "integer" as name:
            return {"number": "number", "integer": "whole number"}[name] + _bounds(value)
        case "string":
            return "secret" if value.get("format") == "password" else "text"
        case other:
            return other or "anything"


def _bounds(value: Schema) -> str:
    bounds = [
        f"{sign} {_plain(value[name])}"
        for name, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("maximum", "≤"))
        if name in value
    ]
    return f" {', '.join(bounds)}" if bounds else ""


def _default(value: Schema, *, mapping: bool) -> str:
    default = value.get("default")
    if "default" not in value or default is None or default in ([], {}) or mapping:
        return ""
    if isinstance(default, list) and len(default) == 1:  # may be written without the list around it
        default = default[0]
    return f"`{_plain(default)}`"


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def architecture() -> str:
    """The page as it is, with the table of imports as the code has them."""
    page = (FOLDER / "architecture.md").read_text()
    before, rest = page.split("by `make docs` -->\n", 1)
    _, after = rest.split("<!-- /imports -->", 1)
    rows = [f"| {room} | {', '.join(sorted(others))} |" for room, others in sorted(imports().items()) if others]
    table = "\n".join(["| room | imports |", "|---|---|", *rows])
    return f"{before}by `make docs` -->\n\n{table}\n\n<!-- /imports -->{after}"


def imports() -> dict[str, set[str]]:
    """For each room of the package, the rooms it imports."""
    package = FOLDER.parent / "proxy"
    rooms: dict[str, set[str]] = {}
    for file in package.rglob("*.py"):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        imported = rooms.setdefault(room, set())
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if modules == ["proxy"]:
                modules = [f"proxy.{alias.name}" for alias in node.names]
            imported |= {module.split(".")[1] for module in modules if module.startswith("proxy.")} - {room}
    rooms.pop("__init__", None)
    return {room: {other for other in others if other in rooms} for room, others in rooms.items()}


def translation() -> str:
    """The page as it is, with the table of vocabularies as the code has them."""
    page = (FOLDER / "translation.md").read_text()
    before, rest = page.split("by `make docs` -->\n", 1)
    _, after = rest.split("<!-- /vocabularies -->", 1)
    kinds_of = {
        "kind `openai`, also on Azure": vocabularies.OPENAI,
        "its GPT-3 and GPT-4": vocabularies.OPENAI_PLAIN,
        "its o-series": vocabularies.OPENAI_O,
        "its GPT-5": vocabularies.OPENAI_5,
        "its GPT-5.1 to 5.3": vocabularies.OPENAI_MAY_THINK,
        "its models since GPT-5.4": vocabularies.OPENAI_THINKS_ALONE,
        "kind `anthropic`": vocabularies.ANTHROPIC,
        "its models since 4.6": vocabularies.ANTHROPIC_WITHOUT_PREFILL,
        "Opus since 4.8, all since 5 but Sonnet 5": vocabularies.ANTHROPIC_WITH_SYSTEM,
    }
    presets: dict[str, Vocabulary] = {}
    for preset, known in sorted(vocabularies.PRESETS.items()):
        if preset != "anthropic":
            presets[f"preset `{preset}`"] = known
            for pattern, differs in model_vocabularies.MODELS.get(preset, ()):
                presets[f"`{preset}`, models `{pattern.pattern.replace('|', ' or ')}`"] = differs
    rows = [
        _vocabulary(name, words) for name, words in {**kinds_of, **presets, "all others": vocabularies.COMMON}.items()
    ]
    head = "| target | call ids | names of tools | later system text | empty answers | answer at the end | cache marks | besides text | tools and schemas | settings |"
    head += "\n|---|---|---|---|---|---|---|---|---|---|"
    return before + "by `make docs` -->\n\n" + "\n".join([head, *rows]) + "\n\n<!-- /vocabularies -->" + after


CHOICES = {
    "required": "no choice by name",
    "unthinking": "a demanded call stops its thinking",
    "auto": "always chooses itself",
}


def _vocabulary(name: str, words: Vocabulary) -> str:
    ids, names = words.call_ids, words.tool_names
    length = str(ids.longest) if ids.shortest == ids.longest else f"up to {ids.longest}"
    settings = [f"`{ours}` as `{theirs}`" for ours, theirs in words.parameters.items()]
    settings += [f"without `{name}`" for name in sorted(words.refused)]
    settings += [f"without `{name}` while it thinks" for name in sorted(words.refused_thinking)]
    settings += [f"up to {words.stops} stops"] if words.stops else []
    settings += [f"temperature from {words.coldest:g}"] if words.coldest else []
    settings += [f"temperature up to {words.hottest:g}"] if words.hottest is not None else []
    settings += [f"not to think: `{json.dumps(words.no_thinking)}`"] if words.no_thinking else []
    settings += [f"to think: `{json.dumps(words.thinking)}`"] if words.thinking else []
    settings += (
        [f"efforts: {', '.join(words.efforts)}" if words.efforts else "no efforts"] if words.efforts is not None else []
    )
    settings += [] if words.effort_with_tools else ["no effort beside tools"]
    tools = [CHOICES[words.choices]] if words.choices else []
    tools += [f"schemas: {words.schemas}"] if words.schemas else []
    tools += [] if len(words.formats) == 2 else [f"answers: {', '.join(sorted(words.formats))} alone"]
    cells = [
        name,
        f"{length} characters"
        + ("" if not ids.characters else ", letters and digits" + (", `_-`" if "_" in ids.characters else "")),
        f"up to {names.longest}" + (", beginning with a letter" if names.starts else ""),
        {"anywhere": "in place", "after_user": "behind the user's turn", "head": "in the user's turn"}[words.system],
        "kept" if words.empty_turns else "left out",
        {"": "", "none": "asked to continue", "trailing": "goes on"}.get(words.prefill, f"with `{words.prefill}`"),
        str(words.cache_marks or ""),
        ", ".join(sorted(words.media)).replace("file", "file (PDF)" if words.files == {"application/pdf"} else "file")
        + ("" if words.image_addresses else " (no addresses)"),
        "; ".join(tools),
        "; ".join(settings),
    ]
    return f"| {' | '.join(cells)} |"


def peers() -> str:
    """The page as it is, with the figures of one load from bench/results.md: those of the proxies as they come."""
    page = (FOLDER / "peers.md").read_text()
    before, rest = page.split("by `make docs` -->\n", 1)
    _, after = rest.split("<!-- /figures -->", 1)
    rows: dict[str, list[str]] = {}
    load = ""
    for line in (FOLDER.parent / "bench" / "results.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        load = cells[0] or load
        if len(cells) == 11 and load.startswith("paced: 200") and cells[1] != "no proxy" and "," not in cells[1]:
            rows[cells[1].removesuffix(" \\*")] = [cells[1], cells[2], cells[4], cells[6]]
        elif len(cells) == 4 and cells[0] in rows:
            rows[cells[0]] += [cells[2], cells[1]]
    head = "| | CPU µs / token | added / token µs, p50 / p99 | KB / stream | idle memory, MB | start, s |\n|---|---|---|---|---|---|"
    table = "\n".join([head, *(f"| {' | '.join(cells)} |" for cells in rows.values())])
    return f"{before}by `make docs` -->\n\n{table}\n\n<!-- /figures -->{after}"


CAPACITY = {
    "paced: 200": "20 ms",
    "1,000": "100 ms",
    "4,000": "400 ms",
    "fast model": "5 ms",
}
BUSY = 0.7


def team() -> str:
    """The page as it is, with what a core carries by bench/results.md."""
    page = (FOLDER / "team.md").read_text()
    before, rest = page.split("by `make docs` -->\n", 1)
    _, after = rest.split("<!-- /capacity -->", 1)
    rows, load = [], ""
    for line in (FOLDER.parent / "bench" / "results.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        load = cells[0] or load
        gap = next((gap for name, gap in CAPACITY.items() if load.startswith(name) and "TLS" not in load), None)
        if (
            len(cells) == 11
            and gap
            and cells[1] in {"chat-proxy /chat", "chat-proxy /chat, tick 50 ms", "chat-proxy /chat, tick 33 ms"}
        ):
            tokens = BUSY * 1e6 / float(cells[2])
            streams = tokens * float(gap.removesuffix(" ms")) / 1000
            tick = cells[1].partition("tick ")[2] or "off"
            rows.append(f"| {gap} | {tick} | {cells[2]} | {tokens:,.0f} | {streams:,.0f} | {cells[6]} |")
    head = "| a token each | pacing (`delivery`) | CPU µs / token | tokens / s | streams | KB / stream |\n|---|---|---|---|---|---|"
    return f"{before}by `make docs` -->\n\n" + "\n".join([head, *rows]) + f"\n\n<!-- /capacity -->{after}"


PAGES = {
    "config.md": config_reference,
    "cli.md": cli_reference,
    "architecture.md": architecture,
    "translation.md": translation,
    "peers.md": peers,
    "team.md": team,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
        print(f"docs/{name}")  # noqa: T201
    runpy.run_path(str(FOLDER.parent / "deploy" / "observe.py"), run_name="__main__")
