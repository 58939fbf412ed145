#!/bin/sh
# Build of a Python function: installs the dependencies of the code in the working directory.
set -eu

target=.appfn/site-packages

if [ -f requirements.txt ]; then
    echo "Installing the packages of requirements.txt"
    python3 -m pip install --target "$target" --requirement requirements.txt \
        --no-compile --no-cache-dir --no-input --progress-bar off --disable-pip-version-check --root-user-action=ignore
else
    echo "No requirements.txt: nothing to install"
fi

# Compiled here, as a pod's copy is read-only and every cold start would compile it anew; by hash, as times don't
# survive packing. A syntax error shows when the function is called, not here.
python3 -m compileall -q --invalidation-mode unchecked-hash . >/dev/null 2>&1 || true
