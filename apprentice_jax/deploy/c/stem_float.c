/* ---- the image, in floats -----------------------------------------------------------------------
 * A stem in full precision: its sums depend on their order and on contraction, as all floats' do. */

#define NN_TAPS (NN_STEM_COLUMNS * NN_STEM_CHANNELS)                          /* weights in a row of the kernel */
#define NN_PIXELS ((NN_STEM_WIDTH + NN_STEM_COLUMNS) * NN_STEM_CHANNELS + 1) /* numbers of a padded row */

/* rint(sum * multiplier), as a fixed number. */
NN_INLINE NN_fixed_t NN_rounded(float sum, float multiplier) {
#ifdef NN_SOFT
  return NN_whole(rintf(sum * multiplier));
#else
  return rintf(sum * multiplier) * (1.0f / 1048576.0f);
#endif
}

/* A row of the image as normalised floats, by a table for each colour; zeros around it and outside. */
static void NN_pixels(const uint8_t *image, ptrdiff_t y, const float *table, float *row) {
  size_t x, c;
  for (x = 0; x < NN_PIXELS; x++) {
    row[x] = 0.0f;
  }
  if (y < 0 || y >= NN_STEM_HEIGHT) {
    return;
  }
  image += (size_t)y * NN_STEM_WIDTH * NN_STEM_CHANNELS;
  row += NN_STEM_COLUMNS / 2 * NN_STEM_CHANNELS;
  for (x = 0; x < NN_STEM_WIDTH; x++) {
    for (c = 0; c < NN_STEM_CHANNELS; c++) {
      *row++ = table[256u * c + *image++];
    }
  }
}

/* The convolution on the image, which is read where it lies. */
NN_APART static void NN_stem(const NN_layer_t *layer, const float *weights, const float *table, const uint8_t *image,
                             uint8_t *arena, float *pixels) {
  const NN_conv_t *conv = &layer->conv;
  const NN_tensor_t *out = &layer->output;
  ptrdiff_t have = -(NN_STEM_ROWS / 2); /* the first row that is not in `pixels` yet */
  size_t y, x, c, k, i;
  for (y = 0; y < out->height; y++) {
    const float *row[NN_STEM_ROWS];
    const ptrdiff_t top = (ptrdiff_t)(y * NN_STEM_STRIDE) - NN_STEM_ROWS / 2;
    for (have = have < top ? top : have; have < top + NN_STEM_ROWS; have++) {
      NN_pixels(image, have, table, pixels + (have + NN_STEM_ROWS) % NN_STEM_ROWS * NN_PIXELS);
    }
    for (k = 0; k < NN_STEM_ROWS; k++) {
      row[k] = pixels + (top + (ptrdiff_t)k + NN_STEM_ROWS) % NN_STEM_ROWS * NN_PIXELS;
    }
    for (c = 0; c < out->channels; c++) {
      const float *kernel = weights + c * NN_STEM_ROWS * NN_TAPS, multiplier = conv->multiplier[c];
      const NN_fixed_t addend = NN_whole(conv->addend[c]);
      uint8_t *levels = arena + out->start + c * out->plane + y * out->pitch;
      for (x = 0; x < out->width; x++) {
        const size_t at = x * NN_STEM_STRIDE * NN_STEM_CHANNELS;
        float sum = 0.0f;
        for (k = 0; k < NN_STEM_ROWS; k++) {
          for (i = 0; i < NN_TAPS; i++) {
            sum += row[k][at + i] * kernel[k * NN_TAPS + i];
          }
        }
        levels[x] = (uint8_t)(NN_level(NN_sum(NN_rounded(sum, multiplier), addend), layer->low, layer->high) +
                              (int32_t)out->zero);
      }
    }
  }
}
