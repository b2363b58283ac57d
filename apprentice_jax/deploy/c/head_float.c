/* ---- the mean and the logits, in floats --------------------------------------------------------- */

/* The mean of each channel. */
static void NN_mean(const NN_tensor_t *in, float multiplier, const uint8_t *arena, float *out) {
  size_t c, x, y;
  for (c = 0; c < in->channels; c++) {
    int32_t sum = 0;
    for (y = 0; y < in->height; y++) {
      for (x = 0; x < in->width; x++) {
        sum += (int32_t)arena[in->start + c * in->plane + y * in->pitch + x] - (int32_t)in->zero;
      }
    }
    out[c] = (float)sum * multiplier;
  }
}

/* logit = sum * multiplier + addend, rounded twice: the product goes through memory, where no
 * compiler can contract it. */
static void NN_classify(const NN_conv_t *conv, const float *weights, size_t channels, const float *means,
                        size_t classes, float *logits) {
  size_t k, i;
  for (k = 0; k < classes; k++) {
    float sum = 0.0f;
    volatile float product;
    for (i = 0; i < channels; i++) {
      sum += means[i] * *weights++;
    }
    product = sum * conv->multiplier[k];
    logits[k] = product + conv->addend[k];
  }
}
