"""The quantizers' formulas in NumPy, written from the papers and not from the code under test.

A forward function returns ``(levels, scale)`` in float32. A ``*_pullback`` returns the cotangent of
every differentiable argument, by name, in float64 (sums in particular, so that what a comparison
finds is the error of the code). Both take the arguments of the quantizer of the same name.
"""

import numpy as np

F = np.float32


def value(levels, scale):
  if isinstance(scale, tuple):
    return np.where(levels > 0, scale[0], np.where(levels < 0, -scale[1], F(0))).astype(F)
  return (levels * scale).astype(F)


def summed_to(cotangent, shape):
  """Sums a cotangent over the axes along which an argument of this shape was broadcast."""
  cotangent = np.asarray(cotangent, np.float64)
  shape_ = (1,) * (cotangent.ndim - len(shape)) + tuple(shape)
  axes = tuple(i for i, n in enumerate(shape_) if n == 1)
  return cotangent.sum(axis=axes, keepdims=True).reshape(shape)


def _max_abs(x):
  return np.max(np.abs(x))


def ste_sign(x):
  return np.where(x >= 0, F(1), F(-1)), F(1)


def ste_sign_pullback(g, x):
  return {"x": g * (np.abs(x) <= 1)}


def wrpn_weights(w, bits, scale=1.0):
  n, scale = F(2 ** (bits - 1) - 1), F(scale)
  return np.round(n * np.clip(w / scale, F(-1), F(1))), scale / n


def wrpn_weights_pullback(g, w, bits, scale=1.0):
  levels, _ = wrpn_weights(w, bits, scale)
  n = 2 ** (bits - 1) - 1
  ratio = w.astype(np.float64) / scale
  inside = np.abs(w) <= scale
  d_scale = np.where(inside, levels / n - ratio, np.sign(w))
  return {"x": g * inside, "scale": summed_to(g * d_scale, np.shape(scale))}


def wrpn_activations(x, bits):
  n = F(2**bits - 1)
  return np.round(n * np.clip(x, F(0), F(1))), F(1) / n


def wrpn_activations_pullback(g, x, bits):
  return {"x": g * ((x >= 0) & (x <= 1))}


dorefa_activations, dorefa_activations_pullback = wrpn_activations, wrpn_activations_pullback


def twn(w, threshold=0.7, axis=None):
  """With axis: the loop over groups spelled out, one index of the kept axes at a time."""
  levels, scale = np.zeros_like(w), np.zeros((), F)
  if axis is None:
    kept = ()
  else:
    kept = sorted(a % w.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    scale = np.zeros([n if a in kept else 1 for a, n in enumerate(w.shape)], F)
  for index in np.ndindex(*(w.shape[a] for a in kept)):
    group = [slice(None)] * w.ndim
    place = [0] * scale.ndim
    for a, i in zip(kept, index):
      group[a] = place[a] = i
    group, place = tuple(group), tuple(place)
    size = np.abs(w[group])
    large = size > F(threshold) * F(size.mean(dtype=np.float64))
    levels[group] = np.sign(w[group]) * large
    scale[place] = size[large].mean(dtype=np.float64) if large.any() else 0
  return levels, scale


def twn_pullback(g, w, threshold=0.7, axis=None):
  return {"x": g}


def ttq(w, positive, negative, threshold=0.05):
  delta = F(threshold) * _max_abs(w)
  return (w > delta).astype(F) - (w < -delta), (F(positive), F(negative))


def ttq_pullback(g, w, positive, negative, threshold=0.05):
  delta = F(threshold) * _max_abs(w)
  above, below = w > delta, w < -delta
  g_w = g.astype(np.float64) * np.where(above, positive, np.where(below, negative, 1.0))
  return {
    "x": g_w,
    "positive": summed_to(g * above, np.shape(positive)),
    "negative": -summed_to(g * below, np.shape(negative)),
  }


def dorefa_weights(w, bits):
  if bits == 1:
    return np.where(w >= 0, F(1), F(-1)), F(np.abs(w).mean(dtype=np.float64))
  n = F(2**bits - 1)
  x = np.tanh(w) / (2 * _max_abs(np.tanh(w))) + F(0.5)
  return 2 * np.round(n * x) - n, F(1) / n


def dorefa_weights_pullback(g, w, bits):
  """With t = tanh w, m = max|t|: (g_i - [i = argmax] sign(t_i) sum(g t) / m) / m * (1 - t_i^2)."""
  if bits == 1:
    return {"x": g}
  t = np.tanh(w.astype(np.float64))
  m = _max_abs(t)
  largest = (np.abs(t) == m) / np.sum(np.abs(t) == m)
  return {"x": (g - largest * np.sign(t) * np.sum(g * t) / m) / m * (1 - t**2)}


def pact(x, clip, bits):
  n, clip = F(2**bits - 1), F(clip)
  return np.round(np.clip(x, F(0), clip) * n / clip), clip / n


def pact_pullback(g, x, clip, bits):
  return {"x": g * ((x >= 0) & (x < clip)), "clip": summed_to(g * (x >= clip), np.shape(clip))}


def lsq_range(bits, signed=True, symmetric=False):
  if not signed:
    return 0, 2**bits - 1
  return 2 ** (bits - 1) - bool(symmetric), 2 ** (bits - 1) - 1


def lsq(x, step, bits, signed=True, symmetric=False, grad_scale=1.0):
  q_n, q_p = lsq_range(bits, signed, symmetric)
  return np.round(np.clip(x / F(step), F(-q_n), F(q_p))), F(step)


def lsq_pullback(g, x, step, bits, signed=True, symmetric=False, grad_scale=1.0):
  q_n, q_p = lsq_range(bits, signed, symmetric)
  u = x.astype(np.float64) / step
  d_step = np.where(u <= -q_n, -q_n, np.where(u >= q_p, q_p, np.round(x / F(step)) - u))
  return {
    "x": g * ((u > -q_n) & (u < q_p)),
    "step": summed_to(g * d_step, np.shape(step)) * grad_scale,
  }


def lsq_init(x, bits, signed=True, symmetric=False):
  q_p = lsq_range(bits, signed, symmetric)[1]
  return F(2 * np.abs(x).mean(dtype=np.float64) / np.sqrt(q_p))
