// Pictures as rows of red, green, blue and opacity, upright: of a PNG by png.js, of anything else
// by the browser's decoder.

const STRIP = 64; // rows that are handed over at a time: a phone's canvas cannot hold a large photo

/** Why there is no answer, as a clause for people. */
class Refused extends Error {}

/** A picture: rows(y, count) gives a Uint8Array of RGBA. */
class Picture {
  constructor(width, height, rows) {
    Object.assign(this, {width, height, rows});
  }
}

/**
 * Decodes a file.
 * @param {Blob} file
 * @returns {Promise<Picture>}
 * @throws {Refused} the network cannot see it as `apprentice predict` does.
 */
async function readPicture(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (String.fromCharCode(...bytes.subarray(1, 4)) === "PNG") {
    const {width, height, rgba} = await decodePng(bytes);
    return new Picture(width, height, (y, count) => rgba.subarray(4 * width * y, 4 * width * (y + count)));
  }
  if (isCmyk(bytes)) throw new Refused("its colours are inks (CMYK): save it as RGB");
  return fromBitmap(await createImageBitmap(file, {colorSpaceConversion: "none", premultiplyAlpha: "none"}));
}

/** The picture of an ImageBitmap, which may not have transparent parts. */
function fromBitmap(bitmap) {
  const {width, height} = bitmap, canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = Math.min(STRIP, height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingEnabled = false;
  context.globalCompositeOperation = "copy";
  return new Picture(width, height, (y, count) => {
    context.drawImage(bitmap, 0, y, width, count, 0, 0, width, count);
    const rgba = context.getImageData(0, 0, width, count).data;
    // A canvas multiplies colours by their opacity, so they would not be the file's.
    for (let i = 3; i < rgba.length; i += 4) {
      if (rgba[i] !== 255) throw new Refused("it has transparent parts: save it as PNG, or without them");
    }
    return rgba;
  });
}

/** Whether a file is a JPEG of four inks. */
function isCmyk(bytes) {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return false;
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    // Frames of all kinds, but tables (C4, CC) and an extension (C8) lie between their markers.
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return bytes[at + 9] === 4;
    at += marker === 0xff ? 1 : 2 + 256 * bytes[at + 2] + bytes[at + 3];
  }
  return false;
}
