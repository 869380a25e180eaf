#!/usr/bin/env bash
# Has hosts load a plugin that was built:
#
#   scripts/activate_plugin.sh NAME [development|production]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --quiet --package echo-core-cli -- plugin activate "$@"
