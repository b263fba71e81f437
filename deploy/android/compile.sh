#!/usr/bin/env bash
# Compiles the tests, and what of the sources has no Android in it, for this computer's JVM: bash compile.sh FOLDER.
# Prints the class path. Needs the packages kotlin, junit4, libandroid-json-java and libjna-java of Debian or Ubuntu.
set -euo pipefail
folder=$(realpath -m "$1")
cd "$(dirname "$0")"
jars=/usr/share/java
for needed in kotlin:kotlin-stdlib junit4:junit4 libandroid-json-java:com.android.json libjna-java:jna; do
  if [ ! -e "$jars/${needed#*:}.jar" ]; then
    echo "The Kotlin tests need ${needed%:*}: apt-get install ${needed%:*}. Received: no $jars/${needed#*:}.jar" >&2
    exit 1
  fi
done
libraries=$jars/com.android.json.jar:$jars/junit4.jar:$jars/hamcrest.jar:$jars/jna.jar
source=app/src/main/java/kerasehrnet
kotlinc -nowarn -cp "$libraries" "$source"/{Assignment,Finder,Letterbox,Poses,Tracker}.kt app/src/test/java \
  -d "$folder" >&2
echo "$folder:$libraries:$jars/kotlin-stdlib.jar"
