"""The settings: YAML with marks in, checked values out; and reload."""
