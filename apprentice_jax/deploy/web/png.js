// PNG files, decoded here and not by the browser: a browser multiplies colours by their opacity,
// converts them to the screen's colour space, and some add noise. `apprentice predict` does not.

// Samples a pixel, by the colour type: grey, RGB, palette, grey and opacity, RGB and opacity.
const SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4};
// (x, y, step of x, step of y) of what an interlaced file has one after the other.
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const DARK =
  "its 16-bit values use no more than 12 bits and would come out black: stretch them to 0..65535";

/**
 * Decodes a PNG as Pillow does: opacity is dropped, and of 16 bits the upper eight count.
 * @param {Uint8Array} bytes the file; of an animated one, the first picture is decoded.
 * @returns {Promise<{width: number, height: number, rgba: Uint8Array}>} upright.
 */
async function decodePng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = [];
  let palette = new Uint8Array(0), orientation = 1;
  for (let at = 8; at + 8 <= bytes.length; at += 12 + view.getUint32(at)) {
    const body = bytes.subarray(at + 8, at + 8 + view.getUint32(at));
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "PLTE") palette = body;
    if (type === "IDAT") parts.push(body);
    if (type === "eXIf") orientation = exifOrientation(body);
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const file = {
    width: view.getUint32(16),
    height: view.getUint32(20),
    depth: bytes[24],
    colour: bytes[25],
    palette,
    passes: bytes[28] ? PASSES : [[0, 0, 1, 1]],
  };
  return pngPixels(file, raw, orientation);
}

/** Puts the rows of a PNG's inflated data where they belong. */
function pngPixels(file, raw, orientation) {
  const {width, height, depth, colour, palette} = file, samples = SAMPLES[colour];
  const turned = orientation >= 5, out = turned ? [height, width] : [width, height];
  const rgba = new Uint8Array(4 * width * height).fill(255);
  // A pixel's place is base + x * across + y * down, whatever the orientation.
  const flipX = [2, 3, 7, 8].includes(orientation), flipY = [3, 4, 6, 7].includes(orientation);
  const across = 4 * (turned ? out[0] : 1) * (flipX ? -1 : 1);
  const down = 4 * (turned ? 1 : out[0]) * (flipY ? -1 : 1);
  const base = (flipX ? -across * (width - 1) : 0) + (flipY ? -down * (height - 1) : 0);
  // Of fewer than eight bits, the largest value is white; a palette's are places in it.
  const scale = colour === 3 || depth >= 8 ? 1 : 255 / ((1 << depth) - 1);
  const step = Math.max(depth / 8, 1), colours = colour === 2 || colour === 6 ? 3 : 1;
  let at = 0, largest = 0;
  for (const [left, top, stepX, stepY] of file.passes) {
    const columns = Math.ceil((width - left) / stepX), rows = Math.ceil((height - top) / stepY);
    const bytes = Math.ceil((columns * samples * depth) / 8);
    let above = new Uint8Array(bytes);
    for (let r = 0; columns > 0 && r < rows; r++, at += bytes + 1) {
      const row = raw.subarray(at + 1, at + 1 + bytes);
      if (row.length < bytes) throw new Refused("it ends too early");
      unfilter(raw[at], row, above, Math.max((samples * depth) / 8, 1));
      above = row;
      for (let c = 0; c < columns; c++) {
        const to = base + (left + c * stepX) * across + (top + r * stepY) * down;
        for (let k = 0; k < 3; k++) {
          const sample = c * samples + (colours === 3 ? k : 0), place = sample * step;
          let value = row[place];
          if (depth < 8) {
            const bit = sample * depth;
            value = ((row[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1)) * scale;
          } else if (depth === 16) {
            largest = Math.max(largest, 256 * value + row[place + 1]);
          }
          rgba[to + k] = colour === 3 ? palette[3 * value + k] : value;
        }
      }
    }
  }
  if (largest > 0 && largest < 4096) throw new Refused(DARK);
  return {width: out[0], height: out[1], rgba};
}

/** Undoes the filter of a row, in place; `size`: bytes of a pixel. */
function unfilter(filter, row, above, size) {
  for (let i = 0; i < row.length; i++) {
    const a = i < size ? 0 : row[i - size], b = above[i], c = i < size ? 0 : above[i - size];
    if (filter === 1) row[i] += a;
    else if (filter === 2) row[i] += b;
    else if (filter === 3) row[i] += (a + b) >> 1;
    else if (filter === 4) {
      const p = Math.abs(b - c), q = Math.abs(a - c), s = Math.abs(a + b - 2 * c);
      row[i] += p <= q && p <= s ? a : q <= s ? b : c;
    }
  }
}

/** The orientation in EXIF data, 1 to 8; 1 where it says none. */
function exifOrientation(exif) {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength), little = exif[0] === 0x49;
  try {
    const start = view.getUint32(4, little);
    for (let i = 0; i < view.getUint16(start, little); i++) {
      const entry = start + 2 + 12 * i;
      if (view.getUint16(entry, little) === 0x0112) {
        const value = view.getUint16(entry + 8, little);
        return value >= 1 && value <= 8 ? value : 1;
      }
    }
  } catch {
    // Damaged EXIF is no reason to give up the picture.
  }
  return 1;
}
