#if defined(__GNUC__)
#define NN_INLINE static inline __attribute__((always_inline))
#define NN_APART __attribute__((noinline))
#else
#define NN_INLINE static inline
#define NN_APART
#endif

/* What the compiler says that the processor has; NN_PORTABLE goes without it. */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2) && !defined(NN_PORTABLE)
#include <arm_mve.h>
#define NN_HELIUM
#elif defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && !defined(NN_PORTABLE)
#define NN_DSP
#endif

/* ---- arithmetic after the sums ------------------------------------------------------------------
 * A fixed number is a whole number of 2^-20 of a step of the grid that follows. The definition is in
 * float32: each product is rounded to a whole number before it is added, so no compiler can contract
 * the two. Without a floating-point unit the same roundings are done on integers, bit for bit.
 * A number stops at 2^31, or 2,048 steps: the exporter has shown that more is no matter. */

#ifdef NN_SOFT

typedef int32_t NN_fixed_t;
#define NN_STOP 0x7FFFFF80u /* the last float32 below 2^31 */

/* A float32 number, taken apart once a channel: mantissa * 2^exponent. */
typedef struct {
  uint32_t mantissa;
  int32_t exponent;
  int negative;
} NN_factor_t;

static NN_factor_t NN_factor(float value) {
  NN_factor_t result;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  result.negative = bits >> 31 != 0u;
  result.exponent = (int32_t)((bits >> 23) & 255u) - 150;
  result.mantissa = result.exponent == -150 ? 0 : (bits & 0x7FFFFFu) | 0x800000u; /* less is 0 in any case */
  return result;
}

/* Zeros before the first one of a number that is not 0. */
NN_INLINE int NN_zeros(uint32_t value) {
#ifdef __GNUC__
  return __builtin_clz(value);
#else
  int n = 0;
  for (; (value & 0x80000000u) == 0u; value <<= 1) {
    n++;
  }
  return n;
#endif
}

/* value / 2^n to the nearest whole number, half to even; n is at least 1. */
NN_INLINE uint32_t NN_nearest(uint32_t value, int n) {
  return (value + ((1u << (n - 1)) - 1u) + ((value >> n) & 1u)) >> n;
}

/* A magnitude as float32 holds it, stopped at NN_STOP. */
static uint32_t NN_float32(uint32_t value) {
  if (value >= 0x1000000u) {
    const int n = 8 - NN_zeros(value);
    value = value >= NN_STOP ? NN_STOP : NN_nearest(value, n) << n;
    value = value >= NN_STOP ? NN_STOP : value;
  }
  return value;
}

/* rint(float32(sum) * multiplier), the product rounded to float32 first. */
static NN_fixed_t NN_product(int32_t sum, NN_factor_t factor) {
  const int negative = (sum < 0) != factor.negative;
  const uint32_t size = NN_float32(sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum);
  uint32_t a, high, low, middle, result;
  int places, zeros;
  if (size == 0u || factor.mantissa == 0u) {
    return 0;
  }
  /* Both have 24 bits, their product 47 or 48: `high` is its upper 32, what is below is in their last bit. */
  zeros = NN_zeros(size);
  a = size << zeros >> 8;
  low = (a & 0xFFFFu) * (factor.mantissa & 0xFFFFu);
  middle = (a & 0xFFFFu) * (factor.mantissa >> 16) + (a >> 16) * (factor.mantissa & 0xFFFFu) + (low >> 16);
  high = (((a >> 16) * (factor.mantissa >> 16)) << 16) + middle;
  places = zeros - 8 - factor.exponent; /* binary places behind the point of the product */
  if ((high & 0x80000000u) != 0u) {
    result = NN_nearest(high >> 1 | (high & 1u) | ((low & 0xFFFFu) != 0u), 7);
    places -= 24;
  } else {
    result = NN_nearest(high | ((low & 0xFFFFu) != 0u), 7);
    places -= 23;
  }
  if (places > 0) {
    result = places > 25 ? 0 : NN_nearest(result, places);
  } else {
    result = places < -7 || result > NN_STOP >> -places ? NN_STOP : result << -places;
  }
  return negative ? -(int32_t)result : (int32_t)result;
}

static NN_fixed_t NN_sum(NN_fixed_t a, NN_fixed_t b) {
  const uint32_t sum = (uint32_t)a + (uint32_t)b, sign = (uint32_t)a & 0x80000000u;
  if (sum + 0x1000000u < 0x2000000u) {
    return (int32_t)sum;
  }
  if ((((uint32_t)a ^ (uint32_t)b) & 0x80000000u) == 0u && ((sum ^ sign) & 0x80000000u) != 0u) {
    return sign != 0u ? -(int32_t)NN_STOP : (int32_t)NN_STOP;
  }
  return (sum & 0x80000000u) != 0u ? -(int32_t)NN_float32(0u - sum) : (int32_t)NN_float32(sum);
}

static NN_fixed_t NN_whole(float value) {
  const float stop = (float)NN_STOP;
  return value >= stop ? (int32_t)NN_STOP : value <= -stop ? -(int32_t)NN_STOP : (int32_t)value;
}

/* The level nearest to a fixed number, half to even. */
static int32_t NN_level(NN_fixed_t x, int32_t low, int32_t high) {
  const int32_t stop = 0x3FF00000; /* 1,023 steps, beyond any grid */
  uint32_t above;
  int32_t level;
  x = x < -stop ? -stop : x > stop ? stop : x;
  above = (uint32_t)(x + 0x40000000); /* 1,024 steps are even, and so are no matter to halves */
  level = (int32_t)NN_nearest(above, 20) - 1024;
  return level < low ? low : level > high ? high : level;
}

#else

typedef float NN_fixed_t; /* in steps: 2^-20 changes no rounding */

#if defined(__ARM_FP) && defined(__GNUC__) && !defined(__ARM_FEATURE_DIRECTED_ROUNDING)
#define NN_VCVTR /* rounds half to even, and stops at 2^31 */
#endif

typedef float NN_factor_t;
NN_INLINE NN_factor_t NN_factor(float value) { return value; }

NN_INLINE NN_fixed_t NN_product(int32_t sum, NN_factor_t multiplier) {
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
  x = x > (float)low ? x : (float)low; /* one after the other, so that compilers need no jumps */
  x = x < (float)high ? x : (float)high;
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
