"""Answers that can be resumed: their logs, and where to find them."""
