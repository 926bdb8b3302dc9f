"""What this machine can answer with, without a config: local model servers that run, and keys that are set.

`servers` asks the usual ports, `vendors` looks for the usual variables, and `compose` writes the config: what
`chat-proxy init` puts into a file, and what `chat-proxy` serves where there is none.
"""
