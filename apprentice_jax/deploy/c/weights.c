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
  if (bytes == 2u) {
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return (uint32_t)__builtin_bswap16(half) << 16;
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

/* Where a column of a kernel has its masks, and what offsets they stand for. */
typedef struct {
  const uint8_t *bytes;
  size_t rows, channels, pitch, plane, bits;
  int odd, recoded;
} NN_masks_t;

/* The channels of a group whose weights have -1, and those that have +1, at 2^digit. Digits of magnitudes
 * are their bits or, recoded, -1, 0 and 1 of which no two neighbours are other than 0: so most are 0. */
NN_INLINE void NN_digit(const NN_masks_t *masks, const uint8_t *p, size_t size, size_t bytes, unsigned digit,
                        uint32_t *minus, uint32_t *plus) {
  const uint8_t *const end = p + masks->bits * bytes;
  const uint32_t sign = NN_mask(p, bytes);
  uint32_t bit, next, nonzero, negative = 0, carry = 0;
  p += bytes;
  if (masks->odd) { /* the lowest bit is 1 in all of them */
    bit = 0xFFFFFFFFu << (32u - size);
  } else {
    bit = NN_mask(p, bytes);
    p += bytes;
  }
  for (;; digit--) {
    if (p != end) {
      next = NN_mask(p, bytes);
      p += bytes;
    } else {
      next = 0;
    }
    if (masks->recoded) {
      nonzero = bit ^ carry;
      negative = nonzero & next;
      carry = (bit & carry) | negative;
    } else {
      nonzero = bit;
    }
    if (digit == 0u) {
      break;
    }
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

/* The lists of a column for one digit: how many offsets of weights -1 follow, and these; the same of +1.
 * Of trained ternary weights, side 0 has the positive ones, and side 1 the negative ones as +1. */
NN_INLINE uint16_t *NN_list(NN_masks_t *masks, unsigned digit, int side, int ternary, uint16_t *list) {
  uint16_t *const count = list++;
  const size_t plane = masks->plane, pitch = masks->pitch, rows = masks->rows, channels = masks->channels;
  const size_t bits = ternary ? 2 : masks->bits;
  const uint8_t *p = masks->bytes;
  uint32_t later[24]; /* 3 rows of 8 groups */
  size_t n = 0, g, at;
  for (at = 0; at < rows * pitch; at += pitch) {
    for (g = 0; g < channels; g += 32u) {
      const size_t size = channels - g < 32u ? channels - g : 32u, bytes = (size + 7u) / 8u;
      uint32_t minus, plus;
      if (ternary) {
        const uint32_t sign = NN_mask(p, bytes), nonzero = NN_mask(p + bytes, bytes);
        minus = nonzero & sign;
        plus = nonzero & ~sign;
      } else {
        NN_digit(masks, p, size, bytes, digit, &minus, &plus);
      }
      p += bits * bytes;
      if (side >= 0) {
        plus = side == 0 ? plus : minus;
        minus = 0;
      }
      later[n++] = plus;
      list = NN_offsets(list, minus, at + g * plane, plane);
    }
  }
  masks->bytes = p;
  *count = (uint16_t)(list - count - 1);
  {
    uint16_t *const second = list++;
    for (at = n = 0; at < rows * pitch; at += pitch) {
      for (g = 0; g < channels; g += 32u) {
        list = NN_offsets(list, later[n++], at + g * plane, plane);
      }
    }
    *second = (uint16_t)(list - second - 1);
  }
  return list;
}

NN_APART static uint16_t *NN_ternary(NN_masks_t *masks, int side, uint16_t *list) {
  return NN_list(masks, 0, side, 1, list);
}

NN_APART static uint16_t *NN_digits(NN_masks_t *masks, unsigned digit, uint16_t *list) {
  return NN_list(masks, digit, -1, 0, list);
}

/* Makes the lists of an output channel. For each segment, digit from the highest down, side, and column of
 * the kernel: minus the first value of the sums, and the lists. Zeros are in no list, and nothing is
 * multiplied. */
NN_APART static void NN_decode(const NN_conv_t *conv, size_t channel, NN_lists_t *lists) {
  const NN_tensor_t *in = conv->input;
  const uint32_t zero = in->zero;
  const int ternary = conv->bits == 2u && conv->odd == 0u;
  const uint8_t *bytes = conv->weights + channel * conv->channel_bytes;
  uint16_t *list = lists->list;
  NN_masks_t masks;
  size_t c, side, x;
  unsigned digit;
  masks.rows = conv->rows;
  masks.bits = conv->bits;
  masks.odd = conv->odd;
  masks.recoded = conv->recoded;
  masks.pitch = in->pitch;
  masks.plane = in->plane;
  masks.bytes = bytes;
  lists->correction[0] = 0;
  lists->correction[1] = 0;
  for (c = 0; c < in->channels; c += conv->segment, bytes = masks.bytes) {
    masks.channels = c + conv->segment < in->channels ? conv->segment : in->channels - c;
    for (digit = conv->digits; digit-- != 0u;) {
      for (side = 0; side < conv->sides; side++) {
        uint16_t *centre = list;
        uint32_t minus = 0, plus = 0;
        int32_t low, high;
        masks.bytes = bytes;
        for (x = 0; x < conv->columns; x++) {
          uint16_t *const first = list;
          uint32_t less, more;
          list = ternary ? NN_ternary(&masks, conv->sides == 2u ? (int)side : -1, list + 1)
                         : NN_digits(&masks, digit, list + 1);
          less = first[1];
          more = first[2u + less];
          *first = (uint16_t)((more - less) * zero);
          minus += less;
          plus += more;
          centre = 2u * x + 1u == conv->columns ? first : centre;
        }
        /* The sums lie within 2^16, so a shift puts them into 16 bits. */
        low = -(int32_t)(minus * (255u - zero) + plus * zero);
        high = (int32_t)(plus * (255u - zero) + minus * zero);
        if (low < -32768 || high > 32767) {
          const int32_t shift = -32768 - low;
          *centre = (uint16_t)((uint32_t)*centre - (uint32_t)shift);
          lists->correction[side] -= shift * (1 << digit);
        }
      }
    }
  }
}
