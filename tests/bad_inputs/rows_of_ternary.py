"""Rows: the paper's quantizers where they cannot work."""

from rows import Row

ARGUMENT = "--config={digits}:all_schemes,preset=paper"
SENTENCE = (
  "scheme C at 8A,3W starts from trained weights, of which WRPN's grid to 1 rounds about 95.4% to "
  "zero in the "
  "widest layers of resnet8: set config.quantization.wrpn_scale=max"
)
ROWS = [
  Row(
    "the paper's grid for trained weights",
    f"train {ARGUMENT},scheme=C,precision=8A3W --workdir={{run}}",
    SENTENCE + ".",
  ),
  Row(
    "a study of the paper's grid for trained weights",
    f"study {ARGUMENT},precision=8A3W --workdir={{run}}",
    SENTENCE + ", or leave the scheme out of config.study.cells.",
  ),
]
