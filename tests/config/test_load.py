"""A config file is right, or every mistake in it is told at once with its place (E01, E04, E05, G10)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.base import kind, kinds
from proxy.config.load import load_config
from proxy.errors import ConfigErrors
from tests.support.said import assert_said, says

ROOT = Path(__file__).parents[2]

GOOD = """
backends:
  echo: {kind: echo}
routes:
  - {name: default, to: echo/echo}
"""
KEY = "cp-Zb3kq9PzT1wYv7Lx"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def with_route(**keys):
    """`GOOD` with its route's keys replaced; values are YAML."""
    keys = {"name": "default", "to": "echo/echo"} | keys
    return "backends:\n  echo: {kind: echo}\nroutes:\n  -" + "".join(
        f"   {key}: {value}\n" if not number else f"    {key}: {value}\n"
        for number, (key, value) in enumerate(keys.items())
    ).replace("   name", " name", 1)


def with_auth(rows):
    return GOOD + "auth:\n  keys:\n" + "".join(f"    - {row}\n" for row in rows)


# -- what is right ---------------------------------------------------------------------------------------------


def test_defaults_fill_what_is_left_out(load):
    config = load(GOOD)
    server = config.settings.server
    assert (server.host, server.port, server.heartbeat_s, server.limits.body_mb) == ("127.0.0.1", 8080, 15.0, 20.0)
    assert config.settings.auth is None
    assert config.backends["echo"].delay_ms == 0.0
    assert not config.off
    assert not config.warnings
    assert config.digest == hashlib.sha256(GOOD.removeprefix("\n").encode()).hexdigest()


def test_short_forms_mean_the_long_ones(load):
    short = load(with_route(to="echo/a", match="{model: x*, has: tools}")).settings.routes
    long = load(with_route(to="[{target: echo/a}]", match="{model: ['x*'], has: [tools]}")).settings.routes
    assert short[0].match == long[0].match
    assert [target.target for target in short[0].to] == [target.target for target in long[0].to]


def test_auth_off_is_a_word(load):
    assert load(GOOD + "auth: off\n").settings.auth.off
    assert load(GOOD + 'auth: "off"\n').settings.auth.off
    assert load(GOOD + "server: {reload: off}\n").settings.server.reload == "off"


def test_an_optional_backend_without_its_variable_is_off(load):
    config = load(
        """
        backends:
          echo: {kind: echo}
          far: {kind: wire, api_key: "${FAR_KEY}", optional: true}
        routes:
          - {name: far, to: far/m}
          - {name: default, to: echo/echo}
        """
    )
    assert (list(config.off), "FAR_KEY" in config.off["far"]) == (["far"], True)
    assert set(config.backends) == {"echo"}
    assert config.routes_off == ["far"]
    assert not config.warnings


def test_it_is_on_with_it_and_the_key_is_wrapped(load):
    config = load(
        GOOD.replace("routes:", '  far: {kind: wire, api_key: "${FAR_KEY}", optional: true}\nroutes:'),
        env={"FAR_KEY": "canary-7f3a"},
    )
    assert config.backends["far"].api_key.get_secret_value() == "canary-7f3a"
    assert "canary-7f3a" not in repr(config) + str(config.settings.model_dump())
    assert config.settings.backends["far"] == {"kind": "wire", "optional": True}


def test_an_off_backend_is_still_checked_for_other_mistakes(problems):
    text = GOOD.replace("routes:", '  far: {kind: wire, api_key: "${FAR_KEY}", optional: true, base: x}\nroutes:')
    assert_said(problems(text), ["3:60: base backends.far base_url"])


def test_warnings_say_what_is_probably_not_meant(load):
    config = load(
        """
        server: {host: 0.0.0.0}
        auth: off
        backends:
          far: {kind: wire, api_key: "${FAR_KEY}", optional: true}
        routes:
          - name: default
            to: far/m
            set: {temperature: 0, temprature: 0}
            default: {temperature: 1}
        """
    )
    expected = [
        "2:7: auth 0.0.0.0",
        "6:3: far FAR_KEY",
        "8:39: temprature temperature",
        "9:28: temperature set default",
    ]
    assert_said([str(warning).removeprefix("config.yaml:") for warning in config.warnings], expected)


