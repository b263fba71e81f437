#!/usr/bin/env bash
# Tests the Kotlin sources on this computer's JVM, without Android: bash deploy/android/test.sh [python]
# Needs the packages that compile.sh names.
set -euo pipefail
python=$(realpath --no-symlinks "$(command -v "${1:-python3}")")
cd "$(dirname "$0")"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
classpath=$(bash compile.sh "$build/classes")
"$python" goldens.py "$build/goldens"
litert=$("$python" -c 'import ai_edge_litert, pathlib; print(pathlib.Path(ai_edge_litert.__file__).with_name("libLiteRt.so"))')
java -Dgoldens="$build/goldens" -Dlitert="$litert" -cp "$classpath" \
  org.junit.runner.JUnitCore kerasehrnet.PosesTest kerasehrnet.FinderTest kerasehrnet.InferenceTest
