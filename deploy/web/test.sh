#!/usr/bin/env bash
# The page in Debian's chromium, beside Python: test.sh PYTHON. Needs node, npm and chromium.
set -euo pipefail
python=$(realpath -s "$1")
export KERAS_EHRNET_REFERENCE=$(realpath -m "${KERAS_EHRNET_REFERENCE:-../shared}")
cd "$(dirname "$0")"
npm install --no-audit --no-fund --no-package-lock --silent
folder=${2:-$(mktemp -d)}
PYTHONPATH=../.. "$python" expected.py "$folder"
node test.mjs "$folder"
echo "The page as it looked: $folder/page.png"
