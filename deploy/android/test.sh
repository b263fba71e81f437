#!/usr/bin/env bash
# Tests the Kotlin sources on this computer's JVM, without Android: bash deploy/android/test.sh [python]
# Needs the packages kotlin, junit4, libandroid-json-java and libjna-java of Debian or Ubuntu.
set -euo pipefail
python=$(realpath --no-symlinks "$(command -v "${1:-python3}")")
cd "$(dirname "$0")"
jars=/usr/share/java
for needed in kotlin:kotlin-stdlib junit4:junit4 libandroid-json-java:com.android.json libjna-java:jna; do
  if [ ! -e "$jars/${needed#*:}.jar" ]; then
    echo "The Kotlin tests need ${needed%:*}: apt-get install ${needed%:*}. Received: no $jars/${needed#*:}.jar" >&2
    exit 1
  fi
done

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
"$python" goldens.py "$build/goldens"
libraries=$jars/com.android.json.jar:$jars/junit4.jar:$jars/hamcrest.jar:$jars/jna.jar
source=app/src/main/java/kerasehrnet
kotlinc -nowarn -cp "$libraries" "$source/Poses.kt" "$source/Assignment.kt" "$source/Tracker.kt" app/src/test/java \
  -d "$build/classes"
litert=$("$python" -c 'import ai_edge_litert, pathlib; print(pathlib.Path(ai_edge_litert.__file__).with_name("libLiteRt.so"))')
java -Dgoldens="$build/goldens" -Dlitert="$litert" -cp "$build/classes:$libraries:$jars/kotlin-stdlib.jar" \
  org.junit.runner.JUnitCore kerasehrnet.PosesTest kerasehrnet.InferenceTest
