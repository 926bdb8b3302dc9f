"""Drivers: what answers requests."""