def test_a_second_port_must_be_another_one_and_is_our_own_address_too(load, problems):
    def text(server, row="{kind: echo}"):
        return f"server: {server}\nbackends:\n  local: {row}\nroutes:\n  - {{name: default, to: local/x}}\n"

    local = "{kind: wire, base_url: 'http://127.0.0.1:11434/v1'}"
    assert load(text("{ollama_port: 11434}")).settings.server.ollama_port == 11434
    assert load(text("{port: 0, ollama_port: 0}")).settings.server.ollama_port == 0
    assert_said(problems(text("{port: 9000, ollama_port: 9000}")), ["1:35: 9000 server.port"])
    assert_said(problems(text("{ollama_port: 11434}", local)), ["3:33: local base_url"])


def test_a_preset_may_be_our_own_address_as_well(load, problems):
    text = "server: {ollama_port: %d}\nbackends:\n  o: {kind: openai-compatible, preset: ollama}\nroutes: [{name: r, to: o}]\n"
    settings_for = {"settings_for": lambda name: kind(name).settings, "kinds": kinds()}
    assert load(text % 11435, **settings_for)
    assert_said(problems(text % 11434, **settings_for), ["3:40: `o` http://127.0.0.1:11434/v1 preset"])


def test_the_command_lines_host_and_port_are_checked_instead_of_the_files(load, problems):
    text = GOOD.replace("routes:", "  far: {kind: wire, base_url: 'http://localhost:9000/v1'}\nroutes:")
    assert load(text, port=0).settings.server.port == 0
    assert_said(problems(text, port=9000), ["3:31: far base_url"])
    (problem,) = problems(text, host="0.0.0.0")
    assert "0.0.0.0" in problem


# -- what is wrong ---------------------------------------------------------------------------------------------

MISTAKES = [
    ("server: {port: '80'}", "1:16: server.port number quotes"),
    ("server: {port: 80.0}", "1:16: server.port number"),
    ("server: {port: 99999}", "1:16: server.port 65535"),
    ("server: {port: true}", "1:16: server.port number"),
    ("server: {port: }", "1:15: server.port number"),
    ("server: {host: 1.10}", '1:16: server.host "1.10"'),
    ("server: {heartbeat_s: -1}", "1:23: server.heartbeat_s 0"),
    ("server: {timeouts: {connect_s: 0}}", "1:32: server.timeouts.connect_s 0"),
    ("server: {hots: x}", "1:10: hots host"),
    ("server: {PORT: 80}", "1:10: PORT did port"),
    ("server: [a]", "1:9: server mapping key:"),
    ("server: port:80", "1:9: server mapping space"),
    ("server: {drain_s: 30s}", "1:19: server.drain_s number 30"),
    ("server: {timeouts: {first_token_s: 30 s}}", "1:36: server.timeouts.first_token_s number 30"),
    ("server: {cors: '*'}", "1:16: server.cors mapping key:"),
    ("server: {log: {level: warn}}", "1:23: server.log.level warn warning"),
    ("server: {log: {format: xml}}", "1:24: server.log.format xml auto"),
    ("server: {cors: {origins: ['http://a/b']}}", "1:26: server.cors.origins http://a/b scheme://"),
    ("server: {cors: {origins: ['*'], credentials: true}}", "1:16: server.cors credentials"),
    ("server: {cors: {}}", "1:16: origins server.cors"),
    ("server: {trusted_proxies: [10.0.0.1/8]}", "1:27: server.trusted_proxies 10.0.0.1/8 10.0.0.0/8"),
    ("serer: {}", "1:1: serer server"),
    ("budget: {}", "1:1: budget auth"),
    ("auth:", "1:6: auth keys off"),
    ("auth: on", '1:7: true "on"'),
    ("auth: {key: []}", "1:8: key keys"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), MISTAKES)
