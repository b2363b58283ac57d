/* What a page calls: a photo's rows become the network's image, and the image logits. */
#include "network.h"
#include "resize.c"

#define EXPORT(name) __attribute__((export_name(name)))
#define PAGE 65536u /* bytes of WebAssembly's unit of memory */

extern uint8_t __heap_base; /* the first byte that nothing else uses */

static network_arena_t arena;
static uint8_t image[NETWORK_HEIGHT * NETWORK_WIDTH * NETWORK_CHANNELS];
static float logits[NETWORK_CLASSES];
static resize_t photo;
static uintptr_t free_byte;

/* Memory for one photo; NULL if there is none. */
static void *take(size_t bytes) {
  const uintptr_t start = (free_byte + 15u) / 16u * 16u, have = __builtin_wasm_memory_size(0) * PAGE;
  if (bytes > UINTPTR_MAX - PAGE - start) {
    return NULL;
  }
  if (start + bytes > have && __builtin_wasm_memory_grow(0, (start + bytes - have + PAGE - 1u) / PAGE) == SIZE_MAX) {
    return NULL;
  }
  free_byte = start + bytes;
  return (void *)start;
}

/* Begins a photo. Returns where the caller puts up to `rows` rows of RGBA, or NULL if the network does not
 * take such a photo, or memory is short. */
EXPORT("begin") uint8_t *begin(int32_t width, int32_t height, int32_t rows) {
  int32_t *columns, *lines;
  uint8_t *strip;
  free_byte = (uintptr_t)&__heap_base;
  if (!resize_photo(&photo, width, height, NETWORK_RESIZE, NETWORK_WIDTH, NETWORK_HEIGHT, NETWORK_CHANNELS)) {
    return NULL;
  }
  columns = take(table(&photo.columns) * sizeof *columns);
  lines = take(table(&photo.rows) * sizeof *lines);
  strip = take((size_t)rows * (size_t)width * 4u);
  if (columns == NULL || lines == NULL || strip == NULL) {
    return NULL;
  }
  weigh(&photo.columns, columns);
  weigh(&photo.rows, lines);
  photo.thin = take((size_t)(photo.rows.end - photo.rows.begin) * NETWORK_WIDTH * 3u);
  return photo.thin == NULL ? NULL : strip;
}

/* The rows of the photo that are needed: from first to end. */
EXPORT("first") int32_t first(void) { return photo.rows.begin; }
EXPORT("end") int32_t end(void) { return photo.rows.end; }

/* Takes `count` rows, from row y on, from where `begin` said. */
EXPORT("rows") void rows(const uint8_t *rgba, int32_t y, int32_t count) { resize_rows(&photo, rgba, y, count); }

/* Ends the photo. Returns the network's image: rows, columns, colours. */
EXPORT("see") uint8_t *see(void) {
  resize_end(&photo, image);
  return image;
}

/* The network's image, for a caller who has one. */
EXPORT("image") uint8_t *image_place(void) { return image; }

/* Computes the logits of the image. */
EXPORT("run") const float *run(void) {
  network_logits(image, logits, &arena);
  return logits;
}
