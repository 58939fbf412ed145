#!/bin/sh
# Starts appfn's agent, which takes the code. Without `site`: nothing is installed for it, and it starts sooner.
export PYTHONPATH=/usr/local/src/agent
exec python3 -P -S -m appfn agent serve
