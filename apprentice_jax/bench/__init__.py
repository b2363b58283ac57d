"""Measurements of one's own speed, behind `apprentice bench`."""

# What took the place of `apprentice bench --what=NAME`.
MOVED = {
  "torch": "python benchmarks/beside_torch.py --config=...",
  "input": "python benchmarks/beside_tf_data.py --data_dir=...",
  "quantization": "python benchmarks/quantization.py --config=...",
}
