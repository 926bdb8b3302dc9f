"""Backends that speak OpenAI Chat Completions: OpenAI, Azure and compatible servers."""
