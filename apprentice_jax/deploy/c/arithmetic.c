#if defined(__GNUC__)
#define NN_INLINE static inline __attribute__((always_inline))
#define NN_APART __attribute__((noinline))
#else
#define NN_INLINE static inline
#define NN_APART
#endif

/* ---- arithmetic after the sums ------------------------------------------------------------------
 * A fixed number is a whole number of 2^-20 of a step of the grid that follows. The definition is in
 * float32: each product is rounded to a whole number before it is added, so no compiler can contract
 * the two. Without a floating-point unit the same roundings are done on integers, bit for bit.
 * A number stops at 2^31, or 2,048 steps: the exporter has shown that more is no matter. */

#ifdef NN_SOFT

NN_INLINE int32_t NN_clip(int32_t level, int32_t low, int32_t high) {
  return level < low ? low : level > high ? high : level;
}

typedef int32_t NN_fixed_t;
#define NN_STOP 0x7FFFFF80 /* the last float32 below 2^31 */

/* |value| rounded to 24 significant bits, half to even, as float32 holds it. */
static uint64_t NN_round24(uint64_t value, int *shift) {
  int n = 0;
  uint64_t rest = value >> 24;
  while (rest != 0u) {
    rest >>= 1;
    n++;
  }
  *shift = n;
  if (n == 0) {
    return value;
  }
  return (value + ((uint64_t)1 << (n - 1)) - 1u + ((value >> n) & 1u)) >> n;
}

/* A number as float32 holds it, stopped at NN_STOP. */
static int32_t NN_float32(int64_t value) {
  int shift;
  uint64_t magnitude = value < 0 ? (uint64_t)(-value) : (uint64_t)value;
  if (magnitude < ((uint64_t)1 << 24)) {
    return (int32_t)value;
  }
  magnitude = NN_round24(magnitude, &shift) << shift;
  magnitude = magnitude > NN_STOP ? NN_STOP : magnitude;
  return value < 0 ? -(int32_t)magnitude : (int32_t)magnitude;
}

/* rint(float32(sum) * multiplier), the product rounded to float32 first. */
static NN_fixed_t NN_product(int32_t sum, float multiplier) {
  uint32_t bits;
  int shift, exponent, whole;
  uint64_t magnitude;
  int negative = sum < 0;
  memcpy(&bits, &multiplier, sizeof bits);
  negative ^= (int)(bits >> 31);
  exponent = (int)((bits >> 23) & 255u);
  sum = NN_float32(sum);
  magnitude = sum < 0 ? (uint64_t)(-(int64_t)sum) : (uint64_t)sum;
  if (magnitude == 0u || exponent == 0) { /* smaller than half of one in any case */
    return 0;
  }
  magnitude = NN_round24(magnitude * ((bits & 0x7FFFFFu) | 0x800000u), &shift);
  whole = 150 - exponent - shift; /* binary places behind the point */
  if (whole > 0) {
    if (whole > 25) {
      return 0;
    }
    magnitude = (magnitude + ((uint64_t)1 << (whole - 1)) - 1u + ((magnitude >> whole) & 1u)) >> whole;
  } else if (whole < -7 || magnitude << -whole > NN_STOP) {
    magnitude = NN_STOP;
  } else {
    magnitude <<= -whole;
  }
  return negative ? -(int32_t)magnitude : (int32_t)magnitude;
}

static NN_fixed_t NN_sum(NN_fixed_t a, NN_fixed_t b) { return NN_float32((int64_t)a + b); }
static NN_fixed_t NN_whole(float value) { return (int32_t)value; }

/* The level nearest to a fixed number, half to even. */
static int32_t NN_level(NN_fixed_t x, int32_t low, int32_t high) {
  int32_t floor;
  x = NN_clip(x, -0x40000000, 0x40000000); /* 1,024 steps, beyond any grid */
  floor = x >= 0 ? x / 1048576 : -((-x + 1048575) / 1048576);
  x -= floor * 1048576;
  return NN_clip(floor + (x > 524288 || (x == 524288 && (floor & 1) != 0)), low, high);
}

#else

typedef float NN_fixed_t; /* in steps: 2^-20 changes no rounding */

#if defined(__ARM_FP) && defined(__GNUC__) && !defined(__ARM_FEATURE_DIRECTED_ROUNDING)
#define NN_VCVTR /* rounds half to even, and stops at 2^31 */
#endif

NN_INLINE NN_fixed_t NN_product(int32_t sum, float multiplier) {
  const float x = (float)sum * multiplier;
#ifdef NN_VCVTR
  float result;
#ifdef NN_LARGE
  if (!(fabsf(x) < 8388608.0f)) { /* whole already */
    return x * (1.0f / 1048576.0f);
  }
#endif
  __asm__("vcvtr.s32.f32 %0, %1\n\tvcvt.f32.s32 %0, %0, #20" : "=t"(result) : "t"(x));
  return result;
#else
  return rintf(x) * (1.0f / 1048576.0f);
#endif
}

NN_INLINE NN_fixed_t NN_sum(NN_fixed_t a, NN_fixed_t b) { return a + b; }
NN_INLINE NN_fixed_t NN_whole(float value) { return value * (1.0f / 1048576.0f); }

/* The level nearest to a fixed number, half to even. */
NN_INLINE int32_t NN_level(NN_fixed_t x, int32_t low, int32_t high) {
  x = x < (float)low ? (float)low : x > (float)high ? (float)high : x;
  return (int32_t)rintf(x);
}

#endif

/* The byte of the nearest level of a grid that has all bytes, from -zero to 255 - zero. */
NN_INLINE uint8_t NN_byte(NN_fixed_t x, int32_t zero) {
#if defined(NN_VCVTR) && !defined(NN_SOFT)
  float level;
  int32_t byte;
  __asm__("vcvtr.s32.f32 %0, %1" : "=t"(level) : "t"(x));
  memcpy(&byte, &level, sizeof byte);
  __asm__("usat %0, #8, %1" : "=r"(byte) : "r"(byte + zero));
  return (uint8_t)byte;
#else
  return (uint8_t)(NN_level(x, -zero, 255 - zero) + zero);
#endif
}
