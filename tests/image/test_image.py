"""The container image, built from the Dockerfile and run for real: F05, I03, J02, J04. Root on Debian only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.container import Container, build, buildah, configuration, root_file_system, run
from tests.support.need import cannot_run
from tests.support.transcript import Transcript

pytestmark = pytest.mark.image

ROOT = Path(__file__).resolve().parents[2]
IMAGE, FULL = "localhost/chat-proxy", "localhost/chat-proxy:full"
CANARY = "sk-canary-3f9c1d"
KEY = "cp-4e8b1f7a2c9d0e3f6a5b"
ENVIRONMENT = {"CHAT_PROXY_KEY": KEY}
MESSAGE = '{"messages":[{"role":"user","content":"hello from a container"}]}'


@pytest.fixture(scope="module")
def transcript() -> Iterator[Transcript]:
    record = Transcript(
        "image",
        "The container image, built and run",
        "What `make test-image TRANSCRIPT=1` did. No Docker engine is needed: buildah builds the Dockerfile over a "
        "Debian base with Python, and the image runs in namespaces of its own as\n"
        "`docker run --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp --network none` would "
        "run it.",
    )
    yield record
    record.write()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git does not ignore, and beside it what a careless developer keeps there: keys."""
    if os.geteuid() != 0:
        cannot_run("needs root, for debootstrap, buildah and namespaces")
    folder = tmp_path_factory.mktemp("context")
    tracked = (
        run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).rstrip("\0").split("\0")
    )
    for name in tracked:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for name in (".env", "my.local.yaml", "proxy/keys.pem.bak", "deploy/etc/config.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"OPENAI_API_KEY={CANARY}\n")
    (folder / "proxy" / "keys.pem.bak").unlink()  # a key inside the package itself is past what an ignore file can do
    return folder


@pytest.fixture(scope="module")
def image(context: Path, transcript: Transcript) -> str:
    os.environ["OPENAI_API_KEY"] = CANARY  # in the environment of the build, too
    try:
        printed = build(IMAGE, context)
    finally:
        del os.environ["OPENAI_API_KEY"]
    steps = [line for line in printed.splitlines() if "STEP" in line]
    transcript.heading("Build")
    transcript.command("buildah bud --tag chat-proxy .", "\n".join(steps), most_lines=40)
    return IMAGE


@pytest.fixture(scope="module")
def files(image: str) -> Iterator[Path]:
    """The image's file system, before anything ran in it."""
    name, folder = root_file_system(image)
    yield folder
    buildah("rm", name)


def test_it_serves_a_stream_from_a_read_only_root(image, transcript):
    with Container(image, env=ENVIRONMENT) as container:
        seconds = container.wait_until_healthy()
        transcript.heading("Run: a read-only root, no capability, uid 10001")
        transcript.say(f"The image's own health check passed {seconds:.1f} s after the start.")
        transcript.command(container.command, container.log.read_text())
        answer = container.curl(
            "--no-buffer",
            "--data",
            MESSAGE,
            "--header",
            "content-type: application/json",
            "--header",
            f"authorization: Bearer {KEY}",
            "http://127.0.0.1:8080/chat",
        )
        transcript.command(f"curl -N -d '{MESSAGE}' -H 'content-type: application/json' localhost:8080/chat", answer)
        assert answer.endswith("event: done\ndata:[DONE]\n\n"), answer
        assert "container" in answer

        status = container.execute("cat", "/proc/1/status")
        kept = [
            line
            for line in status.splitlines()
            if line.startswith(("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Threads"))
        ]
        transcript.command("cat /proc/1/status", "\n".join(kept))
        facts = dict(line.split(":", 1) for line in kept)
        assert facts["Uid"].split() == ["10001"] * 4
        assert {facts[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}

        assert container.execute("touch", "/etc/x", "/venv/x", "/x", check=False) != "0"
        left = container.execute("find", "/tmp", "-mindepth", "1").split()
        transcript.command("find /tmp -mindepth 1    # what it wrote", "\n".join(left) or "(nothing)")
        assert not left


def test_sigterm_as_pid_1_drains_and_exits_0(image, transcript):
    with Container(image, env=ENVIRONMENT) as container:
        container.wait_until_healthy()
        assert container.execute("cat", "/proc/1/cmdline").split("\0")[1:3] == ["/venv/bin/chat-proxy", "serve"]
        status, seconds = container.stop(within_s=10)
        transcript.heading("Stop: SIGTERM to PID 1")
        transcript.command("kill -TERM $PID_1; wait; echo $?", f"{status}    (after {seconds:.1f} s)")
        assert status == 0, container.log.read_text()


def test_sigterm_during_start_up_ends_it_too(image):
    """PID 1 has no default action for SIGTERM: what comes before the program sets its own is lost, so it is repeated."""
    with Container(image, env=ENVIRONMENT) as container:
        status = container.stop_early(within_s=10)
        assert status in {0, 143}, container.log.read_text()


def test_only_the_expected_code_runs_at_interpreter_start(files, transcript):
    """A `.pth` file or a `sitecustomize` runs in every Python process, imported or not."""
    found = sorted(
        str(path.relative_to(files / "venv"))
        for pattern in ("*.pth", "sitecustomize*", "usercustomize*")
        for path in (files / "venv").rglob(pattern)
    )
    transcript.heading("Look inside")
    transcript.command(
        "find /venv -name '*.pth' -o -name 'sitecustomize*' -o -name 'usercustomize*'", "\n".join(found) or "(none)"
    )
    assert found == []


def test_it_has_no_installer_and_no_build_tool(files):
    (site,) = (files / "venv").glob("lib/python3*/site-packages")
    assert not {path.name for path in site.iterdir()} & {"pip", "setuptools", "wheel", "hatchling", "pytest", "uv"}
    assert not (files / "build").exists()
    assert not (files / "src").exists()


def test_its_user_can_write_nowhere_but_in_temporary_folders_and_where_the_volume_goes(files, transcript):
    theirs = "( -perm -0002 -o -uid 10001 -o -gid 10001 ) ( -type f -o -type d )"
    writable = run("find", files, "-xdev", *theirs.split(), "-printf", "/%P\n")
    transcript.command(f"find / -xdev {theirs}", writable)
    assert set(writable.split()) <= {"/tmp", "/var/tmp", "/run/lock", "/var/lib/chat-proxy"}


def test_no_key_from_the_build_is_in_the_image(image, files):
    found = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", CANARY, files], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert CANARY not in json.dumps(configuration(image))
    assert CANARY not in buildah("inspect", "--type", "image", image)


def test_the_shipped_configuration_names_its_entry_point_as_lists(image):
    """The exec form: with the shell form a shell would be PID 1 and keep the SIGTERM."""
    settings = configuration(image)
    assert settings["Entrypoint"] == ["chat-proxy"]
    assert settings["Cmd"][0] == "serve"
    assert settings["User"] == "10001:10001"
    assert settings["Labels"]["org.opencontainers.image.licenses"] == "MIT"


def test_it_has_all_extras_but_litellm_and_the_full_image_has_that_too(image, context, transcript):
    build(FULL, context, LOCK="requirements.lock")
    sizes = {}
    for tag in (image, FULL):
        with Container(tag, env=ENVIRONMENT) as container:
            container.wait_until_healthy()
            for module in ("re2", "redis", "psycopg", "opentelemetry.sdk"):
                container.execute("python", "-c", f"import {module}")
            assert (container.execute("python", "-c", "import litellm", check=False) == "0") is (tag == FULL)
            assert container.execute("python", "--version").startswith("Python 3.13.")
            sizes[tag] = int(run("du", "--summarize", "--block-size=M", container.files / "venv").split("M")[0])
    transcript.heading("Sizes")
    transcript.say(
        "\n".join(f"- `/venv` of `{tag.removeprefix('localhost/')}`: {size} MB" for tag, size in sizes.items())
    )
    assert sizes[image] < sizes[FULL] / 2
