#!/usr/bin/env bash
# Builds a plugin of plugins/workshop into plugins/libraries:
#
#   scripts/build_plugin.sh NAME [--profile development|production]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo run --quiet --package echo-core-cli -- plugin build "$@"
