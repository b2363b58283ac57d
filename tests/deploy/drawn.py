"""Pictures of all kinds, drawn by a script."""

import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def photo(height, width, seed=0):
  """Structure at several scales, as uint8 (height, width, 3)."""
  random = np.random.default_rng(seed)
  coarse = Image.fromarray(random.integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), np.uint8))
  fine = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
  return (fine + random.integers(-12, 13, fine.shape)).clip(0, 255).astype(np.uint8)


def turned(orientation):
  """EXIF data with this orientation."""
  exif = Image.Exif()
  exif[ORIENTATION] = orientation
  return exif


def png(pixels, interlaced=False) -> bytes:
  """A PNG file of uint8 or uint16 (height, width, 1 to 4 channels), which Pillow does not write."""
  height, width, channels = pixels.shape
  passes = [(0, 0, 1, 1)]
  if interlaced:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    passes += [(0, 1, 1, 2)]
  rows = b""
  for left, top, across, down in passes:
    part = pixels[top::down, left::across]
    if not part.size:
      continue
    lines = part.astype(pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(len(part), -1)
    for i, (line, above) in enumerate(zip(lines, [0 * lines[0], *lines])):
      rows += bytes([i % 5]) + _filtered(i % 5, line, above, channels * pixels.itemsize)
  colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
  depth = 8 * pixels.dtype.itemsize
  header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
  chunk = lambda kind, data: (
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
  )
  parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
  return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _filtered(kind, line, above, size) -> bytes:
  """A row after one of PNG's five filters; ``size``: bytes of a pixel."""
  before = lambda row: np.concatenate([np.zeros(size, int), row[:-size].astype(int)])[: len(row)]
  left, up, corner = before(line), above.astype(int), before(above)
  far = np.abs(left + up - corner - np.stack([left, up, corner]))
  nearest = np.choose(np.argmin(far, 0), [left, up, corner])
  predicted = [0 * up, left, up, (left + up) // 2, nearest][kind]
  return (line - predicted).astype(np.uint8).tobytes()


def pngs(folder):
  """PNG files of many sizes and kinds."""
  folder.mkdir()
  for height, width in [(32, 32), (33, 32), (40, 64), (300, 201), (97, 640), (1, 1), (20, 31)]:
    Image.fromarray(photo(height, width)).save(folder / f"{height}x{width}.png")
  image = Image.fromarray(photo(70, 90, 1))
  for mode in ("1", "L", "P", "LA", "RGBA"):
    image.convert(mode).save(folder / f"mode{mode}.png")
  opacity = Image.fromarray(np.arange(70 * 90).reshape(70, 90).astype(np.uint8))
  clear = image.copy()
  clear.putalpha(opacity)
  clear.save(folder / "clear.png")
  image.quantize(16).save(folder / "palette4.png", bits=4)
  image.quantize(4).save(folder / "palette2.png", bits=2)
  image.save(folder / "profile.png", icc_profile=_profile())
  for orientation in range(2, 9):
    image.save(folder / f"turned{orientation}.png", exif=turned(orientation))
  deep = photo(70, 90, 2).astype(np.uint16) * 257
  for channels, pixels in {
    1: deep[..., :1],
    2: deep[..., :2],
    3: deep,
    4: np.concatenate([deep, deep[..., :1]], -1),
  }.items():
    (folder / f"deep{channels}.png").write_bytes(png(pixels))
  (folder / "interlaced.png").write_bytes(png(photo(37, 45, 3), interlaced=True))
  (folder / "interlaced_tiny.png").write_bytes(png(photo(2, 3, 3), interlaced=True))
  frames = [Image.fromarray(photo(40, 50, seed)) for seed in (4, 5)]
  frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:])
  return sorted(folder.iterdir())


def _profile():
  """A colour profile that is not sRGB's."""
  from PIL import ImageCms

  return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def jpegs(folder):
  """JPEG files of many sizes, samplings and orientations."""
  folder.mkdir()
  sizes = [(32, 32), (79, 90), (159, 240), (333, 255), (701, 523), (1100, 1500)]
  for i, (height, width) in enumerate(sizes):
    Image.fromarray(photo(height, width, i)).save(
      folder / f"{height}x{width}.jpg", quality=90, subsampling=i % 3, progressive=i % 2 == 0
    )
  for orientation in range(1, 9):
    image = Image.fromarray(photo(171, 233, orientation))
    image.save(folder / f"turned{orientation}.jpg", exif=turned(orientation), quality=90)
  Image.fromarray(photo(190, 170)).convert("L").save(folder / "grey.jpg", quality=90)
  return sorted(folder.iterdir())