def test_e01_a_mistake_in_the_server_part(problems, line, expected):
    found = problems(line + GOOD)
    assert any(says(one, expected) for one in found), found
    assert len(found) == 1 or line == "auth: {key: []}"


ROUTE_MISTAKES = [
    ({"to": "ehco/x"}, "5:9: ehco echo"),
    ({"to": "[echo/x, nowhere/x]"}, "5:18: nowhere echo"),
    ({"to": "echo/"}, "5:9: routes[0].to backend/model"),
    ({"to": "[]"}, "5:9: routes[0].to echo/echo"),
    ({"to": "5"}, "5:9: routes[0].to mapping"),
    ({"name": "a b"}, "4:11: routes[0].name"),
    ({"name": "1.10"}, '4:11: routes[0].name "1.10"'),
    ({"pick": "wighted"}, "6:11: routes[0].pick wighted weighted"),
    ({"on_cut": "restart"}, "6:13: routes[0].on_cut error continue"),
    ({"retry": "{times: 5}"}, "6:5: retry routes[0]"),
    ({"temperature": "0.5"}, "6:5: temperature routes[0] `default` `set`"),
    ({"hedge": "{after_ms: 5}"}, "6:12: routes[0].hedge `to`"),
    ({"to": "[{target: echo/a, concurrency: 0}]"}, "5:40: routes[0].to[0].concurrency 0"),
    ({"to": "[{target: echo/a, concurrency: {min: 3, max: 2}}]"}, "5:40: routes[0].to[0].concurrency min max"),
    ({"to": "[{target: echo/a, queue: {size: 3}}]"}, "5:34: routes[0].to[0].queue concurrency"),
    ({"to": "[{target: echo/a, concurrency: 1, queue: {wait_s: 3}}]"}, "5:50: size routes[0].to[0].queue"),
    ({"to": "[{target: echo/a, concurrency: true}]"}, "5:40: routes[0].to[0].concurrency number {min: 2, max: 20}"),
    ({"smooth": "true"}, "6:13: routes[0].smooth {} defaults"),
    ({"hedge": "{}"}, "6:12: routes[0].hedge after_ms after_percentile"),
    ({"hedge": "{after_ms: 5, after_percentile: 90}"}, "6:12: routes[0].hedge after_ms after_percentile"),
    ({"hedge": "{after_percentile: 20}"}, "6:31: routes[0].hedge.after_percentile 50"),
    ({"hedge": "{after_ms: 5, on_lose: keep}"}, "6:35: routes[0].hedge.on_lose keep cancel"),
    ({"to": "[{target: echo/a, weight: 2}]"}, "5:35: routes[0].to[0].weight weighted least-busy"),
    ({"sticky": "key"}, "6:13: routes[0].sticky weighted"),
    ({"to": "[{target: echo/a, weight: 0}]", "pick": "weighted"}, "5:9: routes[0].to weight"),
    ({"to": "[{target: echo/a, weight: -1}]", "pick": "weighted"}, "5:35: routes[0].to[0].weight"),
    ({"sticky": "cookie", "pick": "weighted"}, "6:13: routes[0].sticky header:NAME key user conversation"),
    ({"set": "{model: x}"}, "6:10: routes[0].set model backend/model"),
    ({"set": "{messages: []}"}, "6:10: routes[0].set messages"),
    ({"set": "{temperature: hot}"}, "6:10: routes[0].set temperature number"),
    ({"default": "{max_tokens: true}"}, "6:14: routes[0].default max_tokens number"),
    ({"timeouts": "{first_token: 5}"}, "6:16: first_token routes[0].timeouts first_token_s"),
    ({"dialect": "xml"}, "6:14: routes[0].dialect xml text"),
    ({"match": "{}", "errors": "frame+txt"}, "7:13: routes[0].errors frame+txt frame+text"),
    ({"match": "{modle: x}"}, "6:13: modle routes[0].match model"),
    ({"match": "{model: []}"}, "6:20: routes[0].match.model"),
    ({"match": "{model: }"}, "6:19: routes[0].match.model"),
    ({"match": "{header: }"}, "6:20: routes[0].match.header"),
    ({"match": "{model: 4.10}"}, '6:20: routes[0].match.model "4.10"'),
    ({"match": "{model: ''}"}, '6:20: routes[0].match.model "*"'),
    ({"match": "{header: {x-a: 5}}"}, '6:27: routes[0].match.header.x-a "5"'),
    ({"match": "{contract: chatt}"}, "6:23: chatt chat"),
    ({"match": "{key: web}"}, "6:18: web auth"),
    ({"match": "{has: image}"}, "6:18: routes[0].match.has image images"),
    ({"match": "{tokens: {min: 9, max: 3}}"}, "6:21: routes[0].match.tokens min max"),
    ({"match": "{tokens: {}}"}, "6:21: routes[0].match.tokens min max"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "expected"), ROUTE_MISTAKES)
