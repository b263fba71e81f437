#!/usr/bin/env bash
# Packs the app without the Android SDK, as a test: compiled, turned into Android's bytecode, packed, signed and verified.
#   bash deploy/android/pack.sh [folder] [python]
# It compiles against stubs/ in place of Android, CameraX and LiteRT, which are not inside: no phone can run what comes out.
# Needs the packages aapt, apksigner, zipalign, android-framework-res, default-jdk-headless, kotlin and
# libandroid-json-java of Debian or Ubuntu, and D8: D8=JAR names R8's jar or one that contains it, else the bundletool in
# the Python package mobsf is taken (100 MB).
set -euo pipefail
folder=$(realpath -m "${1:-$(mktemp -d)}")
python=$(realpath --no-symlinks "$(command -v "${2:-python3}")")
cd "$(dirname "$0")"
jars=/usr/share/java
framework=/usr/share/android-framework-res/framework-res.apk
for needed in aapt:/usr/bin/aapt apksigner:/usr/bin/apksigner zipalign:/usr/bin/zipalign android-framework-res:$framework \
  default-jdk-headless:/usr/bin/javac kotlin:$jars/kotlin-stdlib-jdk7.jar libandroid-json-java:$jars/com.android.json.jar; do
  if [ ! -e "${needed#*:}" ]; then
    echo "Packing needs ${needed%%:*}: apt-get install ${needed%%:*}. Received: no ${needed#*:}" >&2
    exit 1
  fi
done
mkdir -p "$folder"
d8=${D8:-$folder/d8.jar}
if [ ! -e "$d8" ]; then
  "$python" -m pip download --quiet --no-deps --dest "$folder" 'mobsf==4.4.0'
  "$python" - "$folder"/mobsf-*.whl "$d8" << 'EOF'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    (name,) = (name for name in wheel.namelist() if "/bundletool-" in name and name.endswith(".jar"))
    open(sys.argv[2], "wb").write(wheel.read(name))
EOF
fi
rm -rf "$folder"/{stubs,classes,dex,assets,*.apk}
mkdir -p "$folder"/{stubs,classes,dex,assets}

javac -nowarn -d "$folder/stubs" $(find stubs -name '*.java')
libraries=$jars/com.android.json.jar:$jars/kotlin-stdlib.jar:$jars/kotlin-stdlib-jdk7.jar
kotlinc -nowarn -jvm-target 1.8 -cp "$folder/stubs:$libraries" app/src/main/java -d "$folder/classes"
(cd "$folder" && jar cf stubs.jar -C stubs . && jar cf classes.jar -C classes .)
# What it says of the metadata in Debian's library of Kotlin concerns reflection alone.
java -cp "$d8" com.android.tools.r8.D8 --release --min-api 26 --output "$folder/dex" \
  --lib "$folder/stubs.jar" --lib "$(dirname "$(dirname "$(realpath "$(command -v java)")")")" \
  "$folder/classes.jar" $jars/kotlin-stdlib.jar $jars/kotlin-stdlib-jdk7.jar > "$folder/d8.log" 2>&1 \
  || { tail -20 "$folder/d8.log" >&2; exit 1; }

cp ../../keras_ehrnet/weights/packaged/*.tflite "$folder/assets"
# Gradle puts the name of the package into the manifest; here it is done by hand.
sed 's/<manifest /<manifest package="kerasehrnet.poses" /' app/src/main/AndroidManifest.xml > "$folder/AndroidManifest.xml"
aapt package -f -M "$folder/AndroidManifest.xml" -I "$framework" -A "$folder/assets" -0 tflite \
  --min-sdk-version 26 --target-sdk-version 29 --version-code 1 --version-name 1.0 -F "$folder/bare.apk"
(cd "$folder/dex" && aapt add "$folder/bare.apk" classes.dex > /dev/null)
zipalign -f -p 4 "$folder/bare.apk" "$folder/poses.apk"
if [ ! -e "$folder/key.jks" ]; then
  keytool -genkeypair -keystore "$folder/key.jks" -storepass packing -alias test -dname CN=test -keyalg RSA -validity 2 \
    2> /dev/null
fi
apksigner sign --ks "$folder/key.jks" --ks-pass pass:packing --min-sdk-version 26 "$folder/poses.apk"

apksigner verify --min-sdk-version 26 "$folder/poses.apk"
zipalign -c -p 4 "$folder/poses.apk"
about=$(aapt dump badging "$folder/poses.apk")
for line in "package: name='kerasehrnet.poses'" "launchable-activity: name='kerasehrnet.MainActivity'" \
  "uses-permission: name='android.permission.CAMERA'" "sdkVersion:'26'"; do
  grep -qF "$line" <<< "$about" || { echo "The packed app does not say $line" >&2; exit 1; }
done
"$python" - "$folder/poses.apk" "$folder/classes" << 'EOF'
"""Every class of the sources is in the app's bytecode, and the networks lie there uncompressed, to be mapped."""
import sys
import zipfile
from pathlib import Path

with zipfile.ZipFile(sys.argv[1]) as app:
    bytecode = app.read("classes.dex")
    networks = [entry for entry in app.infolist() if entry.filename.endswith(".tflite")]
assert bytecode[:4] == b"dex\n", "classes.dex is Android's bytecode"
names = [path.relative_to(sys.argv[2]).with_suffix("") for path in Path(sys.argv[2]).rglob("*.class")]
missing = [name for name in names if f"L{name};".encode() not in bytecode]
assert names and not missing, f"Classes that are not in the app: {missing}"
assert networks and all(entry.compress_type == zipfile.ZIP_STORED for entry in networks), "networks are stored"
print(f"Packed, signed and verified: {len(names)} classes, {len(bytecode)} bytes of bytecode, {len(networks)} networks")
EOF
