"""The command `llm`, told of the proxy by a file of models, as its users do."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from drive import Ask, Seen


async def prompt(ask: Ask, seen: Seen) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = {
            "model_id": "proxied",
            "model_name": ask["model"],
            "api_base": f"{ask['url']}/v1",
            "vision": True,
        }
        (Path(folder) / "extra-openai-models.yaml").write_text(json.dumps([model]))
        options = []
        if image := ask.get("image"):
            picture = Path(folder) / "picture.png"
            picture.write_bytes(base64.b64decode(image))
            options = ["--attachment", str(picture)]
        command = [sys.executable, "-m", "llm", "prompt", "--model", "proxied", "--no-log", "--usage", *options]
        process = await asyncio.create_subprocess_exec(
            *command, "--", ask["question"],
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"LLM_USER_PATH": folder, "OPENAI_API_KEY": "none", "PYTHONUNBUFFERED": "1"}, limit=1 << 24,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        if ask.get("leave"):
            seen.text = (await process.stdout.read(1)).decode()
            ended = asyncio.create_task(process.communicate())
            while not ended.done():  # Python drops the exception if it comes within a finalizer
                process.send_signal(signal.SIGINT)
                await asyncio.wait([ended], timeout=5)
            return
        printed, complained = await process.communicate()
        seen.text = printed.decode()
        if process.returncode:
            name, message = f"exit {process.returncode}", complained.decode()
            seen.error = {"name": name, "status": None, "message": message}
        else:
            seen.text = seen.text.removesuffix("\n")  # its own, after an answer
            if counted := re.search(r"Token usage: ([\d,]+) input, ([\d,]+) output", complained.decode()):
                seen.used(*(int(count.replace(",", "")) for count in counted.groups()))


CLIENTS = {"llm prompt": prompt}
