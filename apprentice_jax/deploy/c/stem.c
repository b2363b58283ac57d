/* ---- the image -------------------------------------------------------------------------------- */

#define NN_TAPS (NN_STEM_COLUMNS * NN_STEM_CHANNELS)  /* weights in a row of the kernel */
#define NN_EVEN_TAPS ((NN_TAPS + 1) / 2 * 2)
#define NN_PIXELS ((NN_STEM_WIDTH + NN_STEM_COLUMNS) * NN_STEM_CHANNELS + 1) /* levels of a padded row */

#if defined(NN_HELIUM) && NN_STEM_BYTES
typedef int8_t NN_pixel_t; /* levels of pixels, and weights */
#else
typedef int16_t NN_pixel_t;
#endif

/* Four sums: of two output pixels, and of two channels or sides. */
NN_INLINE void NN_dots(const NN_pixel_t *const row[NN_STEM_ROWS], size_t at, size_t next,
                           const NN_pixel_t *weights, int32_t sum[4]) {
  int32_t a = 0, b = 0, c = 0, d = 0;
  size_t y, i;
  for (y = 0; y < NN_STEM_ROWS; y++) {
    const NN_pixel_t *p = row[y] + at, *q = row[y] + next, *v = weights + y * NN_EVEN_TAPS;
    const NN_pixel_t *w = v + NN_STEM_ROWS * NN_EVEN_TAPS;
#if defined(NN_HELIUM) && NN_STEM_BYTES
#pragma GCC unroll 4
    for (i = 0; i < NN_TAPS; i += 16) {
      const mve_pred16_t some = vctp8q((uint32_t)(NN_TAPS - i));
      const int8x16_t p2 = vldrbq_z_s8(p + i, some), q2 = vldrbq_z_s8(q + i, some);
      const int8x16_t v2 = vldrbq_z_s8(v + i, some), w2 = vldrbq_z_s8(w + i, some);
      a = vmladavaq_s8(a, p2, v2);
      b = vmladavaq_s8(b, q2, v2);
      c = vmladavaq_s8(c, p2, w2);
      d = vmladavaq_s8(d, q2, w2);
    }
#elif defined(NN_HELIUM)
#pragma GCC unroll 4
    for (i = 0; i < NN_TAPS; i += 8) {
      const mve_pred16_t some = vctp16q((uint32_t)(NN_TAPS - i));
      const int16x8_t p2 = vldrhq_z_s16(p + i, some), q2 = vldrhq_z_s16(q + i, some);
      const int16x8_t v2 = vldrhq_z_s16(v + i, some), w2 = vldrhq_z_s16(w + i, some);
      a = vmladavaq_s16(a, p2, v2);
      b = vmladavaq_s16(b, q2, v2);
      c = vmladavaq_s16(c, p2, w2);
      d = vmladavaq_s16(d, q2, w2);
    }
#elif defined(NN_DSP)
#pragma GCC unroll 16
    for (i = 0; i < NN_EVEN_TAPS; i += 2) {
      uint32_t p2, q2, v2, w2;
      memcpy(&p2, p + i, 4);
      memcpy(&q2, q + i, 4);
      memcpy(&v2, v + i, 4);
      memcpy(&w2, w + i, 4);
      __asm__("smlad %0, %1, %2, %0" : "+r"(a) : "r"(p2), "r"(v2));
      __asm__("smlad %0, %1, %2, %0" : "+r"(b) : "r"(q2), "r"(v2));
      __asm__("smlad %0, %1, %2, %0" : "+r"(c) : "r"(p2), "r"(w2));
      __asm__("smlad %0, %1, %2, %0" : "+r"(d) : "r"(q2), "r"(w2));
    }
#else
    for (i = 0; i < NN_EVEN_TAPS; i++) {
      a += p[i] * v[i];
      b += q[i] * v[i];
      c += p[i] * w[i];
      d += q[i] * w[i];
    }
#endif
  }
  sum[0] = a;
  sum[1] = b;
  sum[2] = c;
  sum[3] = d;
}

