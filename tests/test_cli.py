"""The command line: what each command prints, where, and with which exit code."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from proxy import __version__
from proxy.cli import main
from tests.support.said import assert_said

ROOT = Path(__file__).parents[1]
GOOD = "backends:\n  echo: {kind: echo}\nroutes:\n  - {name: default, to: echo/echo}\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "LOCAL_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    Path("config.yaml").write_text(GOOD)
    return tmp_path


def run(*arguments, **options):
    return CliRunner().invoke(main, list(arguments), **options)


def test_python_m_proxy_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "proxy", "--version"], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout == f"chat-proxy {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("serve",),
        ("init",),
        ("check",),
        ("explain",),
        ("schema",),
        ("diff",),
        ("key",),
        ("key", "new"),
        ("key", "list"),
        ("key", "revoke"),
        ("import",),
        ("import", "litellm"),
        ("usage",),
        ("prices",),
    ],
)
def test_help_shows_how_to_use_it(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert re.search(r"^  (echo .* \| )?chat-proxy ", result.stdout, re.MULTILINE), result.stdout
    assert all(len(line) <= 90 for line in result.stdout.splitlines())


@pytest.mark.parametrize("module", ["aiohttp", "openai", "litellm", "uvloop", "prometheus_client"])
def test_check_imports_nothing_heavy(module):
    code = f"import sys; from proxy.cli import main; main(['check'], standalone_mode=False); assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)


# -- check -----------------------------------------------------------------------------------------------------


def test_check_says_what_is_on_and_what_is_off():
    Path("config.yaml").write_text(
        'backends:\n  echo: {kind: echo}\n  far: {kind: openai, api_key: "${OPENAI_API_KEY}", optional: true}\n'
        "routes:\n  - {name: far, to: far/m}\n  - {name: default, to: echo/echo, set: {tempreature: 1}}\n"
    )
    result = run("check")
    assert result.exit_code == 0
    assert result.stderr == ""
    expected = [
        "config.yaml:6:55: warning `tempreature` `temperature`",
        "off: backend far OPENAI_API_KEY",
        "off: route far",
        "config.yaml: ok 1 1 2",
    ]
    assert_said(result.stdout.splitlines(), expected)


def test_check_prints_every_mistake_to_stderr_and_exits_1():
    Path("bad.yaml").write_text("backend: {}\nroutes:\n  - {name: a, to: x, pick: NO}\n")
    result = run("check", "-c", "bad.yaml")
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert_said(lines[::3], ["bad.yaml:1:1: `backends`", "bad.yaml:1:1: `backend` `backends`", 'bad.yaml:3:28: "NO"'])
    assert lines[1::3] == ["     1 | backend: {}", "     1 | backend: {}", "     3 |   - {name: a, to: x, pick: NO}"]
    assert lines[2::3] == ["       | ^", "       | ^", "       |                            ^"]


# -- serve -----------------------------------------------------------------------------------------------------

BAD_FILES = {
    "syntax": b"routes: [\n",
    "unknown key": GOOD.encode() + b"serer: {}\n",
    "unknown backend": GOOD.replace("to: echo/", "to: ehco/").encode(),
    "missing variable": GOOD.replace("to: echo/echo", "to: 'echo/${NO_SUCH_VARIABLE}'").encode(),
    "empty": b"",
    "twisted word": GOOD.replace("name: default", "name: NO").encode(),
    "bytes": b"\x00\xff",
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_e01_a_bad_file_has_its_verdict_with_a_place(bad):
    Path("config.yaml").write_bytes(BAD_FILES[bad])
    checked, served = run("check"), run("serve", "--port", "0")
    assert served.exit_code == checked.exit_code == 1
    assert served.stderr == checked.stderr
    assert re.match(r"config\.yaml:\d+:\d+: ", served.stderr)
    assert ("NO_SUCH_VARIABLE" in served.stderr) == (bad == "missing variable")


@pytest.mark.parametrize("bad", ["syntax", "missing variable"])
def test_e01_serve_and_check_give_the_same_verdict_and_no_port_is_opened(bad):
    Path("config.yaml").write_bytes(BAD_FILES[bad])
    with socket.create_server(("127.0.0.1", 0)) as taken:  # whoever tried to listen here would say so
        port = taken.getsockname()[1]
        used = cpu_s()
        served = subprocess.run(
            [sys.executable, "-m", "proxy", "serve", "--port", str(port)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        used = cpu_s() - used
    checked = run("check")
    assert served.returncode == checked.exit_code == 1
    assert served.stderr == checked.stderr
    assert used < 2 * 3  # 2 s; of its own time, as the machine may be busy, and three times, as it may be slow


def cpu_s() -> float:
    """What all processes took that this one started and that have ended."""
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken.ru_utime + taken.ru_stime


def test_serve_on_a_port_in_use_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = subprocess.run(
            [sys.executable, "-m", "proxy", "serve", "--port", str(port)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert served.returncode == 1
    assert f"127.0.0.1:{port}" in served.stderr
    assert "--port" in served.stderr
    assert served.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (OSError(errno.EACCES, "127.0.0.1:80: permission denied"), "choose a port from 1024 on with --port"),
        (OSError(errno.EADDRNOTAVAIL, "10.1.2.3:80: cannot assign requested address"), "another address with --host"),
    ],
)
def test_serve_where_it_may_not_listen_says_what_to_do(monkeypatch, error, cure):
    def refused(*_args, **_more):
        raise error

    monkeypatch.setattr("proxy.serving.serve", refused)
    result = run("serve")
    assert result.exit_code == 1
    assert f"cannot listen on {error.strerror}; " in result.stderr
    assert cure in result.stderr


def test_ctrl_c_during_the_start_prints_no_traceback(tmp_path):
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    command = "import sys; sys.path.insert(0, sys.argv.pop(1)); from proxy.__main__ import run; run()"
    ended = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path), "serve"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_several_workers_need_a_system_that_can_share_a_port(monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    result = run("serve", "--workers", "2")
    assert result.exit_code == 1
    assert "SO_REUSEPORT" in result.stderr
    assert "--workers" in result.stderr


# -- schema ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema():
    result = run("schema")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def valid(schema, text):
    return jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(text))


def test_the_schema_accepts_the_shipped_config(schema):
    jsonschema.validate(yaml.safe_load((ROOT / "config.yaml").read_text()), schema)


@pytest.mark.parametrize(
    "more",
    [
        "auth: off",
        'auth: "off"',
        f"auth: {{keys: [{{name: a, sha256: '{'a1' * 32}', models: x}}]}}",
        "server: {port: 1, cors: {origins: ['*']}, timeouts: {connect_s: 1}}",
    ],
)
def test_the_schema_accepts_what_check_accepts(schema, more):
    assert valid(schema, GOOD + more)
    Path("config.yaml").write_text(GOOD + more)
    assert run("check").exit_code == 0


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "serer: {}",
        GOOD + "auth: {}",
        GOOD + "server: {port: '1'}",
        GOOD.replace("kind: echo", "kind: ehco"),
        GOOD.replace("kind: echo", "kind: echo, api_key: x"),
        GOOD.replace("to: echo/echo", "to: 5"),
        GOOD.replace("to: echo/echo", "to: [{target: a, wieght: 1}]"),
        "backends: {echo: {kind: echo}}",
    ],
)
def test_the_schema_refuses_what_check_refuses(schema, text):
    assert not valid(schema, text)
    Path("config.yaml").write_text(text)
    assert run("check").exit_code == 1


def test_everything_in_the_schema_is_described(schema):
    undescribed = [
        f"{name}.{key}"
        for name, model in schema["$defs"].items()
        for key, field in model.get("properties", {}).items()
        if not field.get("description")
    ]
    assert undescribed == []


# -- diff ------------------------------------------------------------------------------------------------------


@pytest.fixture
def configs():
    Path("old.yaml").write_text(GOOD)
    Path("new.yaml").write_text(
        "backends: {echo: {kind: echo}}\nroutes:\n"
        "  - {name: code, match: {model: 'code-*', header: {x-team: '*'}}, to: [echo/code, echo/echo]}\n"
        "  - {name: default, match: {contract: chat}, to: echo/echo}\n"
    )


def lines(*entries):
    Path("requests.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries) + "\n\n")


def test_diff_shows_the_requests_that_would_go_elsewhere(configs):
    body = {"messages": [{"role": "user", "content": "hi"}]}
    lines(
        {"path": "/chat", "body": body},
        {"path": "/chat", "headers": {"X-Team": "a"}, "body": body | {"model": "code-1"}},
        {"path": "/v1/chat/completions", "body": body | {"model": "m"}},
        {},
    )
    result = run("diff", "old.yaml", "new.yaml", "requests.jsonl")
    assert result.exit_code == 1
    *different, last = result.stdout.splitlines()
    assert different == [
        "requests.jsonl:2: /chat, model code-1",
        "  - default: echo/echo",
        "  + code: echo/code, echo/echo",
        "requests.jsonl:3: /v1/chat/completions, model m",
        "  - default: echo/echo",
        "  + refused: 404 model_not_found",
    ]
    assert_said([last], ["2 4"])


def test_diff_of_what_a_route_sets(configs):
    Path("new.yaml").write_text(GOOD.replace("to: echo/echo", "to: echo/echo, set: {temperature: 0.7}"))
    lines({"path": "/chat"})
    result = run("diff", "old.yaml", "new.yaml", "requests.jsonl")
    assert "  + default: echo/echo temperature=0.7" in result.stdout


def test_diff_reads_each_request_as_each_config_declares_its_contract(configs):
    declared = "frontends: {mine: {path: /mine, request: {prompt: ask}, response: {token: $text}}}\n"
    Path("new.yaml").write_text(GOOD + declared)
    lines({"path": "/mine", "body": {"ask": "hi", "model": "m"}})
    result = run("diff", "old.yaml", "new.yaml", "requests.jsonl")
    assert result.stdout.splitlines()[:-1] == [
        "requests.jsonl:1: /mine, model m",
        "  - refused: 404 not_found",
        "  + default: echo/echo",
    ]
    assert run("diff", "new.yaml", "new.yaml", "requests.jsonl").exit_code == 0
    lines({"path": "/mine", "body": {"question": "hi"}})
    result = run("diff", "new.yaml", "new.yaml", "requests.jsonl")
    assert result.exit_code == 2
    assert_said(result.stderr.splitlines(), ["requests.jsonl:1: ask"])


def test_diff_without_a_difference_exits_0(configs):
    lines({"path": "/chat"}, {"path": "/api/chat"})
    result = run("diff", "old.yaml", "old.yaml", "requests.jsonl")
    assert result.exit_code == 0
    assert_said(result.stdout.splitlines(), ["0 2"])


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "requests.jsonl:1: "), ('{"paht": "/chat"}', "paht"), ('{"path": "/no"}', " /no;"), ('{"body": [1]}', "requests.jsonl:1: ")],
)  # fmt: skip
def test_diff_in_trouble_exits_2(configs, line, message):
    Path("requests.jsonl").write_text(line)
    result = run("diff", "old.yaml", "new.yaml", "requests.jsonl")
    assert result.exit_code == 2
    assert message in result.stderr


def test_diff_of_a_bad_config_exits_2(configs):
    lines({})
    Path("new.yaml").write_text("")
    assert run("diff", "old.yaml", "new.yaml", "requests.jsonl").exit_code == 2


# -- key new ---------------------------------------------------------------------------------------------------


def test_a_new_key_is_strong_and_its_row_can_be_pasted():
    first, second = run("key", "new", "--name", "web").stdout, run("key", "new").stdout
    secret, digest = re.findall(r"^key     (cp-[\w-]{43})\nsha256  ([0-9a-f]{64})\n", first)[0]
    assert hashlib.sha256(secret.encode()).hexdigest() == digest
    assert secret not in second
    row = first.splitlines()[2].removeprefix("row     ")
    assert yaml.safe_load(row) == [{"name": "web", "sha256": digest}]
    Path("config.yaml").write_text(f"{GOOD}auth:\n  keys:\n    {row}\n")
    assert run("check").exit_code == 0


def test_a_key_needs_a_usable_name():
    assert run("key", "new", "--name", "a b").exit_code == 2


def test_N7_check_takes_a_file_by_its_name_alone():
    Path("mine.yaml").write_text("nothing: here\n")
    assert run("check", "mine.yaml").stderr.startswith("mine.yaml:1:1: ")
    Path("mine.yaml").write_text(GOOD)
    assert run("check", "mine.yaml").output.startswith("mine.yaml: ok")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_A9_a_full_standard_output_is_named(workers):
    with Path("/dev/full").open("w") as full:
        served = subprocess.run(
            [sys.executable, "-m", "proxy", "serve", "--port", "0", "--workers", workers],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=150, check=False,
        )  # fmt: skip
    assert served.returncode == 1
    lines = served.stderr.splitlines()
    assert "standard output" in lines[-1]
    assert "Traceback" not in served.stderr
