"""The agent: the part of appfn inside runtime pods and build Jobs, on the standard library alone.

`serve` takes code into a runtime pod, `fetch` and `upload` stand before and after a build command. Every subcommand
imports only what it needs, as a runtime pod waits for it to start. Values that `serve` knows are NamedTuples: to import
`dataclasses`, and to make a few, takes a third of its start.
"""
