// What exported files say about themselves: JSON in a zip archive behind a .tflite, or in the properties of an .onnx.

const OF_US = "export it with keras_ehrnet, with decode='poses'";
const text = new TextDecoder();

/** The metadata of a model, and what runs it. Throws a sentence for what is no such file. */
export function readMetadata(bytes) {
  if (bytes.length < 8) throw new Error(`The model file is empty or cut short: ${OF_US}. Received: ${bytes.length} bytes`);
  const isLite = text.decode(bytes.subarray(4, 8)) === "TFL3";
  const found = isLite ? fromArchive(bytes) : fromProperties(bytes);
  if (!found) throw new Error(`The model does not say how its outputs become people, or its end is missing: ${OF_US}`);
  const metadata = JSON.parse(found);
  if (metadata.decode !== "poses")
    throw new Error(`The model gives ${metadata.decode === "none" ? "maps" : metadata.decode}: ${OF_US}`);
  return { metadata, runtime: isLite ? "litert" : "onnxruntime" };
}

/** The text of `metadata.json` in a zip archive behind other data, or null. */
function fromArchive(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= Math.max(0, bytes.length - 65557) && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) return null;
  // Archives behind other data count from the beginning of the file or of themselves; the directory's size tells.
  let entry = end - view.getUint32(end + 12, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (entry < 0 || view.getUint32(entry, true) !== 0x02014b50) return null;
    const [method, size] = [view.getUint16(entry + 10, true), view.getUint32(entry + 20, true)];
    const [name, extra, comment] = [28, 30, 32].map((place) => view.getUint16(entry + place, true));
    if (method === 0 && text.decode(bytes.subarray(entry + 46, entry + 46 + name)) === "metadata.json") {
      const local = view.getUint32(entry + 42, true);
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return text.decode(bytes.subarray(start, start + size));
    }
    entry += 46 + name + extra + comment;
  }
  return null;
}

const PROPERTIES = 14; // Of ONNX's ModelProto; each is a message of a key (1) and a value (2).

/** The value of the property `keras_ehrnet`, or null. */
function fromProperties(bytes) {
  for (const [number, content] of fields(bytes)) {
    if (number !== PROPERTIES) continue;
    const property = new Map(fields(content));
    if (property.has(1) && text.decode(property.get(1)) === "keras_ehrnet") return text.decode(property.get(2));
  }
  return null;
}

/** Pairs of number and bytes of the fields of a protocol buffer that have a length; null ends what is none. */
function fields(bytes) {
  const found = [];
  let place = 0;
  const varint = () => {
    let [value, factor] = [0, 1];
    for (; place < bytes.length; factor *= 128) {
      value += (bytes[place] & 127) * factor;
      if (!(bytes[place++] & 128)) return value;
    }
    return NaN;
  };
  while (place < bytes.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind === 0) varint();
    else if (kind === 1) place += 8;
    else if (kind === 5) place += 4;
    else if (kind === 2) {
      const length = varint();
      if (!(place + length <= bytes.length)) return [];
      found.push([Math.floor(tag / 8), bytes.subarray(place, place + length)]);
      place += length;
    } else return [];
  }
  return found;
}
