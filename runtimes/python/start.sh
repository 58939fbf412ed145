#!/bin/sh
# Starts the server, which waits for the code by itself.
cd /usr/local/src
exec python3 -u -m appfn_runtime
