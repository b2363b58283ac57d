"""Which files are pictures."""

import io
import struct
import sys
import types

import numpy as np
import pytest
from pictures import noise, save
from PIL import Image, features

from apprentice_jax.data import formats, images
from apprentice_jax.errors import UnreadableImage


@pytest.fixture(autouse=True)
def forgotten():
  """Which packages there are is asked anew."""
  formats.lacking.cache_clear()
  yield
  formats.lacking.cache_clear()


def ftyp(*brands):
  """The first box of a HEIC or AVIF file: its major brand, version, and compatible brands."""
  body = brands[0] + bytes(4) + b"".join(brands[1:])
  return struct.pack(">I", len(body) + 8) + b"ftyp" + body


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_names_of_pictures(suffix, tmp_path):
  # Such a file is not opened: it need not be there.
  assert formats.why_not(tmp_path / f"a{suffix}") == formats.why_not(f"b.c{suffix.upper()}") == ""


def test_pillow_opens_every_suffix():
  registered = Image.registered_extensions()
  assert {s for s in formats.SUFFIXES if registered.get(s) not in Image.OPEN} <= {".mpo"}


WRITTEN = [
  name
  for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000", "AVIF", "QOI", "DDS")
  if name != "AVIF" or features.check("avif")
]


@pytest.mark.parametrize("name", ["photo", "photo.jpg_large", "photo.jpg.1", "photo.txt"])
@pytest.mark.parametrize("file_format", WRITTEN)
def test_content_decides_where_the_name_does_not(file_format, name, tmp_path):
  path = tmp_path / name
  path.write_bytes(save(noise(8, 8), file_format))
  assert formats.why_not(path) == ""
  assert images.pixels(images.inspect(path.read_bytes())).shape == (8, 8, 3)


def test_other_kinds_of_a_format(tmp_path):
  for encoded in (
    save(noise(8, 8, 0), "PPM"),
    save(noise(8, 8, 0) > 99, "PPM"),
    b"P3\n#made by hand\n1 1\n255\n1 2 3\n",
    save(noise(8, 8), "TIFF", big_tiff=True),
    save(noise(8, 8), "JPEG2000", no_jp2=True),
  ):
    (tmp_path / "x").write_bytes(encoded)
    assert formats.why_not(tmp_path / "x") == ""
    images.pixels(images.inspect(encoded))


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"P",
    b"P5",
    b"P5 is a road.",
    b"BMW and others, which make cars of all kinds",
    b"text",
    b"\xff\xd8",
    b"RIFF\0\0\0\0WAVEfmt ",
    b"%PDF-1.7",
    b"PK\3\4",
    bytes(100),
    ftyp(b"isom", b"mp41"),
    ftyp(b"qt  "),
  ],
  ids=range(13),
)
def test_other_files(content, tmp_path):
  (tmp_path / "x.dat").write_bytes(content)
  assert formats.why_not(tmp_path / "x.dat") == formats.OTHER


def test_hidden_files_folders_and_files_that_are_not_there(tmp_path):
  (tmp_path / "._a.jpg").write_bytes(save(noise(8, 8)))
  assert formats.why_not(tmp_path / "._a.jpg") == formats.HIDDEN
  assert formats.why_not(tmp_path / "b") == "it cannot be opened (No such file or directory)"
  assert formats.why_not(tmp_path) == "it cannot be opened (Is a directory)"


def test_raw_photos_are_not_read_by_their_preview(tmp_path):
  (tmp_path / "a.NEF").write_bytes(save(noise(8, 8), "TIFF"))
  assert formats.why_not(tmp_path / "a.NEF") == formats.RAW


HEIC = [
  ftyp(b"heic", b"mif1", b"heic"),
  ftyp(b"mif1", b"heic", b"miaf"),
  ftyp(b"heix"),
  ftyp(b"mif1"),
]
AVIF = [ftyp(b"avif", b"mif1"), ftyp(b"mif1", b"miaf", b"avif")]


@pytest.mark.parametrize("begins", HEIC, ids=range(len(HEIC)))
def test_heic_says_what_to_do(begins, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "pillow_heif", None)
  monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
  encoded = begins + bytes(100)
  (tmp_path / "a.dat").write_bytes(encoded)
  assert formats.why_not(tmp_path / "a.dat") == formats.why_not("b.HEIC") == formats.HEIC
  with pytest.raises(UnreadableImage) as raised:  # And by whatever name.
    images.inspect(encoded)
  assert str(raised.value) == formats.HEIC


@pytest.mark.parametrize("begins", AVIF, ids=range(len(AVIF)))
def test_avif_where_this_pillow_cannot(begins, tmp_path, monkeypatch):
  monkeypatch.setattr(Image, "registered_extensions", lambda: {".png": "PNG"})
  encoded = begins + bytes(100)
  (tmp_path / "a.dat").write_bytes(encoded)
  assert formats.why_not(tmp_path / "a.dat") == formats.why_not("b.avif") == formats.AVIF
  with pytest.raises(UnreadableImage) as raised:
    images.inspect(encoded)
  assert str(raised.value) == formats.AVIF


def test_heic_is_read_where_its_package_is_installed(monkeypatch):
  # A stand-in for pillow-heif, whose opener takes any HEIC for a PNG behind its first box.
  expected = noise(5, 7)

  class Stub(types.ModuleType):
    @staticmethod
    def register_heif_opener():
      Image.register_open(
        "STUB",
        lambda file, name: Image.open(io.BytesIO(file.read()[len(HEIC[0]) :])),
        lambda prefix: prefix[4:12] == b"ftypheic",
      )

  monkeypatch.setitem(sys.modules, "pillow_heif", Stub("pillow_heif"))
  monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: name)
  Image.init()
  (
    monkeypatch.setattr(Image, "ID", list(Image.ID)),
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN)),
  )
  assert formats.why_not("a.heic") == ""
  encoded = HEIC[0] + save(expected, "PNG")
  np.testing.assert_array_equal(images.pixels(images.inspect(encoded)), expected)
