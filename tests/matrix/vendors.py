"""What each vendor is sent of a request, from runs: written by the proxy, judged by the vendor's grammar.

Nothing is sent: the body that would be sent is looked at. What a vendor would refuse fails the run.
"""

from __future__ import annotations

import json

import msgspec

from proxy.backends.base import Resources, kind
from proxy.contracts.base import Head
from proxy.errors import BadRequest, Unsupported
from proxy.routing.plan import Target
from tests.matrix.asking import SAID, NoWords
from tests.matrix.features import ASKED, Asked
from tests.matrix.table import ANNOUNCED, CARRIED, CONTRACTS, LEFT_OUT, REFUSED, UNSAID
from tests.support.grammars import CHECKS
from tests.support.rich_requests import REQUESTS


def _preset(name: str) -> dict[str, str]:
    return {"kind": "openai-compatible", "preset": name, "api_key": "k"}


VENDORS = {
    "Mistral": (_preset("mistral"), "mistral-medium-latest", "mistral"),
    "DeepSeek": (_preset("deepseek"), "deepseek-reasoner", "deepseek"),
    "Moonshot": (_preset("moonshot"), "kimi-k2-thinking", "moonshot"),
    "Gemini": (_preset("gemini"), "gemini-3-pro-preview", "gemini"),
    "Claude Opus 4.8": ({"kind": "anthropic", "api_key": "k"}, "claude-opus-4-8", "anthropic"),
}
"""By name: the row of the backend, the model, and the grammar that the body is held to."""


def verdicts(vendor: str) -> dict[str, str]:
    """Signs by feature, one for each of `CONTRACTS`."""
    return {name: "".join(_verdict(vendor, contract, one) for contract in CONTRACTS) for name, one in ASKED.items()}


def _verdict(vendor: str, contract: str, one: Asked) -> str:
    row, model, grammar = VENDORS[vendor]
    made = kind(row["kind"])
    backend = made.build(vendor, made.settings.model_validate(row), Resources(None))  # type: ignore[arg-type]  # asks nobody
    frontend, path, _ = REQUESTS[contract]
    target = Target(vendor, model)
    try:
        body = json.dumps(SAID[contract][1](msgspec.structs.replace(one.request, stream=True))).encode()
        request = frontend.decode(body, Head("1", "POST", path, {}, {}))
        fields, notices = backend.written(request, target)
    except NoWords:
        return UNSAID
    except (BadRequest, Unsupported):
        return REFUSED
    sent = json.loads(json.dumps(fields))
    if request.dialect != backend.dialect:  # else it is the client's own body
        wrong = CHECKS[grammar](sent)
        assert not wrong, f"{vendor} would refuse what {contract} asks: {wrong}: {sent}"
    ours = {theirs: name for name, theirs in backend.vocabulary(model).parameters.items()}
    arrived = one.anthropic if grammar == "anthropic" else one.openai
    if arrived({ours.get(name, name): value for name, value in sent.items()}):
        return CARRIED
    return ANNOUNCED if notices else LEFT_OUT
