"""The fields of a client's body that an upstream never gets, because they would redirect the request."""

from collections.abc import Mapping
from typing import Any

_NEVER_ANYWHERE = frozenset({
    # The destination and the key, as the SDKs of OpenAI and litellm and the gateways built on them name them.
    "api_base", "api_key", "api_type", "api_version", "base_url", "custom_llm_provider", "default_headers",
    "deployment_id", "extra_body", "extra_headers", "extra_query", "http_client", "ssl_verify",
    # A model other than the authorised one.
    "context_window_fallback_dict", "fallback_models", "fallbacks", "model_list", "router_settings",
    # A made-up answer, other receivers, checks to skip.
    "callbacks", "failure_callback", "guardrails", "mock_delay", "mock_response", "mock_timeout", "mock_tool_calls",
    "no-log", "proxy_server_request", "secret_fields", "success_callback", "user_config",
})  # fmt: skip

NEVER_FORWARDED = _NEVER_ANYWHERE | {
    # The same in common words, which may be something else inside of an object such as `metadata`.
    "base_model", "cache", "caching", "client", "custom_logger", "endpoint", "engine", "headers", "logger_fn",
    "max_retries", "models", "num_retries", "organization", "project", "proxy", "route", "shared_session", "timeout",
}  # fmt: skip
"""Fields of a client's body that no upstream is sent."""

NEVER_PREFIXES = ("litellm_", "aws_", "azure_", "vertex_", "watsonx_", "langfuse_", "langsmith_", "user_api_key")
"""Prefixes of more such fields: credentials, and destinations of a gateway's logs."""


def without_destinations(wire: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a client's body that may be sent. Gateways read `metadata` too, so it is filtered as well."""
    fields = _without(wire, NEVER_FORWARDED)
    metadata = fields.get("metadata")
    if isinstance(metadata, dict):
        fields["metadata"] = _without(metadata, _NEVER_ANYWHERE)
    return fields


def _without(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names and not name.startswith(NEVER_PREFIXES)}
