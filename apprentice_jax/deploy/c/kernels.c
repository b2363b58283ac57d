/* ---- arithmetic after the sums ------------------------------------------------------------------
 * A fixed number is a whole number of 2^-20 of a step of the grid that follows. The definition is in
 * float32: each product is rounded to a whole number before it is added, so no compiler can contract
 * the two. Without a floating-point unit the same roundings are done on integers, bit for bit. */

static inline int32_t NN_clip(int32_t level, int32_t low, int32_t high) {
  return level < low ? low : level > high ? high : level;
}

#ifdef NN_SOFT

typedef int32_t NN_fixed_t;

/* |value| rounded to 24 significant bits, half to even, as float32 holds it. */
static uint64_t NN_round24(uint64_t value, int *shift) {
  int n = 0;
  uint64_t rest = value >> 24;
  while (rest != 0u) {
    rest >>= 1;
    n++;
  }
  *shift = n;
  if (n == 0) {
    return value;
  }
  return (value + ((uint64_t)1 << (n - 1)) - 1u + ((value >> n) & 1u)) >> n;
}

static int32_t NN_float32(int32_t value) {
  int shift;
  uint64_t magnitude = value < 0 ? (uint64_t)(-(int64_t)value) : (uint64_t)value;
  if (magnitude < ((uint64_t)1 << 24)) {
    return value;
  }
  magnitude = NN_round24(magnitude, &shift) << shift;
  return value < 0 ? (int32_t)(-(int64_t)magnitude) : (int32_t)magnitude;
}

/* rint(float32(sum) * multiplier), the product rounded to float32 first. */
static NN_fixed_t NN_product(int32_t sum, float multiplier) {
  uint32_t bits;
  int shift, exponent, whole;
  uint64_t magnitude;
  int negative = sum < 0;
  memcpy(&bits, &multiplier, sizeof bits);
  negative ^= (int)(bits >> 31);
  exponent = (int)((bits >> 23) & 255u);
  sum = NN_float32(sum);
  magnitude = sum < 0 ? (uint64_t)(-(int64_t)sum) : (uint64_t)sum;
  if (magnitude == 0u || exponent == 0) { /* smaller than half of one in any case */
    return 0;
  }
  magnitude = NN_round24(magnitude * ((bits & 0x7FFFFFu) | 0x800000u), &shift);
  whole = 150 - exponent - shift; /* binary places behind the point */
  if (whole > 0) {
    if (whole > 25) {
      return 0;
    }
    magnitude = (magnitude + ((uint64_t)1 << (whole - 1)) - 1u + ((magnitude >> whole) & 1u)) >> whole;
  } else if (whole < -6 || magnitude << -whole > 0x40000000u) {
    magnitude = 0x40000000u; /* 1,024 steps: the exporter has shown that more is no matter */
  } else {
    magnitude <<= -whole;
  }
  return negative ? (int32_t)(-(int64_t)magnitude) : (int32_t)magnitude;
}

static NN_fixed_t NN_sum(NN_fixed_t a, NN_fixed_t b) { return NN_float32(a + b); }
static NN_fixed_t NN_whole(float value) { return (int32_t)value; }

/* The level nearest to a fixed number, half to even. */
static int32_t NN_level(NN_fixed_t x, int32_t low, int32_t high) {
  const int32_t floor = x >= 0 ? x / 1048576 : -((-x + 1048575) / 1048576);
  const int32_t rest = x - floor * 1048576;
  return NN_clip(floor + (rest > 524288 || (rest == 524288 && (floor & 1) != 0)), low, high);
}

#else

typedef float NN_fixed_t;

/* Rounds to a whole number, half to even. */
static inline float NN_rint(float x) {
#if defined(__ARM_FP) && defined(__GNUC__) && !defined(__ARM_FEATURE_DIRECTED_ROUNDING) && \
    !defined(NN_LARGE)
  /* beyond 2^31 it stops there, and so far beyond the grid the exporter has shown it to be no matter */
  float result;
  __asm__("vcvtr.s32.f32 %0, %1\n\tvcvt.f32.s32 %0, %0" : "=&t"(result) : "t"(x));
  return result;
#else
  return rintf(x);
#endif
}

static inline NN_fixed_t NN_product(int32_t sum, float multiplier) {
  return NN_rint((float)sum * multiplier);
}

static inline NN_fixed_t NN_sum(NN_fixed_t a, NN_fixed_t b) { return a + b; }
static inline NN_fixed_t NN_whole(float value) { return value; }

/* The level nearest to a fixed number, half to even. */
static inline int32_t NN_level(NN_fixed_t x, int32_t low, int32_t high) {
  x = x * (1.0f / 1048576.0f);
#ifdef NN_LARGE
  x = x < (float)low ? (float)low : x > (float)high ? (float)high : x;
#endif
  return NN_clip((int32_t)NN_rint(x), low, high);
}

#endif

/* ---- weights -----------------------------------------------------------------------------------
 * The weights of one output channel become a list of offsets in RAM: for each magnitude, from the
 * largest down, the offsets of its negative weights and of its positive ones. Zeros are in no list,
 * and nothing is multiplied. Weights of more than 5 bits stay numbers, beside their offsets. */

typedef struct {
  const uint8_t *bytes;
  uint32_t buffer;
  unsigned have, bits;
} NN_reader_t;

static inline uint32_t NN_next(NN_reader_t *r) {
  uint32_t code;
  while (r->have < r->bits) {
    r->buffer |= (uint32_t)*r->bytes++ << r->have;
    r->have += 8;
  }
  code = r->buffer & ((1u << r->bits) - 1u);
  r->buffer >>= r->bits;
  r->have -= r->bits;
  return code;
}