/* Weights of two channels, or of both sides of one, rows filled up with zeros. */
NN_APART static void NN_kernels(const NN_conv_t *conv, size_t channel, NN_pixel_t *weights) {
  size_t k, y, i;
  for (k = 0; k < 2; k++) {
    const size_t c = conv->sides == 2u || channel + k >= NN_STEM_FEATURES ? channel : channel + k;
    const uint8_t *code = conv->weights + c * conv->channel_bytes;
    for (y = 0; y < NN_STEM_ROWS; y++) {
      for (i = 0; i < NN_TAPS; i++) {
        const int32_t level = NN_weight(conv, *code++);
        *weights++ = (NN_pixel_t)(conv->sides == 1u ? level : k == 0u ? (level > 0 ? level : 0) : level < 0 ? -level : 0);
      }
      if (NN_TAPS % 2 != 0) {
        *weights++ = 0;
      }
    }
  }
}

/* A row of the image as levels, by a table for each colour; zeros around it, and rows of zeros outside. */
static void NN_pixels(const uint8_t *image, ptrdiff_t y, const NN_level_t *table, NN_pixel_t *row) {
  size_t x, c;
  memset(row, 0, NN_PIXELS * sizeof *row);
  if (y < 0 || y >= NN_STEM_HEIGHT) {
    return;
  }
  image += (size_t)y * NN_STEM_WIDTH * NN_STEM_CHANNELS;
  row += NN_STEM_COLUMNS / 2 * NN_STEM_CHANNELS;
  for (x = 0; x < NN_STEM_WIDTH; x++) {
    for (c = 0; c < NN_STEM_CHANNELS; c++) {
      *row++ = (NN_pixel_t)table[256u * c + *image++];
    }
  }
}

/* The convolution on the image, which is read where it lies. */
NN_APART static void NN_stem(const NN_layer_t *layer, const NN_level_t *table, const uint8_t *image, uint8_t *arena,
                    const NN_work_t *work, NN_pixel_t *pixels, NN_pixel_t *weights) {
  const NN_conv_t *conv = &layer->conv;
  const NN_tensor_t *out = &layer->output;
  ptrdiff_t have = -(NN_STEM_ROWS / 2); /* the first row that is not in `pixels` yet */
  size_t y, x, c, k;
  NN_work_t second = *work;
  second.sum = work->sum + work->side;
  for (y = 0; y < out->height; y++) {
    const NN_pixel_t *row[NN_STEM_ROWS];
    const ptrdiff_t top = (ptrdiff_t)(y * NN_STEM_STRIDE) - NN_STEM_ROWS / 2;
    for (have = have < top ? top : have; have < top + NN_STEM_ROWS; have++) {
      NN_pixels(image, have, table, pixels + (have + NN_STEM_ROWS) % NN_STEM_ROWS * NN_PIXELS);
    }
    for (k = 0; k < NN_STEM_ROWS; k++) {
      row[k] = pixels + (top + (ptrdiff_t)k + NN_STEM_ROWS) % NN_STEM_ROWS * NN_PIXELS;
    }
    for (c = 0; c < out->channels; c += conv->sides == 2u ? 1 : 2) {
      NN_kernels(conv, c, weights);
      for (x = 0; x < out->width; x += 2) {
        const size_t step = NN_STEM_STRIDE * NN_STEM_CHANNELS, at = x * step;
        int32_t sum[4];
        NN_dots(row, at, x + 1u < out->width ? at + step : at, weights, sum);
        work->sum[x] = sum[0];
        work->sum[x + 1u] = sum[1];
        second.sum[x] = sum[2];
        second.sum[x + 1u] = sum[3];
      }
      NN_levels(layer, c, y, 1, work, arena);
      if (conv->sides == 1u && c + 1u < out->channels) {
        NN_levels(layer, c + 1u, y, 1, &second, arena);
      }
    }
  }
}
