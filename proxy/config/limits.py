"""How much may be used: `limits:` of keys, users, routes and backends, and the store that counts."""

import re
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from proxy.config.base import Model, setting

Count = Annotated[int, Field(gt=0, le=10**12)]


class UsageLimits(Model):
    """How much may be used, together, of all that these limits are for."""

    requests_per_minute: Count | None = setting(
        None, "Requests: so many at once, after which one more fits every 60/N seconds."
    )
    tokens_per_minute: Count | None = setting(
        None, "Tokens of requests and answers. What an answer may take is reserved, and what it took is counted."
    )
    parallel: Count | None = setting(None, "Requests that are being answered at the same time.")
    max_output_tokens: Count | None = setting(
        None, "Longest answer: requests for more, or for any length, are sent on with this one."
    )
    on_outage: Literal["allow", "deny", "local"] = setting(
        "local",
        "While the store cannot be reached: `allow` everything, `deny` everything, or let each process count "
        "for itself (`local`).",
    )
    local_share: float = setting(
        1.0,
        "With `on_outage: local`: the part of each limit that one process admits, such as 0.5 for two replicas.",
        gt=0,
        le=1,
    )

    def over(self, base: "UsageLimits | None") -> Self:
        """These limits where they are given, else those of `base`. `null` is no limit."""
        given = self.model_fields_set
        known = type(base).model_fields.keys() & type(self).model_fields.keys() if base else ()
        return self.model_copy(update={name: getattr(base, name) for name in known if name not in given})


class KeyLimits(UsageLimits):
    """How much one key may use."""

    per_user: UsageLimits | None = setting(
        None, "How much each `user` that the key's requests name may use, besides the key's limits."
    )

    def over(self, base: UsageLimits | None) -> Self:
        limits = super().over(base)
        own, theirs = self.per_user, getattr(base, "per_user", None)
        return limits.model_copy(update={"per_user": own.over(theirs)}) if own else limits


class TargetLimits(UsageLimits):
    """How much a backend may be asked for, as its vendor's own quota: beyond it, other targets are tried."""

    per_model: UsageLimits | None = setting(
        None, "How much each model of the backend may be asked for, besides the backend's limits."
    )
    wait_s: float = setting(
        1.0,
        "Where there is room again within this time, a request waits for it before the next target is tried.",
        ge=0,
        le=60,
    )


def _is_whole(address: str) -> bool:
    """Whether each part of the address of a Redis is one: a password with `/`, `#` or `?` in it ends too early."""
    try:
        parts = urlsplit(address)
        return parts.port != 0 and not parts.fragment and re.fullmatch(r"/?[0-9]*", parts.path) is not None
    except ValueError:
        return False


def _store(value: Any) -> Any:
    if value == "memory":
        return None
    if not isinstance(value, str) or not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a store is `memory`, or an address such as `redis://localhost:6379/0` or `rediss://…`")
    if not value.startswith("unix://") and not _is_whole(value):  # what is wrong may be a part of the password
        raise ValueError(
            "a Redis store is `redis://USER:PASSWORD@HOST:PORT/NUMBER`; in a password write `/` as `%2F`, `#` as `%23`, "
            "`?` as `%3F`, `@` as `%40` and `%` as `%25`"
        )
    if find_spec("redis") is None:
        raise ValueError(
            "a Redis store needs the package redis, which is not installed: pip install 'chat-proxy[redis]'"
        )
    return value


StoreAddress = Annotated[SecretStr | None, BeforeValidator(_store, json_schema_input_type=str)]


def passwords_of(address: str) -> list[str]:
    """The password in a store's address, as it is written there and as it is sent, to be masked where it stands alone."""
    password = urlsplit(address).password
    return list({password, unquote(password)}) if password else []
