/* ---- sums of convolutions on planes ---------------------------------------------------------------
 * Each column of a kernel has sums of its own, at whole words of the planes; in the end they are added,
 * one shifted to the right and one to the left. Unsigned 16 bits wrap on the way; the end fits them. */

#if defined(NN_HELIUM)

NN_APART static void NN_tiles(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t tiles) {
  const uint16_t *const first = list + 1;
  const uint16x8_t start = vdupq_n_u16((uint16_t)(0u - list[0]));
  unsigned n;
  for (; tiles > 1u; tiles -= 2, p += 32, sums += 32) {
    uint16x8_t a = start, b = start, c = start, d = start;
    list = first + 1;
    for (n = list[-1]; n != 0u; n--) {
      const uint8_t *q = p + *list++;
      a = vsubq_u16(a, vldrbq_u16(q));
      b = vsubq_u16(b, vldrbq_u16(q + 8));
      c = vsubq_u16(c, vldrbq_u16(q + 16));
      d = vsubq_u16(d, vldrbq_u16(q + 24));
    }
    for (n = *list++; n != 0u; n--) {
      const uint8_t *q = p + *list++;
      a = vaddq_u16(a, vldrbq_u16(q));
      b = vaddq_u16(b, vldrbq_u16(q + 8));
      c = vaddq_u16(c, vldrbq_u16(q + 16));
      d = vaddq_u16(d, vldrbq_u16(q + 24));
    }
    vst1q_u16(sums, a);
    vst1q_u16(sums + 8, b);
    vst1q_u16(sums + 16, c);
    vst1q_u16(sums + 24, d);
  }
  if (tiles != 0u) {
    uint16x8_t a = start, b = start;
    list = first + 1;
    for (n = list[-1]; n != 0u; n--) {
      const uint8_t *q = p + *list++;
      a = vsubq_u16(a, vldrbq_u16(q));
      b = vsubq_u16(b, vldrbq_u16(q + 8));
    }
    for (n = *list++; n != 0u; n--) {
      const uint8_t *q = p + *list++;
      a = vaddq_u16(a, vldrbq_u16(q));
      b = vaddq_u16(b, vldrbq_u16(q + 8));
    }
    vst1q_u16(sums, a);
    vst1q_u16(sums + 8, b);
  }
}

/* Sixteen outputs at stride 2, eight from p and eight from p + apart, of the even or the odd columns. */
#define NN_TILE_2(name, half) \
  NN_APART static void name(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t apart) { \
    uint16x8_t a = vdupq_n_u16((uint16_t)(0u - list[0])), b = a; \
    unsigned n; \
    list += 2; \
    for (n = list[-1]; n != 0u; n--) { \
      const uint8_t *q = p + *list++; \
      a = vsubq_u16(a, half(vld1q_u8(q))); \
      b = vsubq_u16(b, half(vld1q_u8(q + apart))); \
    } \
    for (n = *list++; n != 0u; n--) { \
      const uint8_t *q = p + *list++; \
      a = vaddq_u16(a, half(vld1q_u8(q))); \
      b = vaddq_u16(b, half(vld1q_u8(q + apart))); \
    } \
    vst1q_u16(sums, a); \
    vst1q_u16(sums + 8, b); \
  }
NN_TILE_2(NN_tile_even, vmovlbq_u8)
NN_TILE_2(NN_tile_odd, vmovltq_u8)

#define NN_TILE_2_OF(p, list, sums, apart, odd) \
  ((odd) != 0u ? NN_tile_odd(p, list, sums, apart) : NN_tile_even(p, list, sums, apart))

#elif defined(NN_DSP)

#define NN_IN __attribute__((unused)) /* an argument that assembly takes from its register */

/* In Thumb-2 assembly: eight registers of two sums each. UXTAB16 adds bytes 0 and 2 of a word to them, or
 * bytes 1 and 3. A tile is r4 to r11; r0 is its first pixel, r1 the list, r2, r3, r12 and lr are free.
 * On the stack: the list's end, the sums' place, the list's beginning, tiles that are left. */
