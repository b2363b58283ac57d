"""What accelerators could do at best."""

import re

# Dense peaks, floating-point operations a second, of (bfloat16 inputs with float32 sums, TF32), by
# a part of the device's name; a card that is not here has no share of peak. NVIDIA's data sheets
# and architecture white papers: H100 and H200
# https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet, A100 "NVIDIA A100
# Tensor Core GPU" (data sheet, 2021), L4 and L40S their data sheets, RTX 4090 "Ada GPU
# architecture" (appendix A). Where these give numbers with sparsity, half of them.
PEAKS = {
  "H100 PCIe": (756e12, 378e12),
  "H100": (989e12, 494e12),
  "H200": (989e12, 494e12),
  "A100": (312e12, 156e12),
  "L40S": (362e12, 183e12),
  "L4": (121e12, 60e12),
  "RTX 4090": (165e12, 83e12),
}


def peak(kind: str, dtype: str) -> float | None:
  """Floating-point operations a second that a device of this name reaches at best, or None if that
  is not known.

  Args:
    kind: such as "NVIDIA H100 80GB HBM3".
    dtype: "bfloat16", or "float32", whose products are TF32 on these cards.
  """
  for name, (bfloat16, tf32) in PEAKS.items():
    if re.search(rf"\b{name}\b", kind):
      return bfloat16 if dtype == "bfloat16" else tf32
  return None
