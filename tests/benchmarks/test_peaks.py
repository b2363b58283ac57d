"""The peaks of accelerators, by a part of their names."""

import peaks
import pytest


@pytest.mark.parametrize(
  "kind, dtype, peak",
  [
    ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
    ("NVIDIA H100 PCIe", "float32", 378e12),
    ("NVIDIA A100-SXM4-80GB", "float32", 156e12),
    ("NVIDIA L40S", "bfloat16", 362e12),
    ("NVIDIA L4", "bfloat16", 121e12),
    ("NVIDIA L40", "bfloat16", None),
    ("cpu", "float32", None),
  ],
)
def test_peaks_by_name(kind, dtype, peak):
  assert peaks.peak(kind, dtype) == peak