#define NN_LOAD_1 "add lr, r0\n ldm lr, {r2, r3, r12, lr}\n"
#define NN_TAP_1 \
  "ldrh lr, [r1], #2\n" NN_LOAD_1 \
  "uxtab16 r4, r4, r2\n uxtab16 r5, r5, r2, ror #8\n uxtab16 r6, r6, r3\n uxtab16 r7, r7, r3, ror #8\n" \
  "uxtab16 r8, r8, r12\n uxtab16 r9, r9, r12, ror #8\n uxtab16 r10, r10, lr\n uxtab16 r11, r11, lr, ror #8\n"
/* At stride 2: eight outputs from lr, and eight from r12 bytes behind; the even or the odd columns. */
#define NN_TAP_2(odd) \
  "ldrh lr, [r1], #2\n add lr, r0\n" \
  "ldrd r2, r3, [lr]\n uxtab16 r4, r4, r2" odd "\n uxtab16 r5, r5, r3" odd "\n" \
  "ldrd r2, r3, [lr, #8]\n uxtab16 r6, r6, r2" odd "\n uxtab16 r7, r7, r3" odd "\n add lr, r12\n" \
  "ldrd r2, r3, [lr]\n uxtab16 r8, r8, r2" odd "\n uxtab16 r9, r9, r3" odd "\n" \
  "ldrd r2, r3, [lr, #8]\n uxtab16 r10, r10, r2" odd "\n uxtab16 r11, r11, r3" odd "\n"
/* Takes a list, four offsets in a turn; the first turn begins where the rest is a multiple of four. */
#define NN_TAKE(n, tap) \
  "ldrh r3, [r1], #2\n add r2, r1, r3, lsl #1\n str r2, [sp]\n and r3, r3, #3\n tbb [pc, r3]\n" \
  n "6: .byte (" n "0f-" n "6b)/2, (" n "1f-" n "6b)/2, (" n "2f-" n "6b)/2, (" n "3f-" n "6b)/2\n" \
  n "4: " tap n "3: " tap n "2: " tap n "1: " tap n "0: ldr r2, [sp]\n cmp r1, r2\n bne " n "4b\n"
#define NN_NEGATE \
  "mov r2, #0\n ssub16 r4, r2, r4\n ssub16 r5, r2, r5\n ssub16 r6, r2, r6\n ssub16 r7, r2, r7\n" \
  "ssub16 r8, r2, r8\n ssub16 r9, r2, r9\n ssub16 r10, r2, r10\n ssub16 r11, r2, r11\n"
#define NN_BEGIN \
  "ldrh r4, [r1], #2\n orr r4, r4, r4, lsl #16\n mov r5, r4\n mov r6, r4\n mov r7, r4\n mov r8, r4\n" \
  "mov r9, r4\n mov r10, r4\n mov r11, r4\n"

/* `tiles` of sixteen outputs that lie side by side, at stride 1. */
__attribute__((naked, noinline)) static void NN_tiles(NN_IN const uint8_t *p, NN_IN const uint16_t *list,
                                                      NN_IN uint16_t *sums, NN_IN size_t tiles) {
  __asm__ volatile(
      "push {r4-r11, lr}\n sub sp, #20\n str r2, [sp, #4]\n str r1, [sp, #8]\n str r3, [sp, #12]\n"
      "9:\n" NN_BEGIN NN_TAKE("1", NN_TAP_1) NN_NEGATE NN_TAKE("2", NN_TAP_1)
      "ldr lr, [sp, #4]\n"
      "pkhbt r2, r4, r5, lsl #16\n pkhtb r3, r5, r4, asr #16\n strd r2, r3, [lr], #8\n"
      "pkhbt r2, r6, r7, lsl #16\n pkhtb r3, r7, r6, asr #16\n strd r2, r3, [lr], #8\n"
      "pkhbt r2, r8, r9, lsl #16\n pkhtb r3, r9, r8, asr #16\n strd r2, r3, [lr], #8\n"
      "pkhbt r2, r10, r11, lsl #16\n pkhtb r3, r11, r10, asr #16\n strd r2, r3, [lr], #8\n"
      "str lr, [sp, #4]\n add r0, #16\n ldr r1, [sp, #8]\n ldr r3, [sp, #12]\n subs r3, #1\n"
      "str r3, [sp, #12]\n bne 9b\n add sp, #20\n pop {r4-r11, pc}\n");
}

