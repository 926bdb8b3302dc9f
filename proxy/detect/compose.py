"""Write a config for what was found: a YAML text that says in comments what each part is for."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from proxy.detect.servers import Server
from proxy.detect.vendors import Vendor

SCHEMA_FILE = "chat-proxy.schema.json"

HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
#
# `chat-proxy init` has written this for what it found. `chat-proxy` serves it. Edit it while it runs: a change is
# checked, then taken up without dropping a stream.
#
#   chat-proxy check       is this file right? Every mistake, with its line
#   chat-proxy explain     where would a request go, and why?

server:
  host: 127.0.0.1          # only this machine. Opening it to others asks for `auth`: see `chat-proxy key new`
  port: 8080
  # cors: {{origins: ["http://localhost:3000"]}}     # web pages that may call from a browser

# Where answers come from. ${{VAR}} is read from the environment. An `optional` backend is off while its variable is not
# set.
backends:
  # The last message back, word by word. Needs no key and no network.
  echo: {{kind: echo}}
"""

ROUTES = """
# Which backend answers which request: the first rule that matches wins. A target is `backend/model`; without a model,
# the one the request asks for is used. `*` is any run of characters, and `$1` is what it stands for.
routes:
  - {name: echo, match: {model: echo}, to: echo/echo}
"""

_NO_CHAT = re.compile(r"embed|rerank|whisper|tts|clip|bge-|minilm", re.IGNORECASE)
_NO_NAME = re.compile(r"[*?]")  # would be a pattern


class Found(NamedTuple):
    """What there is to answer with."""

    servers: Sequence[Server] = ()
    vendors: Sequence[Vendor] = ()
    unusable: Mapping[str, str] = {}  # variables that hold no key, and why

    @property
    def default(self) -> str:
        """The target for requests that ask for no model, or for an unknown one: what is on this machine first."""
        for server in self.servers:
            if first := next((model for model in server.models if not _NO_CHAT.search(model) and "$" not in model), ""):
                return f"{server.place.name}/{first}"
        return next((f"{vendor.name}/{vendor.first}" for vendor in self.vendors if vendor.first), "echo/echo")

    @property
    def passes_on(self) -> str:
        """The vendor that is asked for any other model by the name given; "" for none.

        It is one with models of many makers, and only if no server on this machine has a model: that would come first.
        """
        vendor = next((vendor for vendor in self.vendors if vendor.first), None)
        local = any(server.models for server in self.servers)
        return vendor.name if vendor and not vendor.models and not local else ""

    def names(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each server and vendor with the names of models that go to it; a name goes to the first that has it."""
        taken = {"echo"}
        for server in self.servers:
            # Ollama takes a name without its tag for `latest`.
            known = [name for model in server.models for name in (model, model.removesuffix(":latest"))]
            own = tuple(name for name in dict.fromkeys(known) if name not in taken and not _NO_NAME.search(name))
            taken.update(own)
            yield server.place.name, own
        for vendor in self.vendors:
            yield vendor.name, vendor.models


def compose(found: Found) -> str:
    """The text of the config file."""
    return "".join([HEAD, *map(_server, found.servers), *map(_vendor, found.vendors), ROUTES, *_routes(found)])


def _server(server: Server) -> str:
    place = server.place
    number = f"{len(server.models)} model{'' if len(server.models) == 1 else 's'} when this was written"
    preset = f"preset: {place.preset}, " if place.preset else ""
    address = f"base_url: {_quoted(place.base_url)}"
    if place.variable:
        address = f'base_url: "${{{place.variable}}}", optional: true'
    return f"\n  # Answered at the start: {number}.\n  {place.name}: {{kind: openai-compatible, {preset}{address}}}\n"


def _vendor(vendor: Vendor) -> str:
    preset = f"preset: {vendor.name}, " if vendor.kind == "openai-compatible" else ""
    return f'\n  {vendor.name}: {{kind: {vendor.kind}, {preset}api_key: "${{{vendor.variable}}}", optional: true}}\n'


def _routes(found: Found) -> Iterator[str]:
    for name, models in found.names():
        if models:
            yield f"\n  - name: {name}\n    match:\n      model:\n"
            yield from (f"        - {_quoted(model)}\n" for model in models)
            yield f"    to: {name}\n"
        yield f'\n  - {{name: {name}-any, match: {{model: "{name}/*"}}, to: "{name}/$1"}}   # any other of its models\n'
    if found.passes_on:
        yield f'\n  - {{name: others, match: {{model: "*"}}, to: {found.passes_on}}}\n'
    yield f"\n  - {{name: default, to: {_quoted(found.default)}}}\n"
    optional = {vendor.name for vendor in found.vendors}
    optional |= {server.place.name for server in found.servers if server.place.variable}
    if found.default.partition("/")[0] in optional:
        yield "\n  # Takes what is left: everything, while the backend above is off.\n  - {name: rest, to: echo/echo}\n"


def _quoted(text: str) -> str:
    """A YAML string that means this text: a `$` of a server's own must not become a variable."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)


def summary(found: Found) -> str:
    """What was found, and the names of its models, for the person who started the proxy."""
    what = {server.place.name: server.place.variable or server.place.base_url for server in found.servers}
    what |= {vendor.name: vendor.variable for vendor in found.vendors}
    rows = [(name, what[name], [*models, f"{name}/…"]) for name, models in found.names()]
    rows.append(("echo", "built in", ["echo"]))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"  {name:<{first}}  {source:<{second}}  {_some(models)}" for name, source, models in rows]
    if found.passes_on:
        lines.append(f"\n  any other model: {found.passes_on}; no model: {found.default}")
    elif found.default != "echo/echo":
        lines.append(f"\n  all else: {found.default}")
    lines += [f"\n  {variable} is not used: {fault}" for variable, fault in found.unusable.items()]
    return "\n".join(lines)


def _some(models: Sequence[str]) -> str:
    """The first four models and the last one."""
    models = [model for model in models if model.removesuffix(":latest") == model]  # the short name is there, too
    more = len(models) - 5
    return ", ".join(models) if more < 1 else f"{', '.join(models[:4])}, and {more} more, {models[-1]}"
