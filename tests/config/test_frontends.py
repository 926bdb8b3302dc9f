"""Declared contracts: what is right is read, and every mistake is told at its own word."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from proxy.config.frontend_checks import OPERATIONS
from proxy.config.templates import could_look_alike, is_one_line, parse
from tests.support.said import assert_said

HEAD = "backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\nfrontends:\n  own:\n"


def with_own(declaration):
    """A config that declares `own`; the declaration begins in line 5 and is indented by four."""
    return HEAD + indent(dedent(declaration).strip("\n"), "    ") + "\n"


def with_response(text):
    """The same, of which only `response` matters; it begins in line 7 and is indented by six."""
    return with_own("path: /own\nresponse:\n" + indent(dedent(text).strip("\n"), "  "))


def test_little_has_to_be_said(load):
    own = load(with_own("path: /own\nresponse: {token: {text: $text}}")).settings.frontends["own"]
    assert own.path == ["/own"]
    assert own.response.token == {"text": "$text"}
    assert (own.response.framing, own.response.cuts) == ("sse", True)
    assert own.request.messages is None
    assert (own.request.model, own.request.stream) == (["model"], ["stream"])


def test_one_stands_for_a_list_of_one(load):
    long = "path: [/own]\nrequest: {content: [text], stream: [$accept]}\nresponse: {token: $text}"
    short = "path: /own\nrequest: {content: text, stream: $accept}\nresponse: {token: $text}"
    assert load(with_own(long)).settings == load(with_own(short)).settings
    always = load(with_own("path: /own\nrequest: {stream: true}\nresponse: {token: $text}"))
    assert always.settings.frontends["own"].request.stream == ["$always"]


def test_a_rule_may_name_a_declared_contract(load, problems):
    text = with_own("path: /own\nresponse: {token: $text}")
    assert load(text.replace("{name: default, to", "{name: default, match: {contract: own}, to"))
    wrong = text.replace("{name: default, to", "{name: default, match: {contract: won}, to")
    assert_said(problems(wrong), ["2:44: won own"])


def test_variables_are_read_in_declarations_too(load):
    config = load(with_own('path: /own\nresponse: {token: {text: $text, by: "${WHO:-us}"}}'), env={"WHO": "them"})
    assert config.settings.frontends["own"].response.token == {"text": "$text", "by": "them"}


def test_the_pages_of_operators_are_all_known():
    from proxy.app import App

    operations = set(App("config.yaml").operations) - {"/"}
    assert {path for path in operations if not path.startswith("/web/")} <= set(OPERATIONS)
    assert "/web/" in OPERATIONS


# -- what is wrong ---------------------------------------------------------------------------------------------

PLACES = [
    ("{}", ["5:5: path frontends.own", "5:5: response frontends.own"]),
    ("path: /own\nresponse: {}", ["6:15: token frontends.own.response"]),
    ("path: []\nresponse: {token: $text}", ["5:11: frontends.own.path"]),
    (
        "path: own\nresponse: {token: $text}",
        [
            "5:11: frontends.own.path own",
        ],
    ),
    *(
        (f"path: [/fine, {path}]\nresponse: {{token: $text}}", [f"5:19: frontends.own.path[1] `{shown}`"])
        for path, shown in [
            ("/", "/"),
            ("/a//b", "/a//b"),
            ("/a/../b", "/a/../b"),
            ('"/a?b"', "/a?b"),
            ('"/a#b"', "/a#b"),
            ("/a%20b", "/a%20b"),
            ("/é", "/é"),
            ('"/{id}"', "/{id}"),
            ('"/a b"', "/a b"),
        ]
    ),
    (
        "path: /chat\nresponse: {token: $text}",
        ["5:11: frontends.own.path /chat"],
    ),
    (
        "path: /v1/models/mine\nresponse: {token: $text}",
        ["5:11: frontends.own.path /v1/models/mine openai"],
    ),
    (
        "path: /status\nresponse: {token: $text}",
        ["5:11: frontends.own.path /status"],
    ),
    (
        "path: [/own, /own]\nresponse: {token: $text}",
        ["5:18: frontends.own.path[1] /own"],
    ),
    (
        "path: /own\nrespons: {token: $text}",
        [
            "5:5: response frontends.own",
            "6:5: respons frontends.own response",
        ],
    ),
    (
        "path: /own\nresponse: {token: $text}\nheaders: {Content-Type: text/plain, X-A: a, x-a: b, Access-Control-Allow-Origin: x}",
        [
            "7:15: frontends.own.headers.Content-Type content_type response",
            "7:49: frontends.own.headers.x-a",
            "7:57: frontends.own.headers.Access-Control-Allow-Origin cors server",
        ],
    ),
    (
        'path: /own\nresponse: {token: $text}\nheaders: {X-A: "a\\r\\nX-B: c", "X B": c, X-É: d}',
        [
            "7:15: frontends.own.headers.X-A",
            "7:35: frontends.own.headers.X B",
            "7:45: frontends.own.headers.X-É",
        ],
    ),
    (
        "path: /own\nresponse: {token: $text}\nerrors: {status: {upstream_timout: 500, 6xx: 500, invalid_api_key: 200, 5xx: 302}}",
        [
            "7:23: frontends.own.errors.status.upstream_timout upstream_timeout",
            "7:45: frontends.own.errors.status.6xx 5xx",
            "7:55: frontends.own.errors.status.invalid_api_key 401",
            "7:82: frontends.own.errors.status.5xx 200 400 599",
        ],
    ),
    (
        "path: /own\nresponse: {token: $text}\nerrors: {body: {detail: $mesage}}",
        ["7:29: frontends.own.errors.body.detail $mesage $message"],
    ),
    (
        "path: /own\nresponse: {token: $text}\nerrors: {status: {5xx: 200}, body: {text: $message}}",
        ["7:40: frontends.own.errors.body 200 whole"],
    ),
    (
        "path: /own\nresponse: {token: $text}\nwhole: {done: true}",
        ["7:12: frontends.own.whole $text"],
    ),
    (
        "path: /own\nresponse: {token: $text}\nwhole: {text: $text, calls: $tool_calls}",
        ["7:12: frontends.own.whole $tool_calls response.tool_call"],
    ),
    (
        "path: /own\nresponse: {token: $text}\nwhole:",
        ["7:11: frontends.own.whole"],
    ),
]


@pytest.mark.parametrize(("declaration", "told"), PLACES, ids=lambda value: repr(value)[:60])
def test_a_mistake_in_a_declaration_is_reported_with_its_place(problems, declaration, told):
    assert_said(problems(with_own(declaration)), told)


REQUESTS = [
    ("{messages: 5}", ['6:25: frontends.own.request.messages "5"']),
    ("{messages: []}", ["6:25: frontends.own.request.messages"]),
    ("{mesages: m}", ["6:15: mesages frontends.own.request messages"]),
    (
        "{content: [text, a..b]}",
        ["6:31: frontends.own.request.content[1] a..b input.question"],
    ),
    ('{prompt: ""}', ["6:23: frontends.own.request.prompt"]),
    ("{model: $model}", ["6:22: frontends.own.request.model $model"]),
    (
        "{user: $accept}",
        ["6:21: frontends.own.request.user $accept stream"],
    ),
    ("{stream: $acept}", ["6:23: frontends.own.request.stream $acept"]),
    (
        "{roles: {ai: asistant}}",
        ["6:27: frontends.own.request.roles.ai asistant assistant"],
    ),
    (
        "{parameters: {temprature: t, max_tokens: a.}}",
        [
            "6:28: frontends.own.request.parameters.temprature temperature",
            "6:55: frontends.own.request.parameters.max_tokens a.",
        ],
    ),
    ("{metadata: {tenant: .t}}", ["6:34: frontends.own.request.metadata.tenant .t"]),
    (
        "{tools: tools}",
        ["6:15: frontends.own.request.tools response tool_call"],
    ),
    (
        "{defaults: {sistem: x, temperature: hot, model: 3, stream: yep, temperatur: 1}}",
        [
            "6:26: frontends.own.request.defaults.sistem system",
            "6:50: frontends.own.request.defaults.temperature number",
            "6:62: frontends.own.request.defaults.model text",
            "6:73: frontends.own.request.defaults.stream true false",
            "6:78: frontends.own.request.defaults.temperatur temperature",
        ],
    ),
]


@pytest.mark.parametrize(("request_", "told"), REQUESTS)
def test_a_mistake_about_requests_is_reported_with_its_place(problems, request_, told):
    assert_said(problems(with_own(f"path: /own\nrequest: {request_}\nresponse: {{token: $text}}")), told)


RESPONSES = [
    (
        "token: {text: $txt}",
        ["7:21: frontends.own.response.token.text $txt $text"],
    ),
    (
        "token: {a: [$text, {b: $answer}]}",
        ["7:30: frontends.own.response.token.a[1].b $answer $created"],
    ),
    ('token: "say $text to $whom"', ["7:14: frontends.own.response.token $whom"]),
    (
        "token: {text: $text, of: $request}",
        ["7:32: frontends.own.response.token.of $request $request.conversation_id"],
    ),
    (
        "token: {text: hello}",
        ["7:14: frontends.own.response.token $text"],
    ),
    (
        "token: 5",
        ["7:14: frontends.own.response.token $text"],
    ),
    ("token:", ["7:13: frontends.own.response.token"]),
    (
        "tokn: $text",
        ["7:7: token", "7:7: tokn frontends.own.response token"],
    ),
    ("framing: xml\ntoken: $text", ["7:16: frontends.own.response.framing xml"]),
    ("token: $text\ncontent_type: html", ["8:21: frontends.own.response.content_type"]),
    (
        'token: $text\ncontent_type: "a/b\\nX: y"',
        ["8:21: frontends.own.response.content_type"],
    ),
    # events
    (
        "token: $text\nevents: {tokens: x}",
        ["8:16: frontends.own.response.events.tokens `token`"],
    ),
    (
        "token: $text\nevents: {done: end}",
        ["8:16: frontends.own.response.events.done"],
    ),
    (
        'token: $text\nevents: {token: "a\\nb"}',
        ["8:23: frontends.own.response.events.token ASCII"],
    ),
    (
        'token: $text\nevents: {token: " a"}',
        ["8:23: frontends.own.response.events.token ASCII"],
    ),
    (
        'framing: ndjson\ntoken: {t: $text}\nevents: {token: a}\ndata_prefix: "data:"',
        [
            "9:7: frontends.own.response.events sse",
            "10:7: frontends.own.response.data_prefix sse",
        ],
    ),
    (
        "token: {t: $text}\nbare_text: text",
        ["8:7: frontends.own.response.bare_text $text"],
    ),
    (
        "token: $text\nbare_text: both\nevents: {token: t}",
        ["9:23: frontends.own.response.events.token"],
    ),
    # framings
    (
        "framing: raw\ntoken: {t: $text}",
        ["8:14: frontends.own.response.token raw $text"],
    ),
    (
        "framing: raw\ntoken: $text\ndone: END\nstart: Hi",
        [
            "9:7: frontends.own.response.done raw",
            "10:7: frontends.own.response.start raw",
        ],
    ),
    (
        "framing: ndjson\ntoken: $text",
        ["8:14: frontends.own.response.token ndjson"],
    ),
    (
        "framing: ndjson\ntoken: $text.json\nerror: '3:$code'",
        ["9:14: frontends.own.response.error ndjson"],
    ),
    # ends
    (
        "token: $text\ncut_on_error: false",
        ["8:21: frontends.own.response.cut_on_error `error`"],
    ),
    (
        "framing: raw\ntoken: $text\nerror: $message\ncut_on_error: false",
        ["10:21: frontends.own.response.cut_on_error raw"],
    ),
    (
        "token: {text: $text}\nerror: {text: $message}",
        [
            "8:14: frontends.own.response.error token events",
        ],
    ),
    (
        "token: {text: $text}\ndone: {text: END}",
        ["8:13: frontends.own.response.done token"],
    ),
    ("token: $text\ndone: END", ["8:13: frontends.own.response.done token"]),
    ("token: $text\ndone: {done: true}", ["8:13: frontends.own.response.done token"]),
    ("token: $text\nerror: $message", ["8:14: frontends.own.response.error token"]),
    (
        "token: {t: $text}\ndone: {e: x}\nerror: {e: $code}",
        ["9:14: frontends.own.response.error done"],
    ),
    (
        "token: {t: $text}\ndone: {d: 1}\nheartbeat: {d: 1}",
        ["8:13: frontends.own.response.done heartbeat"],
    ),
    (
        "framing: ndjson\ntoken: {t: $text}\ndone: {t: $finish_reason}",
        ["9:13: frontends.own.response.done token"],
    ),
    (
        "token: $text\ndone: END\nevents: {token: message}",
        ["8:13: frontends.own.response.done token"],
    ),
]


@pytest.mark.parametrize(("text", "told"), RESPONSES)
def test_a_mistake_about_answers_is_reported_with_its_place(problems, text, told):
    assert_said(problems(with_response(text)), told)


def test_names_of_contracts_are_names_and_their_own(problems):
    text = HEAD.replace("  own:\n", "") + (
        "  chat: {path: /a, response: {token: $text}}\n"
        "  a/b: {path: /b, response: {token: $text}}\n"
        "  c: {path: /a, response: {token: $text}}\n"
        "  d: [path]\n"
    )
    expected = [
        "4:3: frontends.chat",
        "5:3: frontends.a/b",
        "6:13: frontends.c.path /a chat",
        "7:6: frontends.d mapping",
    ]
    assert_said(problems(text), expected)


def test_all_mistakes_of_a_declaration_come_at_once(problems):
    got = problems(with_own("path: own\nresponse: {framing: xml, token: $txt, dne: x}\nheaders: {Server: x}"))
    assert [message.split(":")[0] + ":" + message.split(":")[1] for message in got] == [
        "5:11",
        "6:25",
        "6:37",
        "6:43",
        "7:15",
    ]


ALLOWED = [
    "token: $text\ndone: '[DONE]'",  # where a model writes it, it goes out in two events
    "token: $text\nreasoning: $text\nevents: {reasoning: thought}\ndone: '[DONE]'",
    "token: $text\ndone: END\nevents: {done: done}",
    "token: $text\nerror: $message\nevents: {error: error}",
    "token: $text\nerror: $message\ncut_on_error: true",  # seen by people; programs see the cut
    "token: {text: $text}\ndone: {text: ''}",  # a token is never empty
    "token: {text: $text, done: false}\ndone: {text: $answer, done: true}",
    "token: $text.json\ndone: '[DONE]'",
    "token: $text.json\ndone: {}",
    "framing: ndjson\ntoken: '0:$text.json'\ndone: 'd:{\"finishReason\":$finish_reason.json}'\nerror: '3:$message.json'",
    "framing: raw\ntoken: $text\nerror: '[$message]'",
    "token: {text: $text}\nheartbeat: false",
    "token: {text: $text}\ndone: {}\nerror: {error: $message}",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_can_be_distinguished_is_allowed(load, text):
    assert load(with_response(text))


# -- templates -------------------------------------------------------------------------------------------------


def node(value, template="token"):
    found, problems = parse(value, template)
    assert problems == []
    return found


def test_problems_name_the_place_inside_the_template():
    first, second = parse({"a": ["$nope", {"b": "x $nah"}]}, "start")[1]
    assert (first.path, "$nope" in first.message) == (("a", 0), True)
    assert (second.path, "$nah" in second.message) == (("a", 1, "b"), True)


@pytest.mark.parametrize(
    ("text", "one_line"),
    [
        ("$text", False),
        ("$text.json", True),
        ("a $text.json b $id.json", True),
        ("a $text.json b $id", False),
        ("a\nb", False),
        ("a\rb", False),
        ("ab", True),
        ({"a": "$text\n"}, True),
        (["$text"], True),
    ],
)
def test_what_can_hold_a_line_end_is_known(text, one_line):
    assert is_one_line(node(text)) is one_line


def test_a_dollar_sign_that_names_nothing_is_itself():
    assert parse("costs $5 or 3$", "token")[1] == []
    assert parse("$text.", "token")[1] == []
    assert parse("$text.jsonx", "token")[1] == []


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("$text", "END", True),
        ("$text", "", False),
        ("x$text", "x", False),
        ("x$text", "xy", True),
        ("x$text", "y", False),
        ("$text.json", "END", False),
        ("$text.json", '"END"', True),
        ({"t": "$text"}, {"t": "x"}, True),
        ({"t": "$text"}, {"t": ""}, False),
        ({"t": "$text"}, {"t": 1}, False),
        ({"t": "$text"}, {"t": None}, False),
        ({"t": "$created"}, {"t": 1}, True),
        ({"t": "$text"}, {"u": "x"}, False),
        ({"t": "$text", "n": 1}, {"t": "x", "n": 2}, False),
        ({"t": "a $text"}, {"t": "b"}, False),
        (["$text"], ["x"], True),
        (["$text"], {"t": "x"}, False),
        (["$text"], ["x", "y"], False),
        ({"a": 1, "b": "$text"}, {"b": "x", "a": 1}, True),
        ({"a": "$created"}, {"a": "$created", "b": 1}, False),
        ({"a": "$created"}, {"a": {"b": 1}}, True),
        ({"a": "$text"}, {"a": {"b": 1}}, False),
        ({"a": "$text"}, {"a": ["$text"]}, False),
        ({"a": True}, {"a": 1}, False),
        ("$text", {"a": 1}, True),
        ("x$text", {"a": 1}, False),
        ({}, {}, True),
        ([], {}, False),
    ],
)
def test_what_could_look_alike_is_known(one, other, alike):
    assert could_look_alike(node(one), node(other)) is alike
    assert could_look_alike(node(other), node(one)) is alike
