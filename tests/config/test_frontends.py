"""Declared contracts: what is right is read, and every mistake is told at its own word."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from proxy.config.frontend_checks import OPERATIONS
from proxy.config.templates import Problem, could_look_alike, is_one_line, parse

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
    assert problems(text.replace("{name: default, to", "{name: default, match: {contract: won}, to")) == [
        "2:44: route `default`: no contract `won`; did you mean `own`?"
    ]


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
    ("{}", ["5:5: `path` is missing in frontends.own", "5:5: `response` is missing in frontends.own"]),
    ("path: /own\nresponse: {}", ["6:15: `token` is missing in frontends.own.response"]),
    ("path: []\nresponse: {token: $text}", ["5:11: frontends.own.path must be at least 1 long"]),
    (
        "path: own\nresponse: {token: $text}",
        [
            "5:11: frontends.own.path: `own` is no path: begin with a slash, and use letters, digits and `-._~!$&'()*+,;=:@` between slashes. It is compared letter by letter with what clients send",
        ],
    ),
    *(
        (f"path: [/fine, {path}]\nresponse: {{token: $text}}", [f"5:19: frontends.own.path[1]: `{shown}` is no path"])
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
        ["5:11: frontends.own.path: /chat is served by the contract `chat`; choose another path"],
    ),
    (
        "path: /v1/models/mine\nresponse: {token: $text}",
        ["5:11: frontends.own.path: /v1/models/mine is served by the contract `openai`; choose another path"],
    ),
    (
        "path: /status\nresponse: {token: $text}",
        ["5:11: frontends.own.path: /status is a page for operators; choose another path"],
    ),
    (
        "path: [/own, /own]\nresponse: {token: $text}",
        ["5:18: frontends.own.path[1]: /own is declared twice here; choose another path"],
    ),
    (
        "path: /own\nrespons: {token: $text}",
        [
            "5:5: `response` is missing in frontends.own",
            "6:5: unknown key `respons` in frontends.own; did you mean `response`?",
        ],
    ),
    (
        "path: /own\nresponse: {token: $text}\nheaders: {Content-Type: text/plain, X-A: a, x-a: b, Access-Control-Allow-Origin: x}",
        [
            "7:15: frontends.own.headers.Content-Type: this header is the proxy's own; write `content_type` under `response`",
            "7:49: frontends.own.headers.x-a: this header is given twice",
            "7:57: frontends.own.headers.Access-Control-Allow-Origin: this header is the proxy's own; write `cors` under `server`",
        ],
    ),
    (
        'path: /own\nresponse: {token: $text}\nheaders: {X-A: "a\\r\\nX-B: c", "X B": c, X-É: d}',
        [
            "7:15: frontends.own.headers.X-A: a header is a name and a value of printable ASCII on one line",
            "7:35: frontends.own.headers.X B: a header is a name and a value of printable ASCII on one line",
            "7:45: frontends.own.headers.X-É: a header is a name and a value of printable ASCII on one line",
        ],
    ),
    (
        "path: /own\nresponse: {token: $text}\nerrors: {status: {upstream_timout: 500, 6xx: 500, invalid_api_key: 200, 5xx: 302}}",
        [
            "7:23: frontends.own.errors.status.upstream_timout: `upstream_timout` is no code, status or class; did you mean `upstream_timeout`?",
            "7:45: frontends.own.errors.status.6xx: `6xx` is no code, status or class; did you mean `5xx`?",
            "7:55: frontends.own.errors.status.invalid_api_key: a request without a valid key is a 401, whatever the contract",
            "7:82: frontends.own.errors.status.5xx: the status of a failure is 200, or one from 400 to 599",
        ],
    ),
    (
        "path: /own\nresponse: {token: $text}\nerrors: {body: {detail: $mesage}}",
        ["7:29: frontends.own.errors.body.detail: unknown placeholder `$mesage`; did you mean `$message`?"],
    ),
    (
        "path: /own\nresponse: {token: $text}\nerrors: {status: {5xx: 200}, body: {text: $message}}",
        [
            "7:40: frontends.own.errors.body: with status 200 it could not be told from `whole`: both may be the same text"
        ],
    ),
    (
        "path: /own\nresponse: {token: $text}\nwhole: {done: true}",
        ["7:12: frontends.own.whole: it has no `$text`, so the answer would be lost"],
    ),
    (
        "path: /own\nresponse: {token: $text}\nwhole: {text: $text, calls: $tool_calls}",
        ["7:12: frontends.own.whole: `$tool_calls` needs a `response.tool_call` that is written as JSON"],
    ),
    (
        "path: /own\nresponse: {token: $text}\nwhole:",
        ["7:11: frontends.own.whole: the template is missing; write one, or remove the key"],
    ),
]


@pytest.mark.parametrize(("declaration", "told"), PLACES, ids=lambda value: repr(value)[:60])
def test_a_mistake_in_a_declaration_is_reported_with_its_place(problems, declaration, told):
    got = problems(with_own(declaration))
    assert len(got) == len(told), got
    for message, beginning in zip(got, told, strict=True):
        assert message.startswith(beginning)


REQUESTS = [
    ("{messages: 5}", ['6:25: frontends.own.request.messages takes text, not a number; quote it: "5"']),
    ("{messages: []}", ["6:25: frontends.own.request.messages must be at least 1 long"]),
    ("{mesages: m}", ["6:15: unknown key `mesages` in frontends.own.request; did you mean `messages`?"]),
    (
        "{content: [text, a..b]}",
        [
            "6:31: frontends.own.request.content[1]: `a..b` is no field: write its name, or a path such as `input.question`"
        ],
    ),
    ('{prompt: ""}', ["6:23: frontends.own.request.prompt: `` is no field: write its name, or a path"]),
    ("{model: $model}", ["6:22: frontends.own.request.model: `$model` is no field: name one of the request's body"]),
    (
        "{user: $accept}",
        [
            "6:21: frontends.own.request.user: `$accept` is no field: name one of the request's body (only `stream` may be `$accept`)"
        ],
    ),
    ("{stream: $acept}", ["6:23: frontends.own.request.stream: `$acept` is no field"]),
    (
        "{roles: {ai: asistant}}",
        ["6:27: frontends.own.request.roles.ai: `asistant` is not one of its values; did you mean `assistant`?"],
    ),
    (
        "{parameters: {temprature: t, max_tokens: a.}}",
        [
            "6:28: frontends.own.request.parameters.temprature: `temprature` is no parameter; did you mean `temperature`?",
            "6:55: frontends.own.request.parameters.max_tokens: `a.` is no field: write its name",
        ],
    ),
    ("{metadata: {tenant: .t}}", ["6:34: frontends.own.request.metadata.tenant: `.t` is no field: write its name"]),
    (
        "{tools: tools}",
        ["6:15: frontends.own.request.tools: tools are read, but `response` has no `tool_call` template for calls"],
    ),
    (
        "{defaults: {sistem: x, temperature: hot, model: 3, stream: yep, temperatur: 1}}",
        [
            "6:26: frontends.own.request.defaults.sistem: `sistem` has no default; did you mean `system`?",
            "6:50: frontends.own.request.defaults.temperature: `temperature` takes a number",
            "6:62: frontends.own.request.defaults.model: takes text",
            "6:73: frontends.own.request.defaults.stream: takes true or false",
            "6:78: frontends.own.request.defaults.temperatur: `temperatur` has no default; did you mean `temperature`?",
        ],
    ),
]


@pytest.mark.parametrize(("request_", "told"), REQUESTS)
def test_a_mistake_about_requests_is_reported_with_its_place(problems, request_, told):
    got = problems(with_own(f"path: /own\nrequest: {request_}\nresponse: {{token: $text}}"))
    assert len(got) == len(told), got
    for message, beginning in zip(got, told, strict=True):
        assert message.startswith(beginning)


RESPONSES = [
    (
        "token: {text: $txt}",
        ["7:21: frontends.own.response.token.text: unknown placeholder `$txt`; did you mean `$text`?"],
    ),
    (
        "token: {a: [$text, {b: $answer}]}",
        [
            "7:30: frontends.own.response.token.a[1].b: unknown placeholder `$answer`; there is: $created, $id, $model, $text"
        ],
    ),
    ('token: "say $text to $whom"', ["7:14: frontends.own.response.token: unknown placeholder `$whom`; there is:"]),
    (
        "token: {text: $text, of: $request}",
        [
            "7:32: frontends.own.response.token.of: `$request` needs a field: `$request.conversation_id` repeats that one"
        ],
    ),
    (
        "token: {text: hello}",
        ["7:14: frontends.own.response.token: it has no `$text`, so the answer would be lost"],
    ),
    (
        "token: 5",
        ["7:14: frontends.own.response.token: a template is a mapping, a list or text, such as {text: $text}"],
    ),
    ("token:", ["7:13: frontends.own.response.token: the template is missing; write one, or remove the key"]),
    (
        "tokn: $text",
        ["7:7: `token` is missing", "7:7: unknown key `tokn` in frontends.own.response; did you mean `token`?"],
    ),
    ("framing: xml\ntoken: $text", ["7:16: frontends.own.response.framing: `xml` is not one of its values"]),
    ("token: $text\ncontent_type: html", ["8:21: frontends.own.response.content_type: write a content type as"]),
    (
        'token: $text\ncontent_type: "a/b\\nX: y"',
        ["8:21: frontends.own.response.content_type: write a content type as"],
    ),
    # events
    (
        "token: $text\nevents: {tokens: x}",
        ["8:16: frontends.own.response.events.tokens: `tokens` is no template; did you mean `token`?"],
    ),
    (
        "token: $text\nevents: {done: end}",
        ["8:16: frontends.own.response.events.done: there is no template `done` to name"],
    ),
    (
        'token: $text\nevents: {token: "a\\nb"}',
        ["8:23: frontends.own.response.events.token: an event's name is printable ASCII"],
    ),
    (
        'token: $text\nevents: {token: " a"}',
        ["8:23: frontends.own.response.events.token: an event's name is printable ASCII"],
    ),
    (
        'framing: ndjson\ntoken: {t: $text}\nevents: {token: a}\ndata_prefix: "data:"',
        [
            "9:7: frontends.own.response.events: this needs `framing: sse`",
            "10:7: frontends.own.response.data_prefix: this needs `framing: sse`",
        ],
    ),
    (
        "token: {t: $text}\nbare_text: text",
        ["8:7: frontends.own.response.bare_text: this needs `token: $text`"],
    ),
    (
        "token: $text\nbare_text: both\nevents: {token: t}",
        ["9:23: frontends.own.response.events.token: the chat hook ignores events with a name"],
    ),
    # framings
    (
        "framing: raw\ntoken: {t: $text}",
        [
            "8:14: frontends.own.response.token: in `raw` a template is text, such as `$text`; for JSON choose `framing: ndjson`"
        ],
    ),
    (
        "framing: raw\ntoken: $text\ndone: END\nstart: Hi",
        [
            "9:7: frontends.own.response.done: `raw` is the bare text and has no place for `done`; its end is the end of the body",
            "10:7: frontends.own.response.start: `raw` is the bare text and has no place for `start`",
        ],
    ),
    (
        "framing: ndjson\ntoken: $text",
        ["8:14: frontends.own.response.token: a line end in it would end the frame: in `ndjson` write a mapping"],
    ),
    (
        "framing: ndjson\ntoken: $text.json\nerror: '3:$code'",
        ["9:14: frontends.own.response.error: a line end in it would end the frame: in `ndjson` write a mapping"],
    ),
    # ends
    (
        "token: $text\ncut_on_error: false",
        [
            "8:21: frontends.own.response.cut_on_error: an answer that broke off would look complete; write a template `error`"
        ],
    ),
    (
        "framing: raw\ntoken: $text\nerror: $message\ncut_on_error: false",
        [
            "10:21: frontends.own.response.cut_on_error: an answer that broke off would look complete; `raw` has no other sign of it"
        ],
    ),
    (
        "token: {text: $text}\nerror: {text: $message}",
        [
            "8:14: frontends.own.response.error: it could not be told from `token`: both may be the same text; give it a shape of its own, or an event name under `events`",
        ],
    ),
    (
        "token: {text: $text}\ndone: {text: END}",
        ["8:13: frontends.own.response.done: it could not be told from `token`"],
    ),
    ("token: $text\ndone: END", ["8:13: frontends.own.response.done: it could not be told from `token`"]),
    ("token: $text\ndone: {done: true}", ["8:13: frontends.own.response.done: it could not be told from `token`"]),
    ("token: $text\nerror: $message", ["8:14: frontends.own.response.error: it could not be told from `token`"]),
    (
        "token: {t: $text}\ndone: {e: x}\nerror: {e: $code}",
        ["9:14: frontends.own.response.error: it could not be told from `done`"],
    ),
    (
        "token: {t: $text}\ndone: {d: 1}\nheartbeat: {d: 1}",
        ["8:13: frontends.own.response.done: it could not be told from `heartbeat`"],
    ),
    (
        "framing: ndjson\ntoken: {t: $text}\ndone: {t: $finish_reason}",
        [
            "9:13: frontends.own.response.done: it could not be told from `token`: both may be the same text; give it a shape of its own"
        ],
    ),
    (
        "token: $text\ndone: END\nevents: {token: message}",
        ["8:13: frontends.own.response.done: it could not be told from `token`"],
    ),
]


@pytest.mark.parametrize(("text", "told"), RESPONSES)
def test_a_mistake_about_answers_is_reported_with_its_place(problems, text, told):
    got = problems(with_response(text))
    assert len(got) == len(told), got
    for message, beginning in zip(got, told, strict=True):
        assert message.startswith(beginning)


def test_names_of_contracts_are_names_and_their_own(problems):
    text = HEAD.replace("  own:\n", "") + (
        "  chat: {path: /a, response: {token: $text}}\n"
        "  a/b: {path: /b, response: {token: $text}}\n"
        "  c: {path: /a, response: {token: $text}}\n"
        "  d: [path]\n"
    )
    assert problems(text) == [
        "4:3: frontends.chat: there is a contract `chat` already, built in; choose another name",
        "5:3: frontends.a/b: a name is up to 64 letters, digits, '-', '_' and '.', and starts with a letter or digit",
        "6:13: frontends.c.path: /a is declared by `chat` above; choose another path",
        "7:6: frontends.d takes a mapping, not a list",
    ]


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
    assert parse({"a": ["$nope", {"b": "x $nah"}]}, "start")[1] == [
        Problem(("a", 0), "unknown placeholder `$nope`; there is: $created, $id, $model"),
        Problem(("a", 1, "b"), "unknown placeholder `$nah`; there is: $created, $id, $model"),
    ]


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
