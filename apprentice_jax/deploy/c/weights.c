/* ---- weights ----------------------------------------------------------------------------------- */

/* Codes of a fixed number of bits, the lowest first. */
typedef struct {
  const uint8_t *bytes;
  uint32_t buffer;
  unsigned have, bits;
} NN_reader_t;

NN_INLINE uint32_t NN_next(NN_reader_t *r) {
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
NN_INLINE int32_t NN_weight(const NN_conv_t *conv, uint32_t code) {
  return conv->odd != 0u ? 2 * (int32_t)code - (int32_t)conv->top : (int32_t)code - (int32_t)conv->top;
}

/* Weights of convolutions on planes are bits across input channels. For each segment, column and row of
 * the kernel, and each group of up to 32 channels, there is a mask of signs and one of each bit of the
 * magnitudes, the first channel in the highest bit. A mask takes as many bytes as its channels need. */

NN_INLINE uint32_t NN_mask(const uint8_t *p, size_t bytes) {
  uint32_t mask = (uint32_t)*p << 24;
#if defined(__ARM_FEATURE_UNALIGNED) && defined(__GNUC__)
  if (bytes == 4u) {
    memcpy(&mask, p, sizeof mask);
    return __builtin_bswap32(mask);
  }
#endif
  if (bytes > 1u) {
    mask |= (uint32_t)p[1] << 16;
  }
  if (bytes > 2u) {
    mask |= (uint32_t)p[2] << 8;
  }
  return bytes > 3u ? mask | p[3] : mask;
}

/* The channels of a group whose weights have -1, and those that have +1, at 2^digit. Magnitudes are
 * written with digits -1, 0 and 1 of which no two neighbours are other than 0, so that most are 0. */
NN_INLINE void NN_digit(const NN_conv_t *conv, const uint8_t *p, size_t channels, unsigned digit,
                            uint32_t *minus, uint32_t *plus) {
  const size_t bytes = (channels + 7u) / 8u;
  const uint32_t sign = NN_mask(p, bytes);
  const uint8_t *const end = p + conv->bits * bytes;
  uint32_t bit, next, nonzero, negative, carry = 0;
  unsigned i;
  p += bytes;
  if (conv->digits == 1u && conv->odd == 0u) { /* ternary */
    bit = NN_mask(p, bytes);
    *minus = bit & sign;
    *plus = bit & ~sign;
    return;
  }
  if (conv->odd != 0u) { /* the lowest bit of odd levels is no news */
    bit = 0xFFFFFFFFu << (32u - channels);
  } else {
    bit = NN_mask(p, bytes);
    p += bytes;
  }
  for (i = 0;; i++, p += bytes) {
    next = p < end ? NN_mask(p, bytes) : 0;
    nonzero = bit ^ carry;
    negative = nonzero & next;
    if (i == digit) {
      break;
    }
    carry = (bit & carry) | negative;
    bit = next;
  }
  *minus = nonzero & (negative ^ sign);
  *plus = nonzero & ~(negative ^ sign);
}

/* Appends the offset of each channel of a mask, `plane` apart. */
NN_INLINE uint16_t *NN_offsets(uint16_t *list, uint32_t mask, size_t at, size_t plane) {
#if defined(__GNUC__) && !(defined(__arm__) && __ARM_ARCH_ISA_THUMB == 1) && !defined(__riscv)
  while (mask != 0u) {
    const int i = __builtin_clz(mask);
    *list++ = (uint16_t)(at + (size_t)i * plane);
    mask &= ~(0x80000000u >> i);
  }
#else
  for (; mask != 0u; mask <<= 1, at += plane) {
    if ((mask & 0x80000000u) != 0u) {
      *list++ = (uint16_t)at;
    }
  }
#endif
  return list;
}

/* Makes the lists of an output channel. For each segment, digit from the highest down, side, and column of
 * the kernel: minus the first value of the sums; how many offsets of weights -1 follow, and these; the
 * same of weights +1. Zeros are in no list, and nothing is multiplied. */
NN_APART static void NN_decode(const NN_conv_t *conv, size_t channel, NN_lists_t *lists) {
  const NN_tensor_t *in = conv->input;
  const uint8_t *bytes = conv->weights + channel * conv->channel_bytes, *after = bytes;
  uint16_t *list = lists->list;
  size_t c, side, x, y, g, n;
  unsigned digit;
  lists->correction[0] = 0;
  lists->correction[1] = 0;
  for (c = 0; c < in->channels; c += conv->segment, bytes = after) {
    const size_t channels = c + conv->segment < in->channels ? conv->segment : in->channels - c;
    for (digit = conv->digits; digit-- != 0u;) {
      for (side = 0; side < conv->sides; side++) {
        const uint8_t *p = bytes;
        uint16_t *centre = list;
        uint32_t ones[2] = {0, 0};
        int32_t low, high;
        for (x = 0; x < conv->columns; x++) {
          uint16_t *const first = list, *count = list + 1;
          uint32_t later[24]; /* 3 rows of 8 groups */
          list += 2;
          for (y = n = 0; y < conv->rows; y++) {
            for (g = 0; g < channels; g += 32u) {
              const size_t size = channels - g < 32u ? channels - g : 32u;
              uint32_t minus;
              NN_digit(conv, p, size, digit, &minus, &later[n]);
              p += conv->bits * ((size + 7u) / 8u);
              if (conv->sides == 2u) {
                later[n] = side == 0u ? later[n] : minus;
                minus = 0;
              }
              list = NN_offsets(list, minus, y * in->pitch + g * in->plane, in->plane);
              n++;
            }
          }
          *count = (uint16_t)(list - count - 1);
          ones[0] += *count;
          *first = (uint16_t)(0u - (uint32_t)*count * in->zero);
          count = list++;
          for (y = n = 0; y < conv->rows; y++) {
            for (g = 0; g < channels; g += 32u) {
              list = NN_offsets(list, later[n++], y * in->pitch + g * in->plane, in->plane);
            }
          }
          *count = (uint16_t)(list - count - 1);
          ones[1] += *count;
          *first = (uint16_t)(*first + (uint32_t)*count * in->zero);
          centre = 2u * x + 1u == conv->columns ? first : centre;
        }
        after = p;
        /* The sums lie within 2^16, so a shift puts them into 16 bits. */
        low = -(int32_t)(ones[0] * (255u - in->zero) + ones[1] * in->zero);
        high = (int32_t)(ones[1] * (255u - in->zero) + ones[0] * in->zero);
        if (low < -32768 || high > 32767) {
          const int32_t shift = -32768 - low;
          *centre = (uint16_t)((uint32_t)*centre - (uint32_t)shift);
          lists->correction[side] -= shift * (1 << digit);
        }
      }
    }
  }
}
