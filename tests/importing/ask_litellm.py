"""Asks LiteLLM's router where requests go. In a process of its own, once for all configs: its import takes seconds.

Reads a list of `{"id": …, "config": …, "names": […]}`; writes for each name the deployments that may be picked, and asks
for it once, by the message `litellm ID NAME`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import openai

litellm.suppress_debug_info = True
litellm.telemetry = False

DRAWS = 80


def router(config: dict[str, Any]) -> Any:
    settings = {**config.get("router_settings", {})}
    general = config.get("litellm_settings", {})
    for name in ("fallbacks", "context_window_fallbacks", "default_fallbacks"):
        if name in general:
            settings.setdefault(name, general[name])
    return litellm.Router(**{"model_list": config["model_list"], **settings, "num_retries": 0, "allowed_fails": 1000})


async def asked(id: str, config: dict[str, Any], name: str) -> list[Any]:
    picked = set()
    made = router(config)
    message = {"role": "user", "content": "hi"}
    for _ in range(DRAWS):
        params = made.get_available_deployment(name, messages=[message])["litellm_params"]
        picked.add((params["api_base"], params["model"]))
    try:
        await router(config).acompletion(
            model=name, messages=[{**message, "content": f"litellm {id} {name}"}], max_tokens=5
        )
    except openai.APIError:
        pass  # as all upstreams answer
    return sorted(picked)


async def main() -> None:
    found = [
        {name: await asked(entry["id"], entry["config"], name) for name in entry["names"]}
        for entry in json.load(sys.stdin)
    ]
    print("ANSWER" + json.dumps(found))


asyncio.run(main())