def test_e01_a_mistake_in_a_route(problems, keys, expected):
    assert_said(problems(with_route(**keys)), [expected])


BACKEND_MISTAKES = [
    ("echo: {kind: ehco}", "2:16: echo kind"),
    ("echo: {kind: acme}", "2:16: echo kind wire"),
    ("echo: {}", "2:9: echo kind wire"),
    ("echo: {Kind: echo}", "2:10: Kind backends.echo kind"),
    ("echo: {knid: echo}", "2:10: knid backends.echo kind"),
    ("echo: {kind: ECHO}", "2:16: echo did"),
    ("echo: {kind: 5}", "2:16: echo kind wire"),
    ("echo: text", "2:9: backends.echo mapping"),
    ("echo: {kind: echo, delay: 5}", "2:22: delay backends.echo delay_ms"),
    ("echo: {kind: echo, delay_ms: fast}", "2:32: backends.echo.delay_ms number"),
    ("echo: {kind: wire, api_key: 12345678}", "2:31: backends.echo.api_key quote"),
    ("echo: {kind: wire, api_key: '${NOPE}'}", "2:31: NOPE ${NOPE:-default} optional"),
    ("echo: {kind: wire, base_url: 'http://localhost:8080/v1'}", "2:32: echo base_url"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), BACKEND_MISTAKES)
def test_e01_a_mistake_in_a_backend(problems, row, expected):
    assert_said(problems(f"backends:\n  {row}\nroutes:\n  - {{name: default, to: echo/x}}\n"), [expected])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", ["1:1: backends", "1:1: routes"]),
        ("backends: {}\nroutes: []\n", ["1:11: backends", "2:9: routes"]),
        ("backends: {a/b: {kind: echo}}\nroutes: [{name: a, to: x}]\n", ["1:12: a/b", "2:24: `x` a/b"]),
        (GOOD + "  - {name: default, to: echo/b, match: {model: x}}\n", ["5:5: default", "5:12: default 4"]),
    ],
)  # fmt: skip
def test_e01_a_mistake_in_the_whole(problems, content, expected):
    assert_said(problems(content), expected)


def test_all_mistakes_come_at_once_in_the_order_of_the_file(problems):
    found = problems(
        """
        server: {port: "80", hots: x}
        auth: {keys: [{name: a, key: "${UNSET}"}, {name: b, sha256: xyz, routes: [nowhere]}]}
        backends:
          echo: {kind: ehco}
          two: {kind: wire, api: 1, base_url: NO}
          two: {kind: echo}
        routes:
          - {name: a, to: nowhere/x, set: {temperature: hot}, match: {modle: x}}
          - {name: a, to: echo/x, match: {content: "(a"}}
          - {to: echo}
        extra: 1
        """
    )
    expected = [
        "1:16: server.port",
        "1:22: hots host",
        "2:30: UNSET",
        "2:61: auth.keys[1].sha256 64",
        "4:16: echo kind",
        "5:21: api backends.two api_key",
        '5:39: false "NO"',
        "6:3: two 5",
        "8:19: nowhere echo",
        "8:35: routes[0].set temperature number",
        "8:63: modle routes[0].match model",
        "9:12: a 8",
        "9:44: routes[1].match.content",
        "10:5: name routes[2]",
        "11:1: extra auth",
    ]
    assert_said(found, expected)


