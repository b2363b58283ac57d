/* The largest of 3x3 at stride 2; what lies outside is zero, which unsigned levels never fall below. */
static void NN_pool(const NN_tensor_t *in, const NN_tensor_t *out, uint8_t *arena) {
  size_t c, x, y, i, j;
  for (c = 0; c < out->channels; c++) {
    for (y = 0; y < out->height; y++) {
      for (x = 0; x < out->width; x++) {
        uint8_t largest = 0;
        for (i = y == 0u ? 0 : 2u * y - 1u; i < 2u * y + 2u && i < in->height; i++) {
          for (j = x == 0u ? 0 : 2u * x - 1u; j < 2u * x + 2u && j < in->width; j++) {
            const uint8_t level = arena[in->start + c * in->plane + i * in->pitch + j];
            largest = level > largest ? level : largest;
          }
        }
        arena[out->start + c * out->plane + y * out->pitch + x] = largest;
      }
    }
  }
}
