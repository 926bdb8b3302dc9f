"""A foreign YAML file: its values, the line of each, and what of it is not carried over."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import yaml

from proxy.config.source import looks_secret
from proxy.errors import ConfigError, ConfigErrors

Path = tuple[str | int, ...]

ENVIRON = "os.environ/"
_SECRET_TEXT = re.compile(r"(sk|pk|gsk|xai|hf|key)[-_][A-Za-z0-9_-]{8,}|Bearer |Basic ")
_USER_IN_URL = re.compile(r"://[^/@\s]*@")


class Left(msgspec.Struct, frozen=True):
    """A part of the file that is not carried over, and why. `routes`: requests would be answered by others than before."""

    line: int
    name: str
    why: str
    routes: bool = False

    @property
    def comment(self) -> str:
        """What the result says about it."""
        return f"not carried over: {self.name} (line {self.line}): {self.why}"


class Source:
    """The file, as it is converted. `variables` are those that the result needs, each with what it holds."""

    def __init__(self, text: str, file: str, taken: Collection[str] = ()) -> None:
        """`taken` are variables that hold something else already. Raises `ConfigErrors` for what is no YAML or no mapping."""
        self._taken, self.file = taken, file
        self.left: list[Left] = []
        self.variables: dict[str, str] = {}
        self.referred_to: set[str] = set()  # variables that the file reads, or LiteLLM by itself
        self._literals: dict[str, str] = {}  # variable by the secret that the file holds
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise self.error(
                f"this is no YAML: {getattr(error, 'problem', error)}", mark.line + 1 if mark else 1
            ) from None
        if not isinstance(self.data, dict):
            raise self.error("this file is no config of LiteLLM: it must be a mapping with `model_list:`", 1)
        self._lines: dict[Path, int] = {}
        self._note(root, ())

    def error(self, message: str, line: int) -> ConfigErrors:
        return ConfigErrors([ConfigError(message, file=self.file, line=line, column=1)])

    def line(self, path: Path) -> int:
        """The line of a part, or of what it is in."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def leave(self, path: Path, why: str, *, routes: bool = False) -> str:
        """Note that a part is not carried over; returns the comment that says so."""
        left = Left(self.line(path), ".".join(str(step) for step in path if type(step) is str), why, routes)
        self.left.append(left)
        return left.comment

    def text(self, value: Any, *, name: str, variable: str, holds: str = "text") -> str:
        """A text of the result: `${VARIABLE}` for a variable and for what looks like a secret, else the text itself.

        `name` is the setting's, `variable` the one for a secret that the file holds itself.
        """
        text = str(value)
        if text.startswith(ENVIRON):
            variable = text.removeprefix(ENVIRON)
            self.variables.setdefault(variable, holds)
            self.referred_to.add(variable)
            return f"${{{variable}}}"
        if looks_secret(name) or holds == "key" or _SECRET_TEXT.search(text) or _USER_IN_URL.search(text):
            return f"${{{self._variable(text, variable)}}}"
        return escaped(text)

    def number(self, value: Any, path: Path, *, routes: bool = False) -> float | None:
        """A number, which may be written as text. What is none, such as a variable's name, is noted."""
        if value is None or isinstance(value, (bool, int, float)):
            return None if isinstance(value, bool) else value
        try:
            found = float(value)
        except (TypeError, ValueError):
            self.leave(path, "a number is written out here", routes=routes)
            return None
        return int(found) if found.is_integer() else found

    def _variable(self, secret: str, wanted: str) -> str:
        """The variable for a secret that the file holds itself. Another secret gets another one."""
        if secret not in self._literals:
            variable, number = wanted, 1
            while variable in self._taken or variable in self._literals.values():
                number += 1
                variable = f"{wanted}_{number}"
            self._literals[secret] = variable
            self.variables[variable] = "key"
        return self._literals[secret]

    @property
    def was_literal(self) -> list[str]:
        """Variables for secrets that the file holds itself."""
        return list(self._literals.values())

    def _note(self, node: yaml.Node | None, path: Path) -> None:
        if node is None:
            return
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._lines[(*path, key.value)] = key.start_mark.line + 1
                self._note(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._note(item, (*path, number))


def escaped(text: str) -> str:
    """A text that means itself in a config of ours, where `${` begins a variable."""
    return text.replace("$$", "$$$$").replace("${", "$${")


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, or an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}