/* Sixteen outputs at stride 2, eight from p and eight from p + apart, of the even or the odd columns. */
#define NN_TILE_2(name, odd) \
  __attribute__((naked, noinline)) static void name(NN_IN const uint8_t *p, NN_IN const uint16_t *list, \
                                                    NN_IN uint16_t *sums, NN_IN size_t apart) { \
    __asm__ volatile( \
        "push {r4-r11, lr}\n sub sp, #12\n str r2, [sp, #4]\n mov r12, r3\n" NN_BEGIN \
        NN_TAKE("1", NN_TAP_2(odd)) NN_NEGATE NN_TAKE("2", NN_TAP_2(odd)) \
        "ldr lr, [sp, #4]\n stm lr, {r4-r11}\n add sp, #12\n pop {r4-r11, pc}\n"); \
  }
NN_TILE_2(NN_tile_even, "")
NN_TILE_2(NN_tile_odd, ", ror #8")

#define NN_TILE_2_OF(p, list, sums, apart, odd) \
  ((odd) != 0u ? NN_tile_odd(p, list, sums, apart) : NN_tile_even(p, list, sums, apart))

#elif defined(__GNUC__) && !defined(NN_PORTABLE) && (defined(__arm__) || (defined(__riscv) && __riscv_xlen == 32))

/* Without instructions for bytes, whole words are added: their sum, less the odd bytes' part, has the
 * sums of the even bytes. No sum of a list leaves 16 bits. */
NN_INLINE uint32_t NN_word(const uint8_t *p) {
  uint32_t word;
  memcpy(&word, __builtin_assume_aligned(p, 4), sizeof word);
  return word;
}

/* a - b - c in both halves. */
NN_INLINE uint32_t NN_halves(uint32_t a, uint32_t b, uint32_t c) {
  return (((a >> 16) - (b >> 16) - c) << 16) | ((a - b - c) & 0xFFFFu);
}

NN_INLINE void NN_natural(uint32_t even, uint32_t odd, uint16_t *sums) {
  sums[0] = (uint16_t)even;
  sums[1] = (uint16_t)odd;
  sums[2] = (uint16_t)(even >> 16);
  sums[3] = (uint16_t)(odd >> 16);
}

NN_APART static void NN_tiles(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t tiles) {
  const uint32_t mask = 0x00FF00FFu, start = list[0];
  const uint16_t *const first = list + 1, *const minus = first + 1 + *first, *const plus = minus + 1 + *minus;
  for (tiles *= 2u; tiles != 0u; tiles--, p += 8, sums += 8) { /* eight outputs in a turn */
    uint32_t a = 0, b = 0, c = 0, d = 0, e, f, g, h;
    for (list = first + 1; list != minus; list++) {
      const uint32_t v = NN_word(p + *list), w = NN_word(p + *list + 4);
      a += v;
      b += (v >> 8) & mask;
      c += w;
      d += (w >> 8) & mask;
    }
    e = a - (b << 8);
    f = b;
    g = c - (d << 8);
    h = d;
    a = b = c = d = 0;
    for (list++; list != plus; list++) {
      const uint32_t v = NN_word(p + *list), w = NN_word(p + *list + 4);
      a += v;
      b += (v >> 8) & mask;
      c += w;
      d += (w >> 8) & mask;
    }
    NN_natural(NN_halves(a - (b << 8), e, start), NN_halves(b, f, start), sums);
    NN_natural(NN_halves(c - (d << 8), g, start), NN_halves(d, h, start), sums + 4);
  }
}

