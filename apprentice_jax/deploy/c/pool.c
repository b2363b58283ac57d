/* The largest of 3x3 at stride 2; a border of zeros, which unsigned levels never fall below. */
static void NN_pool(const NN_tensor_t *in, const NN_tensor_t *out, uint8_t *arena) {
  size_t c, x, y, i, j;
  for (c = 0; c < out->channels; c++) {
    for (y = 0; y < out->height; y++) {
      for (x = 0; x < out->width; x++) {
        const uint8_t *p = arena + in->start + c * in->plane + 2u * y * in->pitch + 2u * x - in->pitch - 1;
        uint8_t largest = 0;
        for (i = 0; i < 3; i++) {
          for (j = 0; j < 3; j++) {
            const uint8_t level = p[i * in->pitch + j];
            largest = level > largest ? level : largest;
          }
        }
        arena[out->start + c * out->plane + y * out->pitch + x] = largest;
      }
    }
  }
}
