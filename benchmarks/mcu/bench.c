/* Calls a network on images that it draws, and prints all logits' bits and the largest stack.
 *
 * network.h is written by building.py: it names the parts of the exported header. */
#include "network.h"

#include <string.h>

#include "board.h"

enum { PAINT = 0x5AFE57AC, CANARY = 0xC3, CANARIES = 64 };

/* Canaries stand right behind the arena. */
static struct {
  network_arena_t arena;
  uint8_t canaries[CANARIES];
} memory;

/* An image is bytes, so it may begin anywhere. The first one lies in the arena if the network has a
 * place for it there, and else at a word; others begin at any byte of a word. */
static uint8_t *place(uint32_t i) {
  static uint32_t room[IMAGE_BYTES / 4 + 2];
#ifdef NETWORK_IMAGE
  if (i % 2 == 0) {
    return NETWORK_IMAGE(&memory.arena);
  }
#endif
  return (uint8_t *)room + i % 4;
}

static uint32_t mixed(uint32_t x) {
  x = (x ^ x >> 16) * 0x7FEB352Du;
  x = (x ^ x >> 15) * 0x846CA68Bu;
  return x ^ x >> 16;
}

/* Noise, or patches of 2, 4 or 8 pixels; building.py's `images` are the same. */
static void draw(uint32_t i, uint8_t *image) {
  const uint32_t shift = i % 4;
  uint32_t y, x, c;
  for (y = 0; y < NETWORK_HEIGHT; y++) {
    for (x = 0; x < NETWORK_WIDTH; x++) {
      for (c = 0; c < NETWORK_CHANNELS; c++) {
        *image++ = (uint8_t)mixed(i << 26 ^ (y >> shift) << 14 ^ (x >> shift) << 2 ^ c ^ i >> 6);
      }
    }
  }
}

/* The bytes of stack that one call of the network writes. The counter takes its return to here as
 * the end of the call. */
__attribute__((noipa)) static uint32_t measured_call(const uint8_t *image, float *logits) {
  uint32_t *top, *p;
  __asm__ volatile(STACK_POINTER : "=r"(top));
  for (p = bss_end; p < top; p++) {
    *p = PAINT;
  }
  network_logits(image, logits, &memory.arena);
  for (p = bss_end; p < top && *p == PAINT; p++) {
  }
  return (uint32_t)(top - p) * 4u;
}

static int canaries_live(void) {
  size_t i;
  for (i = 0; i < CANARIES; i++) {
    if (memory.canaries[i] != CANARY) {
      return 0;
    }
  }
  return 1;
}

int main(void) {
  const uint32_t images = argument();
  uint32_t i, j, stack = 0;
  memset(memory.canaries, CANARY, CANARIES);
  for (i = 0; i < images; i++) {
    float logits[NETWORK_CLASSES];
    uint32_t bits, used;
    draw(i, place(i));
    used = measured_call(place(i), logits);
    stack = used > stack ? used : stack;
    say("logits");
    for (j = 0; j < NETWORK_CLASSES; j++) {
      memcpy(&bits, logits + j, sizeof bits);
      say(" ");
      say_bits(bits);
    }
    say("\n");
  }
  say("arena ");
  say_number(sizeof memory.arena);
  say("\nstack ");
  say_number(stack);
  say(canaries_live() ? "\ncanaries live\n" : "\ncanaries overwritten\n");
  return canaries_live() ? 0 : 1;
}