/* Eight outputs at stride 2, of the even or the odd columns. */
NN_INLINE void NN_eight(const uint8_t *p, const uint16_t *list, uint16_t *sums, unsigned shift) {
  const uint32_t mask = 0x00FF00FFu, start = list[0];
  uint32_t sum[2][4];
  int side, j;
  for (list++, side = 0; side < 2; side++) {
    const uint16_t *const end = list + 1 + *list;
    uint32_t a = 0, b = 0, c = 0, d = 0;
    for (list++; list != end; list++) {
      const uint8_t *q = p + *list;
      a += (NN_word(q) >> shift) & mask;
      b += (NN_word(q + 4) >> shift) & mask;
      c += (NN_word(q + 8) >> shift) & mask;
      d += (NN_word(q + 12) >> shift) & mask;
    }
    sum[side][0] = a;
    sum[side][1] = b;
    sum[side][2] = c;
    sum[side][3] = d;
  }
  for (j = 0; j < 4; j++) {
    const uint32_t pair = NN_halves(sum[1][j], sum[0][j], start);
    sums[2 * j] = (uint16_t)pair;
    sums[2 * j + 1] = (uint16_t)(pair >> 16);
  }
}

static void NN_tile_2(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t apart, size_t odd) {
  if (odd != 0u) {
    NN_eight(p, list, sums, 8);
    NN_eight(p + apart, list, sums + 8, 8);
  } else {
    NN_eight(p, list, sums, 0);
    NN_eight(p + apart, list, sums + 8, 0);
  }
}

#define NN_TILE_2_OF(p, list, sums, apart, odd) NN_tile_2(p, list, sums, apart, odd)

#elif defined(__GNUC__) && !defined(NN_PORTABLE) && \
    (defined(__x86_64__) || defined(__aarch64__) || defined(__wasm_simd128__))

/* Vectors as GCC and clang have them on any processor, of sixteen sums each. */
typedef uint16_t NN_sums_t __attribute__((vector_size(32), aligned(1)));
typedef uint8_t NN_bytes_t __attribute__((vector_size(16), aligned(1)));

/* `count` vectors of outputs that lie side by side. */
NN_INLINE void NN_vectors(const uint8_t *p, const uint16_t *list, uint16_t *sums, const int count) {
  NN_sums_t run[4];
  const uint16_t *end;
  int i, side;
  for (i = 0; i < count; i++) {
    run[i] = (NN_sums_t){0} + list[0];
  }
  list++;
  for (side = 0; side < 2; side++) {
    for (end = list + 1 + *list, list++; list != end; list++) {
      for (i = 0; i < count; i++) {
        NN_bytes_t bytes;
        memcpy(&bytes, p + *list + 16 * i, sizeof bytes);
        run[i] += __builtin_convertvector(bytes, NN_sums_t);
      }
    }
    for (i = 0; side == 0 && i < count; i++) {
      run[i] = 0 - run[i];
    }
  }
  memcpy(sums, run, (size_t)count * sizeof *run);
}

static void NN_tiles(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t tiles) {
  for (; tiles > 3u; tiles -= 4, p += 64, sums += 64) {
    NN_vectors(p, list, sums, 4);
  }
  for (; tiles != 0u; tiles--, p += 16, sums += 16) {
    NN_vectors(p, list, sums, 1);
  }
}

/* Sixteen outputs at stride 2, eight from p and eight from p + apart, of the even or the odd columns. */
NN_INLINE void NN_eights(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t apart, unsigned shift) {
  typedef uint16_t half_t __attribute__((vector_size(16), aligned(1)));
  half_t a = (half_t){0} + list[0], b = a;
  const uint16_t *end;
  int side;
  list++;
  for (side = 0; side < 2; side++) {
    for (end = list + 1 + *list, list++; list != end; list++) {
      half_t v, w;
      memcpy(&v, p + *list, sizeof v);
      memcpy(&w, p + *list + apart, sizeof w);
      a += (v >> shift) & 255u;
      b += (w >> shift) & 255u;
    }
    if (side == 0) {
      a = 0 - a;
      b = 0 - b;
    }
  }
  memcpy(sums, &a, sizeof a);
  memcpy(sums + 8, &b, sizeof b);
}

