/* ---- from sums to levels ----------------------------------------------------------------------- */

/* What turns the sums of an output channel into fixed numbers. */
typedef struct {
  NN_factor_t multiplier[2], again;
  NN_fixed_t addend;
  int32_t low, high; /* of the branch's own grid */
} NN_scale_t;

NN_INLINE NN_scale_t NN_scale(const NN_conv_t *conv, size_t channel, int sides) {
  const float *multiplier = conv->multiplier + channel * conv->sides;
  NN_scale_t scale;
  scale.multiplier[0] = NN_factor(multiplier[0]);
  scale.multiplier[1] = NN_factor(sides == 2 ? multiplier[1] : 0.0f);
  scale.again = NN_factor(conv->again);
  scale.addend = NN_whole(conv->addend[channel]);
  scale.low = conv->low;
  scale.high = conv->high;
  return scale;
}

NN_INLINE NN_fixed_t NN_scaled(const NN_scale_t *scale, const int32_t *sum, size_t side, int sides, int again) {
  NN_fixed_t result = NN_product(sum[0], scale->multiplier[0]);
  if (sides == 2) {
    result = NN_sum(result, NN_product(sum[side], scale->multiplier[1]));
  }
  result = NN_sum(result, scale->addend);
  if (again) {
    result = NN_product(NN_level(result, scale->low, scale->high), scale->again);
  }
  return result;
}

#ifdef NN_HELIUM
/* Four products; see NN_product. */
NN_INLINE float32x4_t NN_four(int32x4_t sum, float multiplier) {
  return vmulq_n_f32(vrndnq_f32(vmulq_n_f32(vcvtq_f32_s32(sum), multiplier)), 1.0f / 1048576.0f);
}
#endif

/* The sums of a shortcut, which wait for those of the convolution. */
NN_APART static void NN_values(const NN_conv_t *conv, size_t channel, size_t count, const NN_work_t *work) {
  const NN_scale_t scale = NN_scale(conv, channel, conv->sides);
  const int32_t *sum = work->sum, *const end = sum + count;
  NN_fixed_t *value = work->value;
  if (conv->sides == 1u && !conv->own) {
#ifdef NN_HELIUM
    for (; end - sum > 3; sum += 4, value += 4) {
      vst1q_f32(value, vaddq_n_f32(NN_four(vld1q_s32(sum), scale.multiplier[0]), scale.addend));
    }
#endif
    while (sum != end) {
      *value++ = NN_scaled(&scale, sum++, 0, 1, 0);
    }
    return;
  }
  while (sum != end) {
    *value++ = NN_scaled(&scale, sum++, work->side, conv->sides, conv->own);
  }
}

typedef struct {
  const int32_t *sum;
  const NN_fixed_t *value; /* of the shortcut, or NULL */
  const uint8_t *level;    /* that is added, or NULL */
  uint8_t *out;
} NN_row_t;

/* Levels of `count` sums. `usual`: one multiplier, no grid of the branch's own, and a grid of all bytes. */
NN_INLINE void NN_finish(const NN_layer_t *layer, size_t channel, size_t side, NN_row_t row, size_t count,
                         int usual) {
  const NN_conv_t *conv = &layer->conv;
  const int sides = usual ? 1 : conv->sides, own = usual ? 0 : conv->own;
  const int32_t zero = layer->output.zero, added_zero = row.level != NULL ? layer->added->zero : 0;
  const int32_t low = usual ? -zero : layer->low, high = usual ? 255 - zero : layer->high;
  const size_t added_stride = layer->added_stride;
  const NN_factor_t added_scale = NN_factor(layer->scale);
  const NN_scale_t scale = NN_scale(conv, channel, sides);
  size_t j = 0;
#ifdef NN_HELIUM
  for (; usual && j + 3u < count && (row.level == NULL || added_stride == 1u); j += 4) {
    float32x4_t x = vaddq_n_f32(NN_four(vld1q_s32(row.sum + j), scale.multiplier[0]), scale.addend);
    int32x4_t level;
    if (row.value != NULL) {
      x = vaddq_f32(x, vld1q_f32(row.value + j));
    }
    if (row.level != NULL) {
      level = vsubq_n_s32(vreinterpretq_s32_u32(vldrbq_u32(row.level + j)), added_zero);
      x = vaddq_f32(x, NN_four(level, added_scale));
    }
    level = vaddq_n_s32(vcvtnq_s32_f32(x), zero);
    level = vminq_s32(vmaxq_s32(level, vdupq_n_s32(0)), vdupq_n_s32(255));
    vstrbq_s32((int8_t *)row.out + j, level);
  }
#endif
  for (; j < count; j++) {
    NN_fixed_t x = NN_scaled(&scale, row.sum + j, side, sides, own);
    if (row.value != NULL) {
      x = NN_sum(x, row.value[j]);
    }
    if (row.level != NULL) {
      x = NN_sum(x, NN_product((int32_t)row.level[j * added_stride] - added_zero, added_scale));
    }
    row.out[j] = usual ? NN_byte(x, zero) : (uint8_t)(NN_level(x, low, high) + zero);
  }
}

