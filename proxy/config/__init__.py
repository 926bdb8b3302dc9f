"""The config file: YAML to checked settings, with the line of every mistake; and watching it for changes."""