static void NN_tile_2(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t apart, size_t odd) {
  if (odd != 0u) {
    NN_eights(p, list, sums, apart, 8);
  } else {
    NN_eights(p, list, sums, apart, 0);
  }
}

#define NN_TILE_2_OF(p, list, sums, apart, odd) NN_tile_2(p, list, sums, apart, odd)

#else

NN_INLINE void NN_run(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t apart, size_t stride) {
  uint16_t run[16];
  const uint16_t *end;
  size_t j;
  int side;
  for (j = 0; j < 16; j++) {
    run[j] = list[0];
  }
  list++;
  for (side = 0; side < 2; side++) {
    for (end = list + 1 + *list, list++; list != end; list++) {
      const uint8_t *a = p + *list, *b = a + apart;
      for (j = 0; j < 8; j++) {
        run[j] = (uint16_t)(run[j] + a[j * stride]);
      }
      for (j = 0; j < 8; j++) {
        run[8 + j] = (uint16_t)(run[8 + j] + b[j * stride]);
      }
    }
    for (j = 0; side == 0 && j < 16; j++) {
      run[j] = (uint16_t)(0u - run[j]);
    }
  }
  memcpy(sums, run, sizeof run);
}

static void NN_tiles(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t tiles) {
  for (; tiles != 0u; tiles--, p += 16, sums += 16) {
    NN_run(p, list, sums, 8, 1);
  }
}

static void NN_tile_2(const uint8_t *p, const uint16_t *list, uint16_t *sums, size_t apart) {
  NN_run(p, list, sums, apart, 2);
}

#define NN_TILE_2_OF(p, list, sums, apart, odd) NN_tile_2((p) + (odd), list, sums, apart)

#endif

/* The sums of one column of a kernel, for `rows` rows of outputs. */
NN_APART static void NN_column(const NN_conv_t *conv, const uint8_t *p, size_t x, const uint16_t *list, size_t rows,
                      size_t pitch, uint16_t *sums) {
  const size_t count = rows * pitch;
  size_t r, i;
  if (conv->stride == 1u) {
    NN_tiles(p, list, sums, (count + 15u) / 16u);
  } else {
    const size_t halves = pitch / 8u, odd = conv->columns == 3u && x != 1u ? 1 : 0;
    for (i = 0; i < rows * halves; i += 2) {
      const size_t next = i + 1u < rows * halves ? i + 1 : i;
      const uint8_t *a = p + i / halves * 2u * conv->input->pitch + i % halves * 16u;
      const uint8_t *b = p + next / halves * 2u * conv->input->pitch + next % halves * 16u;
      NN_TILE_2_OF(a, list, sums + 8u * i, (size_t)(b - a), odd);
    }
  }
  /* The outer columns are added one further, and must not reach into the next row. */
  if (conv->columns == 3u && x == 0u) {
    sums[-1] = 0;
    for (r = pitch; r <= count; r += pitch) {
      sums[r - 1u] = 0;
    }
  } else if (x == 2u && conv->stride == 1u) {
    for (r = 0; r <= count; r += pitch) {
      sums[r] = 0;
    }
  }
}