def test_a_flood_of_mistakes_is_cut_short(problems):
    started = time.process_time()
    found = problems(GOOD + "server:\n" + "".join(f"  {'k' * 200}{n}: 1\n" for n in range(1500)))
    assert time.process_time() - started < 2
    assert len(found) == 101
    assert "1400" in found[-1]


# -- rules that nothing reaches --------------------------------------------------------------------------------


def routes(*rows, more=""):
    text = 'backends:\n  echo: {kind: echo}\n  far: {kind: wire, api_key: "${FAR:-x}", optional: true}\n'
    return text + more + "routes:\n" + "".join(f"  - {row}\n" for row in rows)


def test_a_rule_below_one_that_takes_everything_is_an_error(problems):
    found = problems(routes("{name: all, to: echo/e}", "{name: late, match: {model: x}, to: echo/e}"))
    assert_said(found, ["6:5: late all"])


def test_a_rule_that_repeats_an_earlier_one_is_an_error(problems):
    found = problems(
        routes("{name: one, match: {model: x}, to: echo/e}", "{name: two, match: {model: [x]}, to: echo/f}")
    )
    assert_said(found, ["6:5: two one"])


def test_a_rule_below_one_that_may_be_off_is_fine(load):
    load(routes("{name: all, to: far/m}", "{name: rest, to: echo/e}"))


def test_a_rule_that_only_a_restricted_key_gets_to_is_fine(load):
    keys = f"auth: {{keys: [{{name: k, sha256: '{DIGEST}', routes: [late]}}]}}\n"
    load(routes("{name: all, to: echo/e}", "{name: late, to: echo/f}", more=keys))


# -- keys (G10) ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "env", "expected"),
    [
        ("auth: {keys: []}", {}, "keys"),
        ("auth: {}", {}, "keys"),
        ("auth: {keys: [{name: a, key: '${K:-}'}]}", {}, "empty"),
        ("auth: {keys: [{name: a, key: '${K}'}]}", {"K": "tiny-one"}, "`a` 16"),
        ("auth: {keys: [{name: a, key: '${K}'}]}", {"K": "your-api-key-here"}, "`a` example"),
        ("auth: {keys: [{name: a, key: '${K}'}]}", {"K": "changeme"}, "`a` example"),
        ("auth: {keys: [{name: a, key: '${K}'}]}", {"K": "abababababababababab"}, "`a` repeats"),
        ("auth: {keys: [{name: a, key: '${K}'}]}", {"K": KEY + "\n"}, "`a` header"),
        (f"auth: {{keys: [{{name: a, sha256: {hashlib.sha256(b'').hexdigest()}}}]}}", {}, "`a` example"),
        (f"auth: {{keys: [{{name: a, sha256: '{'0' * 64}'}}]}}", {}, "`a` digest"),
        ("auth: {keys: [{name: a}]}", {}, "auth.keys[0] `sha256` `key`"),
        (f"auth: {{keys: [{{name: a, sha256: '{DIGEST}', key: x}}]}}", {}, "auth.keys[0] `sha256` `key`"),
        (f"auth: {{keys: [{{name: a, sha256: '{DIGEST}'}}, {{name: a, key: '${{K}}'}}]}}", {"K": KEY[::-1]}, "`a` 1"),
        (f"auth: {{keys: [{{name: a, sha256: '{DIGEST}'}}, {{name: b, key: '${{K}}'}}]}}", {"K": KEY}, "`b` `a`"),
        (f"auth: {{keys: [{{name: a, sha256: '{DIGEST}', routes: [defualt]}}]}}", {}, "`a` `defualt` `default`"),
    ],
)  # fmt: skip
def test_g10_a_lock_that_does_not_lock_is_refused(problems, auth, env, expected):
    (found,) = problems(auth + GOOD, env=env)
    assert says(found, "1: " + expected), found
    assert not any(value.strip() in found for value in env.values())


