#!/bin/sh
# Build of a Node.js function: installs the dependencies of the code in the working directory.
set -eu

export npm_config_cache="${npm_config_cache:-${HOME:-/tmp}/.npm}"
export npm_config_update_notifier=false

if [ ! -f package.json ]; then
    echo "No package.json: nothing to install"
    exit 0
fi

# --install-links: a `file:` dependency becomes a copy, as links may not leave the code
options="--omit=dev --no-audit --no-fund --install-links"
if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then
    echo "Installing the dependencies of the lock file: npm ci"
    # shellcheck disable=SC2086
    npm ci $options
else
    echo "Installing the dependencies of package.json: npm install"
    # shellcheck disable=SC2086
    npm install $options
fi

# links to programs, which install scripts needed until here and functions don't
if [ -d node_modules ]; then
    find node_modules -type d -name .bin -prune -exec rm -rf {} +
fi
