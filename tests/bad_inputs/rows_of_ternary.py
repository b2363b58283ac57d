"""Rows: the paper's quantizers where they cannot work."""

from rows import Row

ARGUMENT = "--config={digits}:preset=paper"
ROWS = [
    Row("the paper's grid for trained weights", f"train {ARGUMENT},scheme=C,precision=8A4W --workdir={{run}}",
        "scheme C at 8A,4W starts from trained weights, which WRPN's grid to 1 rounds to zero: set "
        "config.quantization.wrpn_scale=max."),
    Row("a study of the paper's grid for trained weights", f"study {ARGUMENT} --workdir={{run}}",
        "scheme C at 8A,4W starts from trained weights, which WRPN's grid to 1 rounds to zero: set "
        "config.quantization.wrpn_scale=max, or leave the scheme out of config.study.cells."),
]
