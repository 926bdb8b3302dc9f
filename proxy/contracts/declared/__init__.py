"""Contracts that the config declares."""
