/* ---- convolutions ------------------------------------------------------------------------------
 * Sixteen outputs of a channel at a time: eight from p and eight from q on. */

typedef struct {
  int32_t sum[2][16]; /* of both sides for trained ternary, else of the first */
} NN_tile_t;

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && !defined(NN_PORTABLE)
/* Two sums of 16 bits in a register: UXTAB16 adds bytes 0 and 2 of a word, or bytes 1 and 3. */
typedef struct {
  uint32_t a, b, c, d, e, f, g, h;
} NN_run_t;

static inline uint32_t NN_word(const uint8_t *p) {
  uint32_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

#define NN_EVEN(sums, word) __asm__("uxtab16 %0, %0, %1" : "+r"(sums) : "r"(word))
#define NN_ODD(sums, word) __asm__("uxtab16 %0, %0, %1, ror #8" : "+r"(sums) : "r"(word))
#define NN_NEGATE(sums) __asm__("ssub16 %0, %1, %0" : "+r"(sums) : "r"(0))

#define NN_RUN_NEGATE(run) \
  NN_NEGATE(run.a); \
  NN_NEGATE(run.b); \
  NN_NEGATE(run.c); \
  NN_NEGATE(run.d); \
  NN_NEGATE(run.e); \
  NN_NEGATE(run.f); \
  NN_NEGATE(run.g); \
  NN_NEGATE(run.h)

#define NN_PAIRS(even, odd, p) \
  word = NN_word(p); \
  NN_EVEN(even, word); \
  NN_ODD(odd, word)

#define NN_RUN_ADD_1(run, p, apart) \
  do { \
    uint32_t word; \
    const uint8_t *at = (p); \
    NN_PAIRS(run.a, run.b, at); \
    NN_PAIRS(run.c, run.d, at + 4); \
    at += apart; \
    NN_PAIRS(run.e, run.f, at); \
    NN_PAIRS(run.g, run.h, at + 4); \
  } while (0)

#define NN_RUN_ADD_2(run, p, apart) \
  do { \
    const uint8_t *at = (p); \
    NN_EVEN(run.a, NN_word(at)); \
    NN_EVEN(run.b, NN_word(at + 4)); \
    NN_EVEN(run.c, NN_word(at + 8)); \
    NN_EVEN(run.d, NN_word(at + 12)); \
    at += apart; \
    NN_EVEN(run.e, NN_word(at)); \
    NN_EVEN(run.f, NN_word(at + 4)); \
    NN_EVEN(run.g, NN_word(at + 8)); \
    NN_EVEN(run.h, NN_word(at + 12)); \
  } while (0)

#define NN_TWO(sum, factor, i, j, pair) \
  sum[i] += factor * (int16_t)(uint16_t)(pair); \
  sum[j] += factor * (int16_t)(uint16_t)((pair) >> 16)

#define NN_RUN_STORE_1(run, factor, sum) \
  NN_TWO(sum, factor, 0, 2, run.a); \
  NN_TWO(sum, factor, 1, 3, run.b); \
  NN_TWO(sum, factor, 4, 6, run.c); \
  NN_TWO(sum, factor, 5, 7, run.d); \
  NN_TWO(sum, factor, 8, 10, run.e); \
  NN_TWO(sum, factor, 9, 11, run.f); \
  NN_TWO(sum, factor, 12, 14, run.g); \
  NN_TWO(sum, factor, 13, 15, run.h)

#define NN_RUN_STORE_2(run, factor, sum) \
  NN_TWO(sum, factor, 0, 1, run.a); \
  NN_TWO(sum, factor, 2, 3, run.b); \
  NN_TWO(sum, factor, 4, 5, run.c); \
  NN_TWO(sum, factor, 6, 7, run.d); \
  NN_TWO(sum, factor, 8, 9, run.e); \
  NN_TWO(sum, factor, 10, 11, run.f); \
  NN_TWO(sum, factor, 12, 13, run.g); \
  NN_TWO(sum, factor, 14, 15, run.h)
#else
typedef struct {
  uint16_t of[16];
} NN_run_t;

#define NN_RUN_NEGATE(run) \
  for (j = 0; j < 16; j++) { \
    run.of[j] = (uint16_t)(0u - run.of[j]); \
  }

#define NN_RUN_ADD(run, p, apart, stride) \
  do { \
    const uint8_t *at = (p); \
    for (j = 0; j < 8; j++) { \
      run.of[j] = (uint16_t)(run.of[j] + at[j * stride]); \
    } \
    at += apart; \
    for (j = 0; j < 8; j++) { \
      run.of[8 + j] = (uint16_t)(run.of[8 + j] + at[j * stride]); \
    } \
  } while (0)
#define NN_RUN_ADD_1(run, p, apart) NN_RUN_ADD(run, p, apart, 1u)
#define NN_RUN_ADD_2(run, p, apart) NN_RUN_ADD(run, p, apart, 2u)

#define NN_RUN_STORE(run, factor, sum) \
  for (j = 0; j < 16; j++) { \
    sum[j] += factor * (run.of[j] < 32768u ? (int32_t)run.of[j] : (int32_t)run.of[j] - 65536); \
  }
#define NN_RUN_STORE_1 NN_RUN_STORE
#define NN_RUN_STORE_2 NN_RUN_STORE
#endif

/* Takes offsets from o on, two in a turn. */
#define NN_EACH(count, take) \
  if (((count) & 1u) != 0u) { \
    take; \
    o++; \
  } \
  for (end = o + ((count) & ~1u); o != end;) { \
    take; \
    o++; \
    take; \
    o++; \
  }

/* The sums of one segment are below 2^15 whatever the levels are; unsigned 16 bits wrap on the way.
 * One function for each stride: its loops run a million times an image. */
#define NN_SEGMENT(name, add, store, apart_) \
  static void name(const NN_conv_t *conv, const NN_count_t *count, const NN_offset_t *o, \
                   const uint8_t *p, ptrdiff_t apart, NN_tile_t *tile) { \
    static const NN_run_t nothing = {0}; \
    NN_run_t run = nothing; \
    const NN_offset_t *end; \
    size_t m, j; \
    (void)j; \
    (void)apart; \
    for (m = conv->magnitudes; m != 0u; m--, count += 2) { \
      int32_t *sum = tile->sum[0]; \
      const int32_t factor = conv->odd != 0u && m > 1u ? 2 : 1; \
      NN_RUN_NEGATE(run); \
      NN_EACH(count[0], add(run, p + *o, apart_)) \
      if (conv->sides == 2u) { \
        sum = tile->sum[1]; \
        store(run, 1, sum); \
        sum = tile->sum[0]; \
        run = nothing; \
      } \
      NN_RUN_NEGATE(run); \
      NN_EACH(count[1], add(run, p + *o, apart_)) \
      store(run, factor, sum); \
    } \
  }

NN_SEGMENT(NN_segment_row, NN_RUN_ADD_1, NN_RUN_STORE_1, 8)
NN_SEGMENT(NN_segment_1, NN_RUN_ADD_1, NN_RUN_STORE_1, apart)
NN_SEGMENT(NN_segment_2, NN_RUN_ADD_2, NN_RUN_STORE_2, apart)

static void NN_lists_tile(const NN_conv_t *conv, const NN_lists_t *lists, const uint8_t *p,
                          ptrdiff_t apart, NN_tile_t *tile) {
  const NN_offset_t *list = lists->offsets;
  const NN_count_t *count = lists->counts;
  size_t c, j;
  for (j = 0; j < 16; j++) {
    tile->sum[0][j] = lists->correction[0];
    tile->sum[1][j] = lists->correction[1];
  }
  for (c = 0; c < conv->input->channels; c += conv->segment) {
    if (conv->stride == 1u && apart == 8) {
      NN_segment_row(conv, count, list, p, apart, tile);
    } else if (conv->stride == 1u) {
      NN_segment_1(conv, count, list, p, apart, tile);
    } else {
      NN_segment_2(conv, count, list, p, apart, tile);
    }
    for (j = 0; j < conv->magnitudes; j++, count += 2) {
      list += count[0] + count[1];
    }
    p += (size_t)conv->segment * conv->input->plane;
  }
}

/* The same by multiplication, for weights of many magnitudes: values[i] at offsets[i]. */
static inline void NN_products(const NN_lists_t *lists, size_t size, const uint8_t *p, ptrdiff_t apart,
                               size_t stride, int32_t sum[16]) {
  size_t i, j;
  for (i = 0; i < size; i++) {
    const int32_t w = lists->values[i];
    const uint8_t *a = p + lists->offsets[i], *b = a + apart;
    for (j = 0; j < 8; j++) {
      sum[j] += w * a[j * stride];
      sum[8 + j] += w * b[j * stride];
    }
  }
}

static void NN_numbers(const NN_conv_t *conv, size_t channel, NN_lists_t *out) {
  const NN_tensor_t *in = conv->input;
  NN_reader_t reader;
  size_t k, x, y, at = 0;
  int32_t total = 0;
  reader.bytes = conv->weights + channel * conv->channel_bytes;
  reader.buffer = 0;
  reader.have = 0;
  reader.bits = conv->bits;
  for (k = 0; k < in->channels; k++) {
    for (y = 0; y < conv->rows; y++) {
      for (x = 0; x < conv->columns; x++, at++) {
        const int32_t level = NN_weight(conv, NN_next(&reader));
        out->offsets[at] = (NN_offset_t)(k * in->plane + y * in->pitch + x);
        out->values[at] = (int16_t)level;
        total += level;
      }
    }
  }
  out->correction[0] = -total * (int32_t)in->zero;
}

static void NN_decode(const NN_conv_t *conv, size_t channel, NN_lists_t *out) {
  if (conv->bits == 2u && conv->odd == 0u) {
    NN_ternary(conv, channel, out);
  } else if (conv->magnitudes != 0u) {
    NN_lists(conv, channel, out);
  } else {
    NN_numbers(conv, channel, out);
  }
}

/* The sums of sixteen outputs: eight from column x of row y on, eight from column x2 of row y2 on. */
static void NN_sums(const NN_conv_t *conv, const NN_lists_t *lists, const uint8_t *arena, size_t y,
                    size_t x, size_t y2, size_t x2, NN_tile_t *tile) {
  const NN_tensor_t *in = conv->input;
  const uint8_t *base = arena + in->start - (conv->rows / 2u) * (size_t)in->pitch - conv->columns / 2u;
  const uint8_t *p = base + (y * in->pitch + x) * conv->stride;
  const ptrdiff_t apart = (ptrdiff_t)(((y2 - y) * in->pitch + (x2 - x)) * conv->stride);
  size_t j;
  if (conv->magnitudes != 0u) {
    NN_lists_tile(conv, lists, p, apart, tile);
    return;
  }
  for (j = 0; j < 16; j++) {
    tile->sum[0][j] = lists->correction[0];
  }
  if (conv->stride == 1u) {
    NN_products(lists, (size_t)in->channels * conv->rows * conv->columns, p, apart, 1, tile->sum[0]);
  } else {
    NN_products(lists, (size_t)in->channels * conv->rows * conv->columns, p, apart, 2, tile->sum[0]);
  }
}

/* Sums on their way to the grid, added to `value` unless they are the first. */
static inline void NN_scale(const NN_conv_t *conv, size_t channel, const NN_tile_t *tile, int first,
                            NN_fixed_t value[16]) {
  const float *multiplier = conv->multiplier + channel * conv->sides;
  const NN_fixed_t addend = NN_whole(conv->addend[channel]);
  NN_fixed_t result[16];
  size_t j;
  for (j = 0; j < 16; j++) {
    result[j] = NN_product(tile->sum[0][j], multiplier[0]);
  }
  if (conv->sides == 2u) {
    for (j = 0; j < 16; j++) {
      result[j] = NN_sum(result[j], NN_product(tile->sum[1][j], multiplier[1]));
    }
  }
  for (j = 0; j < 16; j++) {
    result[j] = NN_sum(result[j], addend);
  }
  if (conv->again != 0.0f) {
    for (j = 0; j < 16; j++) {
      result[j] = NN_product(NN_level(result[j], conv->low, conv->high), conv->again);
    }
  }
  for (j = 0; j < 16; j++) {
    value[j] = first ? result[j] : NN_sum(value[j], result[j]);
  }
}

static void NN_clear(const NN_tensor_t *t, uint8_t *arena) {
  memset(arena + t->start - (size_t)t->border * t->pitch - t->border, t->zero,
         (size_t)t->border * t->pitch + t->border + (size_t)t->channels * t->plane);
}

/* Adds `count` levels to values. */
static inline void NN_add_levels(const NN_layer_t *layer, const uint8_t *level, size_t count, NN_fixed_t *value) {
  const int32_t zero = layer->added->zero;
  size_t j;
  for (j = 0; j < count; j++, level += layer->added_stride) {
    value[j] = NN_sum(value[j], NN_product((int32_t)*level - zero, layer->scale));
  }
}

static inline void NN_store(const NN_layer_t *layer, const NN_fixed_t *value, size_t count, uint8_t *out) {
  size_t j;
  for (j = 0; j < count; j++) {
    out[j] = (uint8_t)(NN_level(value[j], layer->low, layer->high) + (int32_t)layer->output.zero);
  }
}

static void NN_layer(const NN_layer_t *layer, uint8_t *arena, NN_lists_t *lists) {
  const NN_tensor_t *out = &layer->output;
  const NN_tensor_t *added = layer->added;
  const int narrow = out->width <= 8u; /* then a tile is eight columns of two rows */
  NN_tile_t tile;
  NN_fixed_t value[16];
  size_t c, y, x;
  for (c = 0; c < out->channels; c++) {
    const int adds = added != NULL && c >= layer->before && c - layer->before < added->channels;
    NN_decode(&layer->conv, c, &lists[0]);
    if (layer->shortcut != NULL) {
      NN_decode(layer->shortcut, c, &lists[1]);
    }
    for (y = 0; y < out->height; y += narrow ? 2 : 1) {
      for (x = 0; x < out->width; x += narrow ? 8 : 16) {
        /* the second eight; where there is none, the first ones again, which are dropped */
        const size_t y2 = narrow && y + 1 < out->height ? y + 1 : y;
        const size_t x2 = narrow || x + 8 >= out->width ? x : x + 8;
        const size_t count = out->width - x < 8u ? out->width - x : 8;
        const size_t count2 = x2 == x && y2 == y ? 0 : out->width - x2 < 8u ? out->width - x2 : 8;
        NN_sums(&layer->conv, &lists[0], arena, y, x, y2, x2, &tile);
        NN_scale(&layer->conv, c, &tile, 1, value);
        if (layer->shortcut != NULL) {
          NN_sums(layer->shortcut, &lists[1], arena, y, x, y2, x2, &tile);
          NN_scale(layer->shortcut, c, &tile, 0, value);
        }
        if (adds) {
          const uint8_t *level = arena + added->start + (c - layer->before) * added->plane;
          NN_add_levels(layer, level + (y * added->pitch + x) * layer->added_stride, count, value);
          NN_add_levels(layer, level + (y2 * added->pitch + x2) * layer->added_stride, count2, value + 8);
        }
        {
          uint8_t *pixel = arena + out->start + c * out->plane;
          NN_store(layer, value, count, pixel + y * out->pitch + x);
          NN_store(layer, value + 8, count2, pixel + y2 * out->pitch + x2);
        }
      }
    }
  }
}

/* ---- the image, pooling, the mean and the logits ----------------------------------------------- */

/* Pixels (height, width, channels) to levels, by a table of 256 for each channel. */
static void NN_image(const NN_tensor_t *out, const uint8_t *table, const uint8_t *image, uint8_t *arena) {
  size_t c, x, y;
  for (c = 0; c < out->channels; c++) {
    for (y = 0; y < out->height; y++) {
      for (x = 0; x < out->width; x++) {
        arena[out->start + c * out->plane + y * out->pitch + x] =
            table[256u * c + image[(y * out->width + x) * out->channels + c]];
      }
    }
  }
}

/* The mean of each channel, as a level of the classifier's grid. */
static void NN_mean(const NN_tensor_t *in, float multiplier, int32_t high, const uint8_t *arena, uint8_t *out) {
  size_t c, x, y;
  for (c = 0; c < in->channels; c++) {
    int32_t sum = 0;
    for (y = 0; y < in->height; y++) {
      for (x = 0; x < in->width; x++) {
        sum += arena[in->start + c * in->plane + y * in->pitch + x];
      }
    }
    out[c] = (uint8_t)NN_level(NN_product(sum, multiplier), 0, high);
  }
}

/* logit = sum * multiplier + addend, rounded twice: the product goes through memory, where no
 * compiler can contract it. */
static void NN_classify(const NN_conv_t *conv, const uint8_t *levels, size_t classes, float *logits) {
  size_t k, i;
  for (k = 0; k < classes; k++) {
    NN_reader_t reader;
    int32_t sum[2] = {0, 0};
    volatile float product, second;
    reader.bytes = conv->weights + k * conv->channel_bytes;
    reader.buffer = 0;
    reader.have = 0;
    reader.bits = conv->bits;
    for (i = 0; i < conv->input->channels; i++) {
      const int32_t level = NN_weight(conv, NN_next(&reader));
      if (conv->sides == 2u) {
        sum[level < 0 ? 1 : 0] += (level < 0 ? -level : level) * levels[i];
      } else {
        sum[0] += level * levels[i];
      }
    }
    product = (float)sum[0] * conv->multiplier[k * conv->sides];
    if (conv->sides == 2u) {
      second = (float)sum[1] * conv->multiplier[k * conv->sides + 1u];
      product = product + second;
    }
    logits[k] = product + conv->addend[k];
  }
}