def test_g10_one_empty_key_among_others_is_off_and_said(load):
    config = load(with_auth([f"{{name: web, sha256: '{DIGEST}'}}", "{name: ci, key: '${CI:-}'}"]))
    assert [key.off for key in config.settings.auth.keys] == [False, True]
    assert_said([str(warning) for warning in config.warnings], ["config.yaml:8:7: `ci` off empty"])


def test_g10_without_a_word_about_keys_only_this_machine_may_ask(problems, load):
    costly = GOOD.replace("kind: echo", "kind: wire")
    assert_said(problems("server: {host: 0.0.0.0}" + costly), ["1:16: 0.0.0.0 `echo` `auth`"])
    for host in ("localhost", "127.0.0.2", "::1"):
        load(f"server: {{host: '{host}'}}" + costly)
    load("server: {host: 0.0.0.0}" + GOOD)  # an echo costs nothing
    assert load("server: {host: 0.0.0.0}\nauth: off" + costly).warnings


def test_a_key_given_as_text_and_its_digest_are_one(load):
    by_text = load(with_auth(["{name: a, key: '${K}'}"]), env={"K": KEY}).settings.auth.keys[0]
    by_digest = load(with_auth([f"{{name: a, sha256: '{DIGEST.upper()}'}}"])).settings.auth.keys[0]
    assert by_text.digest == by_digest.digest == DIGEST


# -- patterns (E05) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(?=a)", "(?= 1 look-around"),
        ("x(?<!y)z", "(?<! 2"),
        (r"(a)\\1", r"\1 4 back-references"),
        ("a{2000}", "{2000} 2"),
        ("[z-a]", "z-a 2"),
        ("a" * 1001, "1000"),
    ],
)
def test_e05_an_expression_that_is_not_linear_is_refused(problems, pattern, expected):
    (found,) = problems(with_route(match=f'{{content: "{pattern}"}}'))
    assert says(found, "6:22: routes[0].match.content " + expected), found


def test_e05_without_the_engine_the_error_says_how_to_get_it(problems, monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    (found,) = problems(with_route(match='{content: "nobody wrote this one before"}'))
    assert "pip install 'chat-proxy[re2]'" in found


# -- secrets and fuzz ------------------------------------------------------------------------------------------

CANARY = "canary-c0ffee-secret"
FIELDS = ["server", "auth", "backends", "routes", "name", "to", "match", "model", "kind", "optional", "api_key", "key",
          "keys", "sha256", "host", "port", "cors", "origins", "set", "temperature", "pick", "weight", "content", "log",
          "level", "echo", "timeouts", "trusted_proxies", "sticky", "tokens", "has", "header"]  # fmt: skip
SCALARS = st.sampled_from(
    ["'${C}'", "${C}", "x${C}", "1", "true", "1.5", "echo", "echo/x", "weighted", "wire", "'*'", "", "[]", "{}", "off"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["server", "auth", "backends", "routes"]), VALUES))
def test_h11_no_config_makes_anything_but_config_errors_and_no_error_shows_a_secret(tmp_path_factory, parts):
    from tests.config.conftest import KINDS, settings_for

    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in parts.items()))
    said = ""
    try:
        load_config(path, settings_for=settings_for, env={"C": CANARY}, kinds=KINDS, contracts={"chat"})
    except ConfigErrors as errors:
        said = str(errors)
    assert CANARY not in said


@pytest.mark.parametrize("place", ["server: {{host: {}, prt: 1}}", "server: {{log: {{level: {}}}}}", "server: {{cors: {{origins: [{}]}}}}",
                                   "server: {{trusted_proxies: [{}]}}", "auth: {{keys: [{{name: {}, key: x}}]}}", "auth: {{keys: [{{name: a, sha256: {}}}]}}"])  # fmt: skip
def test_i01_a_value_from_the_environment_is_in_no_message(problems, place):
    found = problems(place.format("'${C} x'") + GOOD, env={"C": CANARY})
    assert found
    assert CANARY not in "\n".join(found)


def test_the_shipped_config_is_right():
    """As its reader first meets it: by the command, without any variable."""
    run = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "-c", "config.yaml"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert run.stdout.splitlines()[-1] == "config.yaml: ok, 1 backend on, 3 off, 4 routes"