/* The levels of `rows` rows from row y on of an output channel. */
NN_APART static void NN_levels(const NN_layer_t *layer, size_t c, size_t y, size_t rows, const NN_work_t *work,
                               uint8_t *arena) {
  const NN_tensor_t *out = &layer->output, *added = layer->added;
  const int adds = added != NULL && c >= layer->before && c - layer->before < added->channels;
  const int usual = layer->conv.sides == 1u && layer->conv.own == 0u && layer->low == -(int32_t)out->zero &&
                    layer->high == 255 - (int32_t)out->zero;
  /* Rows that lie side by side everywhere are one. */
  const int whole = out->width == out->pitch && !(adds && layer->added_stride != 1u);
  const size_t count = whole ? rows * out->width : out->width, side = work->side;
  size_t r;
  for (r = 0; r < rows; r += whole ? rows : 1) {
    NN_row_t row;
    row.sum = work->sum + r * out->pitch;
    row.value = layer->shortcut != NULL ? work->value + r * out->pitch : NULL;
    row.level = adds ? arena + added->start + (c - layer->before) * added->plane +
                           (y + r) * layer->added_stride * added->pitch
                     : NULL;
    row.out = arena + out->start + c * out->plane + (y + r) * out->pitch;
    if (!usual) {
      NN_finish(layer, c, side, row, count, 0);
    } else if (adds) {
      NN_finish(layer, c, side, row, count, 1);
    } else if (row.value != NULL) {
      row.level = NULL;
      NN_finish(layer, c, side, row, count, 1);
    } else {
      row.level = NULL;
      row.value = NULL;
      NN_finish(layer, c, side, row, count, 1);
    }
  }
}

/* The zeros around the levels of a layer. */
NN_APART static void NN_clear(const NN_tensor_t *t, uint8_t *arena) {
  const size_t border = (size_t)t->border * t->pitch, rest = (size_t)(t->pitch - t->width);
  uint8_t *p = arena + t->start;
  size_t c, y;
  memset(p - border, t->zero, border);
  for (c = 0; c < t->channels; c++) {
    for (y = 0; rest != 0u && y < t->height; y++) {
      memset(p + y * t->pitch + t->width, t->zero, rest);
    }
    p += t->plane;
    memset(p - border, t->zero, border);
  }
}

NN_APART static void NN_layer(const NN_layer_t *layer, uint8_t *arena, NN_work_t *work) {
  const NN_tensor_t *out = &layer->output;
  size_t c, y;
  for (c = 0; c < out->channels; c++) {
    NN_decode(&layer->conv, c, &work->lists[0]);
    if (layer->shortcut != NULL) {
      NN_decode(layer->shortcut, c, &work->lists[1]);
    }
    for (y = 0; y < out->height; y += layer->band) {
      const size_t rows = out->height - y < layer->band ? out->height - y : layer->band;
      if (layer->shortcut != NULL) {
        NN_convolve(layer->shortcut, &work->lists[1], arena, y, rows, out, work);
        NN_values(layer->shortcut, c, rows * out->pitch, work);
      }
      NN_convolve(&layer->conv, &work->lists[0], arena, y, rows, out, work);
      NN_levels(layer, c, y, rows, work, arena);
    }
  }
}
