/* ---- from sums to levels ----------------------------------------------------------------------- */

/* Sums of a row on their way to the grid. */
NN_INLINE NN_fixed_t NN_scaled(const NN_conv_t *conv, const float *multiplier, NN_fixed_t addend,
                                   const int32_t *sum, size_t side, int sides, int again) {
  NN_fixed_t result = NN_product(sum[0], multiplier[0]);
  if (sides == 2) {
    result = NN_sum(result, NN_product(sum[side], multiplier[1]));
  }
  result = NN_sum(result, addend);
  if (again) {
    result = NN_product(NN_level(result, conv->low, conv->high), conv->again);
  }
  return result;
}

/* The sums of a shortcut, which wait for those of the convolution. */
NN_APART static void NN_values(const NN_conv_t *conv, size_t channel, size_t count, const NN_work_t *work) {
  const float *multiplier = conv->multiplier + channel * conv->sides;
  const NN_fixed_t addend = NN_whole(conv->addend[channel]);
  size_t j;
  for (j = 0; j < count; j++) {
    work->value[j] =
        NN_scaled(conv, multiplier, addend, work->sum + j, work->side, conv->sides, conv->again != 0.0f);
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
  const int sides = usual ? 1 : conv->sides, again = usual ? 0 : conv->again != 0.0f;
  const int32_t zero = layer->output.zero, added_zero = row.level != NULL ? layer->added->zero : 0;
  const int32_t low = usual ? -zero : layer->low, high = usual ? 255 - zero : layer->high;
  const size_t added_stride = layer->added_stride;
  const float scale = layer->scale;
  const float multiplier[2] = {conv->multiplier[channel * conv->sides],
                               sides == 2 ? conv->multiplier[channel * conv->sides + 1u] : 0.0f};
  const NN_fixed_t addend = NN_whole(conv->addend[channel]);
  const int32_t *const end = row.sum + count;
  while (row.sum != end) {
    NN_fixed_t x = NN_scaled(conv, multiplier, addend, row.sum, side, sides, again);
    row.sum++;
    if (row.value != NULL) {
      x = NN_sum(x, *row.value++);
    }
    if (row.level != NULL) {
      x = NN_sum(x, NN_product((int32_t)*row.level - added_zero, scale));
      row.level += added_stride;
    }
    *row.out++ = usual ? NN_byte(x, zero) : (uint8_t)(NN_level(x, low, high) + zero);
  }
}

/* The levels of `rows` rows from row y on of an output channel. */
NN_APART static void NN_levels(const NN_layer_t *layer, size_t c, size_t y, size_t rows, const NN_work_t *work,
                               uint8_t *arena) {
  const NN_tensor_t *out = &layer->output, *added = layer->added;
  const int adds = added != NULL && c >= layer->before && c - layer->before < added->channels;
  const int usual = layer->conv.sides == 1u && layer->conv.again == 0.0f && layer->low == -(int32_t)out->zero &&
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
