#!/bin/sh
# Starts the server, which waits for the code by itself.
export NODE_ENV="${NODE_ENV:-production}"
exec node /usr/local/src/src/server.cjs
