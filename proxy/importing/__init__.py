"""Configs of other gateways, read and written as configs of this proxy."""
