"""Tells pictures from other files: by name, and by the first bytes where the name does not tell."""

import functools
import importlib.util
import os

from PIL import Image

# Those of photos and renderings that Pillow opens, none of icons, documents or measurements.
SUFFIXES = tuple(
  ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .avifs .gif .bmp .dib .tif .tiff .ppm .pgm "
  ".pbm .pnm .jp2 .j2k .jpx .jpf .jpc .j2c .tga .qoi .pcx .sgi .psd .dds".split()
)

HEIC = "it is a HEIC photo: convert it to JPEG, or pip install pillow-heif"
AVIF = "it is an AVIF image: convert it to PNG, or pip install -U pillow (11.3 or newer)"
RAW = "it is a camera's raw photo: convert it to JPEG"
HIDDEN = "its name begins with a dot"
OTHER = "neither its name nor its content is that of a readable picture format"

_HEIC_SUFFIXES = (".heic", ".heif", ".heics", ".heifs", ".hif")
# Most raw photos are TIFF files, whose first image is a preview of the size of a stamp.
_RAW_SUFFIXES = tuple(
  ".dng .nef .nrw .cr2 .cr3 .crw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .3fr .iiq .dcr .kdc .erf "
  ".mef .mos .rwl .x3f".split()
)
_SIGNATURES = (
  b"\xff\xd8\xff",
  b"\x89PNG\r\n\x1a\n",
  b"GIF87a",
  b"GIF89a",
  b"II*\0",
  b"MM\0*",
  b"II+\0",
  b"MM\0+",
  b"\0\0\0\x0cjP  \r\n\x87\n",
  b"\xff\x4f\xff\x51",
  b"qoif",
  b"8BPS",
  b"DDS ",
)
_BRANDS = {
  **dict.fromkeys((b"avif", b"avis"), "AVIF"),
  **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}
_FIRST = 64  # bytes: enough for every signature


def why_not(path: str | os.PathLike[str]) -> str:
  """Why a file is not read as a picture.

  A name that ends in one of SUFFIXES is a picture's, whatever the case of its letters. The first
  bytes of any other file decide.

  Args:
    path: of the file.

  Returns:
    "" for a picture, which may still be damaged. Otherwise one clause, the same for all files of a
    kind.
  """
  # By name, for as long as it tells: opening a million files takes minutes.
  name = os.path.basename(os.fspath(path)).lower()
  if name.startswith("."):
    return HIDDEN
  if name.endswith((".avif", ".avifs")):
    return lacking("AVIF")
  if name.endswith(SUFFIXES):
    return ""
  if name.endswith(_HEIC_SUFFIXES):
    return lacking("HEIC")
  if name.endswith(_RAW_SUFFIXES):
    return RAW
  # Photos saved from the web often have no suffix, or a query's.
  try:
    with open(path, "rb") as file:
      first = file.read(_FIRST)
  except OSError as error:
    return f"it cannot be opened ({error.strerror})"
  if kind := container(first):
    return lacking(kind)
  return "" if _is_picture(first) else OTHER


def container(first: bytes) -> str:
  """Returns "HEIC" or "AVIF" where a file begins as one of them does, else ""."""
  if first[4:8] != b"ftyp":
    return ""
  # Behind the major brand and its version stand the compatible ones; "mif1" says less than any.
  size = max(16, min(int.from_bytes(first[:4], "big"), _FIRST))
  brands = [first[8:12], *(first[i : i + 4] for i in range(16, size, 4))]
  kinds = {_BRANDS.get(brand, "") for brand in brands}
  return "AVIF" if "AVIF" in kinds else "HEIC" if "HEIC" in kinds else ""


@functools.cache
def lacking(kind: str) -> str:
  """Advice on a picture of a kind that cannot be read; "" where it can be.

  Args:
    kind: "HEIC" or "AVIF". HEIC is read where pillow-heif is installed.
  """
  if kind == "AVIF":
    return "" if ".avif" in Image.registered_extensions() else AVIF
  if importlib.util.find_spec("pillow_heif") is None:
    return HEIC
  import pillow_heif  # an optional package

  pillow_heif.register_heif_opener()
  return ""


def _is_picture(first: bytes) -> bool:
  if first.startswith(_SIGNATURES) or first[:4] == b"RIFF" and first[8:12] == b"WEBP":
    return True
  # Two letters are no signature: a bitmap's reserved bytes are 0, and a PNM's size follows a blank.
  if first[:2] == b"BM":
    return len(first) >= 26 and first[6:10] == bytes(4)
  return (
    first[:1] == b"P"
    and first[1:2] in b"123456"
    and first[2:3] in b" \t\r\n"
    and (first[3:4].isdigit() or first[3:4] == b"#")
  )
