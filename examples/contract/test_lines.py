import json

from proxy.errors import ProxyError
from proxy.events import Fault, Finish, TextDelta
from proxy.testing.contract import ContractCase, ContractConformance

EVENTS = {"say": TextDelta, "end": Finish, "error": lambda message: Fault(ProxyError(message))}


def read(pieces):
    lines = b"".join(pieces).split(b"\n")
    return [EVENTS[key](value) for line in lines if line for key, value in json.loads(line).items()]


class TestLines(ContractConformance):
    contract = ContractCase(
        "lines", b'{"question": "Hm?", "temperature": 0.5}', read, seen=lambda answer: answer.but(usage=None)
    )