/* Adds the sums of three columns, times a factor, to `sum`; alone: puts them there, plus a number. */
NN_INLINE void NN_add_columns(const uint16_t *a, const uint16_t *b, const uint16_t *c, size_t count, int alone,
                              int32_t number, int32_t *sum) {
  int32_t *const end = sum + count;
#ifdef NN_HELIUM
  for (; sum != end; a += 4, b += 4, c += 4, sum += 4) { /* rows are whole words */
    const uint32x4_t x = vaddq_u32(vaddq_u32(vldrhq_u32(a), vldrhq_u32(b)), vldrhq_u32(c));
    const int32x4_t s = vmovlbq_s16(vreinterpretq_s16_u32(x));
    vst1q_s32(sum, alone ? vaddq_n_s32(s, number) : vmlaq_n_s32(vld1q_s32(sum), s, number));
  }
#else
  for (; sum != end; a += 2, b += 2, c += 2, sum += 2) { /* two in a turn */
    int32_t s, t;
#ifdef NN_DSP
    uint32_t x, y, z;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    memcpy(&z, c, sizeof z);
    __asm__("uadd16 %0, %1, %2" : "=r"(x) : "r"(x), "r"(y));
    __asm__("uadd16 %0, %1, %2" : "=r"(x) : "r"(x), "r"(z));
    if (alone) {
      s = number + (int16_t)x;
      t = number + ((int32_t)x >> 16);
    } else {
      __asm__("smlabb %0, %1, %2, %3" : "=r"(s) : "r"(x), "r"(number), "r"(sum[0]));
      __asm__("smlatb %0, %1, %2, %3" : "=r"(t) : "r"(x), "r"(number), "r"(sum[1]));
    }
    sum[0] = s;
    sum[1] = t;
#else
    s = (int16_t)(uint16_t)(a[0] + b[0] + c[0]);
    t = (int16_t)(uint16_t)(a[1] + b[1] + c[1]);
    sum[0] = alone ? number + s : sum[0] + number * s;
    sum[1] = alone ? number + t : sum[1] + number * t;
#endif
  }
#endif
}

/* Adds the sums of a list, times 2^digit, to `sum`; the first ones to the correction. */
NN_INLINE void NN_combine(const NN_conv_t *conv, const NN_work_t *work, size_t rows, size_t pitch, unsigned digit,
                          int first, int32_t correction, const NN_tensor_t *out, int32_t *sum) {
  const int whole = pitch == out->pitch; /* rows that lie side by side are one */
  const size_t count = whole ? rows * pitch : out->pitch;
  size_t r, i;
  for (r = 0; r < rows; r += whole ? rows : 1, sum += out->pitch) {
    const uint16_t *a = work->column + r * pitch, *b = a + work->apart, *c = b + work->apart;
    c += conv->stride == 1u ? 1 : 0;
    if (first && digit == 0u && conv->columns == 3u) {
      NN_add_columns(a - 1, b, c, count, 1, correction, sum);
      continue;
    }
    for (i = 0; first && i < count; i++) {
      sum[i] = correction;
    }
    if (conv->columns == 3u) {
      NN_add_columns(a - 1, b, c, count, 0, 1 << digit, sum);
    } else {
      for (i = 0; i < count; i++) {
        sum[i] += (int32_t)(int16_t)a[i] * (1 << digit);
      }
    }
  }
}

/* The sums of an output channel in `rows` rows from row y on, in work->sum. */
NN_APART static void NN_convolve(const NN_conv_t *conv, const NN_lists_t *lists, const uint8_t *arena, size_t y,
                        size_t rows, const NN_tensor_t *out, const NN_work_t *work) {
  const NN_tensor_t *in = conv->input;
  const uint8_t *p = arena + in->start + y * conv->stride * in->pitch - conv->rows / 2u * (size_t)in->pitch;
  const size_t pitch = conv->stride == 1u ? in->pitch : (out->width + 7u) / 8u * 8u;
  const uint16_t *list = lists->list;
  size_t c, x, side;
  unsigned digit;
  for (c = 0; c < in->channels; c += conv->segment, p += conv->segment * in->plane) {
    for (digit = conv->digits; digit-- != 0u;) {
      for (side = 0; side < conv->sides; side++) {
        const int first = c == 0u && digit + 1u == conv->digits;
        for (x = 0; x < conv->columns; x++) {
          NN_column(conv, p, x, list, rows, pitch, work->column + x * work->apart);
          list += 2 + list[1];
          list += 1 + list[0];
        }
        NN_combine(conv, work, rows, pitch, digit, first, lists->correction[side], out,
                   work->sum + side * work->side);
      }
    }
  }
}