/* A code's level: codes count up from the smallest level. */
static inline int32_t NN_weight(const NN_conv_t *conv, uint32_t code) {
  return conv->odd != 0u ? 2 * (int32_t)code - (int32_t)conv->top : (int32_t)code - (int32_t)conv->top;
}

/* Writes an offset to both lists and keeps it in the one of its code: 0 is -1, 1 is 0, 2 is +1. */
#define NN_TAP(offset) \
  do { \
    *front = (NN_offset_t)(offset); \
    front += (codes & 3u) == 0u ? 1 : 0; \
    if ((codes & 2u) != 0u) { \
      *back-- = (NN_offset_t)(offset); \
    } \
    codes >>= 2; \
  } while (0)

/* Ternary weights in one pass: the negative ones from the front on, the positive ones from the back,
 * moved to the negative ones in the end. */
static void NN_ternary(const NN_conv_t *conv, size_t channel, NN_lists_t *out) {
  const NN_tensor_t *in = conv->input;
  const uint8_t *bytes = conv->weights + channel * conv->channel_bytes;
  const size_t size = (size_t)conv->rows * conv->columns, pitch = in->pitch;
  NN_offset_t *offsets = out->offsets;
  NN_count_t *count = out->counts;
  uint32_t codes = 0, have = 0, negative = 0, positive = 0;
  size_t c, k;
  for (c = 0; c < in->channels; c += conv->segment, count += 2) {
    const size_t channels = c + conv->segment < in->channels ? conv->segment : in->channels - c;
    NN_offset_t *front = offsets, *back = offsets + channels * size - 1, *const last = back;
    size_t at = 0;
    for (k = 0; k < channels; k++, at += in->plane) {
      if (size == 9u && conv->rows == 3u) {
        for (; have < 18u; have += 8) {
          codes |= (uint32_t)*bytes++ << have;
        }
        NN_TAP(at);
        NN_TAP(at + 1);
        NN_TAP(at + 2);
        NN_TAP(at + pitch);
        NN_TAP(at + pitch + 1);
        NN_TAP(at + pitch + 2);
        NN_TAP(at + 2 * pitch);
        NN_TAP(at + 2 * pitch + 1);
        NN_TAP(at + 2 * pitch + 2);
        have -= 18;
      } else {
        size_t x, y;
        for (y = 0; y < conv->rows; y++) {
          for (x = 0; x < conv->columns; x++, have -= 2) {
            if (have == 0u) {
              codes = *bytes++;
              have = 8;
            }
            NN_TAP(at + y * pitch + x);
          }
        }
      }
    }
    count[0] = (NN_count_t)(front - offsets);
    count[1] = (NN_count_t)(last - back);
    memmove(front, back + 1, count[1] * sizeof *front);
    negative += count[0];
    positive += count[1];
    offsets = front + count[1];
  }
  out->correction[0] = ((int32_t)(conv->sides == 2u ? 0 : negative) - (int32_t)positive) * (int32_t)in->zero;
  out->correction[1] = -(int32_t)negative * (int32_t)in->zero;
}

static void NN_lists(const NN_conv_t *conv, size_t channel, NN_lists_t *out) {
  const NN_tensor_t *in = conv->input;
  const size_t size = (size_t)conv->rows * conv->columns;
  NN_reader_t start;
  size_t c, segment = 0, at = 0;
  int32_t total[2] = {0, 0};
  start.bytes = conv->weights + channel * conv->channel_bytes;
  start.buffer = 0;
  start.have = 0;
  start.bits = conv->bits;
  for (c = 0; c < in->channels; c += conv->segment, segment++) {
    const size_t last = c + conv->segment < in->channels ? c + conv->segment : in->channels;
    NN_count_t *count = out->counts + segment * 2u * conv->magnitudes;
    NN_reader_t reader = start;
    size_t i, k, x, y;
    memset(count, 0, 2u * conv->magnitudes * sizeof *count);
    for (i = c * size; i < last * size; i++) { /* first how many of each there are */
      const int32_t level = NN_weight(conv, NN_next(&reader));
      if (level != 0) {
        const uint32_t magnitude = (uint32_t)(level < 0 ? -level : level);
        count[2u * (conv->magnitudes - 1u - ((magnitude - 1u) >> conv->odd)) + (level > 0 ? 1u : 0u)]++;
        total[level < 0 && conv->sides == 2u ? 1 : 0] += conv->sides == 2u ? (int32_t)magnitude : level;
      }
    }
    for (i = 0; i < 2u * conv->magnitudes; i++) { /* then where each list begins */
      out->next[i] = (NN_count_t)at;
      at += count[i];
    }
    reader = start;
    for (k = c; k < last; k++) {
      for (y = 0; y < conv->rows; y++) {
        size_t offset = (k - c) * in->plane + y * in->pitch;
        for (x = 0; x < conv->columns; x++, offset++) {
          const int32_t level = NN_weight(conv, NN_next(&reader));
          if (level != 0) {
            const uint32_t magnitude = (uint32_t)(level < 0 ? -level : level);
            const size_t kind = 2u * (conv->magnitudes - 1u - ((magnitude - 1u) >> conv->odd)) + (level > 0 ? 1u : 0u);
            out->offsets[out->next[kind]++] = (NN_offset_t)offset;
          }
        }
      }
    }
    start = reader;
  }
  out->correction[0] = -total[0] * (int32_t)in->zero;
  out->correction[1] = -total[1] * (int32_t)in->zero;
}
