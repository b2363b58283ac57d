/* Levels lie in planes, channel by channel. Rows are rounded up to whole words by columns of the level
 * zero; with a border, a row of zeros lies before and after each plane, shared by neighbours. */
typedef struct {
  uint32_t start; /* of channel 0's first pixel in the arena */
  uint32_t plane; /* bytes from channel to channel */
  uint16_t pitch; /* bytes from row to row */
  uint16_t height, width, channels;
  uint8_t border; /* rows before and after a plane: 0 or 1 */
  uint8_t zero;   /* the byte that stands for level 0 */
} NN_tensor_t;

/* A convolution of 1x1 or 3x3 on planes, the one on the image, or the classifier. */
typedef struct {
  const NN_tensor_t *input;
  const uint8_t *weights;  /* of one output channel after the other */
  const float *multiplier; /* of one output channel after the other; of two sides for trained ternary */
  const float *addend;
  uint16_t channel_bytes; /* of the weights of an output channel */
  uint16_t segment;       /* input channels whose sums fit 16 bits */
  uint8_t rows, columns, stride;
  uint8_t bits, odd, digits, sides;
  uint8_t recoded;   /* whether magnitudes are written with signed digits */
  uint8_t own;       /* whether the branch has a grid of its own before it is added */
  int16_t top;       /* codes: level = code - top, odd: 2 * code - top */
  int16_t low, high; /* of its own grid */
  float again;       /* what one of these levels is of the next grid's */
} NN_conv_t;

/* A convolution, what is added to it, and the grid on which the sum is put. */
typedef struct {
  NN_conv_t conv;
  const NN_conv_t *shortcut; /* a convolution that is added, or NULL */
  const NN_tensor_t *added;  /* levels that are added, or NULL */
  float scale;               /* what one of these levels is */
  uint16_t before;           /* zero channels before them */
  uint8_t added_stride;
  uint8_t band; /* rows that are computed at a time */
  NN_tensor_t output;
  int16_t low, high; /* of the grid */
} NN_layer_t;

/* The lists of one output channel; see weights.c. */
typedef struct {
  uint16_t *list;
  int32_t correction[2]; /* what the sums lack, of either side */
} NN_lists_t;

/* Memory of a layer while it is computed; it is part of the arena. */
typedef struct {
  NN_lists_t lists[2]; /* of the convolution and of its shortcut */
  uint16_t *column;    /* sums of each column of the kernel */
  size_t apart;        /* from one of these to the next */
  int32_t *sum;        /* of a band; of both sides one after the other */
  size_t side;         /* from one side to the other */
  NN_fixed_t *value;   /* of the shortcut */
} NN_work_t;
