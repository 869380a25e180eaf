#!/usr/bin/env bash
# Has hosts no longer load a plugin; its library stays:
#
#   scripts/deactivate_plugin.sh NAME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --quiet --package echo-core-cli -- plugin deactivate "$@"
