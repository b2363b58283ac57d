/* The centre of a photo, resized as `apprentice predict` resizes it: Pillow's bilinear filter with
 * antialiasing, in the same order of the same operations, so that all pixels are equal to the bit.
 * Rows of the photo come a few at a time, so that a large photo takes little memory. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define PLACES 22 /* binary places of a weight */

/* One side of the photo. */
typedef struct {
  int32_t photo, size;   /* pixels of the photo, and of what is cut out of the resized photo */
  double start, scale;   /* where in the photo the cut begins, and pixels of the photo in one of its own */
  int32_t begin, end;    /* the photo's pixels that are needed */
  int32_t taps;          /* weights of an output, at most */
  int32_t *first;        /* of each output: its first pixel, and how many it takes */
  int32_t *weights;      /* `taps` of each output */
} side_t;

typedef struct {
  side_t rows, columns;
  int32_t channels; /* of the result: 1 or 3 */
  uint8_t *thin;    /* rows.end - rows.begin rows, resized to the columns, in RGB */
} resize_t;

/* half / 2, half to even. */
static int64_t half_to_even(int64_t half) {
  const int64_t low = half / 2 - (half % 2 < 0);
  return half % 2 == 0 ? half / 2 : low + (low & 1);
}

/* Where a side's cut lies. `resize`: pixels of the short side after the resize. */
static void cut(side_t *side, int32_t photo, int32_t shorter, int32_t resize, int32_t size) {
  const int64_t along = (int64_t)resize * photo / shorter;
  const int64_t start = half_to_even(along - size);
  /* Pillow's box has float32 corners. */
  const float from = (float)((double)(start * photo) / (double)along);
  const float to = (float)((double)((start + size) * photo) / (double)along);
  side->photo = photo;
  side->size = size;
  side->start = from;
  side->scale = (double)(to - from) / size;
  side->taps = 2 * (int32_t)ceil(side->scale < 1.0 ? 1.0 : side->scale) + 1;
}

/* The numbers in `first` and `weights`. */
static size_t table(const side_t *side) { return (size_t)side->size * (size_t)(2 + side->taps); }

/* Fills `first` and `weights`: around the centre of each output, a triangle as wide as two pixels of the
 * larger grid. */
static void weigh(side_t *side, int32_t *numbers) {
  const double radius = side->scale < 1.0 ? 1.0 : side->scale, narrow = 1.0 / radius;
  int32_t i, k;
  side->first = numbers;
  side->weights = numbers + 2 * side->size;
  side->begin = side->photo;
  side->end = 0;
  for (i = 0; i < side->size; i++) {
    const double centre = side->start + (i + 0.5) * side->scale;
    int32_t low = (int32_t)(centre - radius + 0.5), high = (int32_t)(centre + radius + 0.5);
    int32_t *weights = side->weights + (size_t)i * (size_t)side->taps;
    double sum = 0.0;
    low = low < 0 ? 0 : low;
    high = high > side->photo ? side->photo : high;
    for (k = low; k < high; k++) {
      const double far = fabs((k - centre + 0.5) * narrow);
      sum += far < 1.0 ? 1.0 - far : 0.0;
    }
    for (k = low; k < high; k++) {
      const double far = fabs((k - centre + 0.5) * narrow);
      weights[k - low] = (int32_t)(0.5 + (far < 1.0 ? 1.0 - far : 0.0) / sum * (1 << PLACES));
    }
    side->first[2 * i] = low;
    side->first[2 * i + 1] = high - low;
    side->begin = low < side->begin ? low : side->begin;
    side->end = high > side->end ? high : side->end;
  }
}

/* Prepares for a photo. Returns whether the network takes it.
 * resize: the short side to which photos are resized; 0: the network's own, whose size then passes as
 * it is. */
static int resize_photo(resize_t *r, int32_t width, int32_t height, int32_t resize, int32_t out_width,
                        int32_t out_height, int32_t channels) {
  const int32_t shorter = width < height ? width : height;
  r->channels = channels;
  if (resize == 0 && width == out_width && height == out_height) {
    cut(&r->columns, width, width, width, width);
    cut(&r->rows, height, height, height, height);
    return 1;
  }
  if (out_width != out_height || shorter < 1) {
    return 0;
  }
  resize = resize != 0 ? resize : out_width;
  cut(&r->columns, width, shorter, resize, out_width);
  cut(&r->rows, height, shorter, resize, out_height);
  return 1;
}

static uint8_t pixel(int32_t sum) {
  sum = (sum + (1 << (PLACES - 1))) >> PLACES;
  return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Takes `count` rows of RGBA from row `y` on; rows that are not needed are passed over. */
static void resize_rows(resize_t *r, const uint8_t *rgba, int32_t y, int32_t count) {
  const side_t *columns = &r->columns;
  const int32_t end = y + count;
  int32_t i, k;
  for (; y < end; y++, rgba += 4 * (size_t)columns->photo) {
    uint8_t *out = r->thin + (size_t)(y - r->rows.begin) * (size_t)columns->size * 3;
    if (y < r->rows.begin || y >= r->rows.end) {
      continue;
    }
    for (i = 0; i < columns->size; i++) {
      const uint8_t *p = rgba + 4 * (size_t)columns->first[2 * i];
      const int32_t *weights = columns->weights + (size_t)i * (size_t)columns->taps;
      int32_t red = 0, green = 0, blue = 0;
      for (k = 0; k < columns->first[2 * i + 1]; k++, p += 4) {
        red += weights[k] * p[0];
        green += weights[k] * p[1];
        blue += weights[k] * p[2];
      }
      *out++ = pixel(red);
      *out++ = pixel(green);
      *out++ = pixel(blue);
    }
  }
}

/* Writes the network's image: RGB, or grey by Rec. 601. */
static void resize_end(const resize_t *r, uint8_t *image) {
  const side_t *rows = &r->rows;
  const size_t pitch = (size_t)r->columns.size * 3;
  size_t x, c;
  int32_t i, k;
  for (i = 0; i < rows->size; i++) {
    const uint8_t *first = r->thin + (size_t)(rows->first[2 * i] - rows->begin) * pitch;
    const int32_t *weights = rows->weights + (size_t)i * (size_t)rows->taps;
    for (x = 0; x < pitch; x += 3) {
      uint32_t colour[3];
      for (c = 0; c < 3; c++) {
        int32_t sum = 0;
        for (k = 0; k < rows->first[2 * i + 1]; k++) {
          sum += weights[k] * first[(size_t)k * pitch + x + c];
        }
        colour[c] = pixel(sum);
      }
      if (r->channels == 3) {
        for (c = 0; c < 3; c++) {
          *image++ = (uint8_t)colour[c];
        }
      } else {
        *image++ = (uint8_t)((19595u * colour[0] + 38470u * colour[1] + 7471u * colour[2] + 32768u) >> 16);
      }
    }
  }
}
