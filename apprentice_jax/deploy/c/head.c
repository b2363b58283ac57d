/* ---- the mean and the logits ------------------------------------------------------------------- */

/* The mean of each channel, as a level of the classifier's grid. */
static void NN_mean(const NN_tensor_t *in, float multiplier, int32_t high, const uint8_t *arena, uint8_t *out) {
  const NN_factor_t factor = NN_factor(multiplier);
  size_t c, x, y;
  for (c = 0; c < in->channels; c++) {
    int32_t sum = 0;
    for (y = 0; y < in->height; y++) {
      for (x = 0; x < in->width; x++) {
        sum += (int32_t)arena[in->start + c * in->plane + y * in->pitch + x] - (int32_t)in->zero;
      }
    }
    out[c] = (uint8_t)NN_level(NN_product(sum, factor), 0, high);
  }
}

/* logit = sum * multiplier + addend, rounded twice: the product goes through memory, where no
 * compiler can contract it. */
static void NN_classify(const NN_conv_t *conv, size_t channels, const uint8_t *levels, size_t classes,
                        float *logits) {
  size_t k, i;
  for (k = 0; k < classes; k++) {
    NN_reader_t reader;
    int32_t sum[2] = {0, 0};
    volatile float product, second;
    reader.bytes = conv->weights + k * conv->channel_bytes;
    reader.buffer = 0;
    reader.have = 0;
    reader.bits = conv->bits;
    for (i = 0; i < channels; i++) {
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
