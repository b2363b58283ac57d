/* Levels lie in planes, channel by channel; each row is followed by `border` columns of the level
 * zero and each plane by `border` such rows, which serve as the padding of the next ones too. */
typedef struct {
  uint32_t start; /* of channel 0's first pixel in the arena */
  uint32_t plane; /* bytes from channel to channel */
  uint16_t pitch; /* bytes from row to row */
  uint16_t height, width, channels;
  uint8_t border, zero; /* zero: the byte that stands for level 0 */
} NN_tensor_t;

typedef struct {
  const NN_tensor_t *input;
  const uint8_t *weights; /* codes of conv->bits bits, the lowest first, a channel from a new byte on */
  const float *multiplier; /* of one output channel after the other; of two sides for trained ternary */
  const float *addend;
  uint16_t channel_bytes;
  uint16_t segment; /* input channels whose sums fit 16 bits in any order */
  uint8_t rows, columns, stride;
  uint8_t bits, odd, magnitudes, sides;
  int16_t top; /* level = code - top, odd: 2 * code - top */
  float again; /* a branch with a grid of its own: what one of its levels is of the next one's; 0: none */
  int16_t low, high; /* of that grid */
} NN_conv_t;

/* A convolution, what is added to it, and the grid on which the sum is put. */
typedef struct {
  NN_conv_t conv;
  const NN_conv_t *shortcut;  /* a convolution that is added, or NULL */
  const NN_tensor_t *added;   /* levels that are added, or NULL */
  float scale;                /* what one of these levels is */
  uint16_t before;            /* zero channels before them */
  uint8_t added_stride;
  NN_tensor_t output;
  int16_t low, high; /* of the grid */
} NN_layer_t;

typedef struct {
  NN_offset_t *offsets;
  int16_t *values;
  NN_count_t *counts, *next;
  int32_t correction[2]; /* for inputs whose level zero is not the byte 0, of either side */
} NN_lists_t;
