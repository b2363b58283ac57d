/* The part of a machine that is the same for all: memory at the start, output, the end.
 *
 * Output and exit go through semihosting: https://github.com/ARM-software/abi-aa, "semihosting". */
#include "board.h"

#include <stdio.h>
#include <stdlib.h>

enum { WRITE_CHARACTER = 0x03, WRITE_TEXT = 0x04, COMMAND_LINE = 0x15, EXIT_WITH_STATUS = 0x20 };
enum { APPLICATION_EXIT = 0x20026 };

int main(void);
void _exit(int status);
int _write(int file, const char *text, int bytes);

void begin(void) {
  const uint32_t *from = data_in_flash;
  uint32_t *to = data_start;
  while (to < data_end) {
    *to++ = *from++;
  }
  while (to < bss_end) {
    *to++ = 0;
  }
  exit(main());
}

void _exit(int status) {
  const uintptr_t reason[2] = {APPLICATION_EXIT, (uintptr_t)status};
  semihosting(EXIT_WITH_STATUS, reason);
  for (;;) {
  }
}

void say(const char *text) { semihosting(WRITE_TEXT, text); }

void say_number(uint32_t number) {
  char digits[11];
  char *first = digits + sizeof digits - 1;
  *first = '\0';
  do {
    *--first = (char)('0' + number % 10);
    number /= 10;
  } while (number != 0);
  say(first);
}

void say_bits(uint32_t bits) {
  char digits[9];
  int i;
  for (i = 0; i < 8; i++) {
    digits[i] = "0123456789abcdef"[bits >> (28 - 4 * i) & 15];
  }
  digits[8] = '\0';
  say(digits);
}

uint32_t argument(void) {
  char line[80] = "";
  const uintptr_t block[2] = {(uintptr_t)line, sizeof line};
  const char *digit = line;
  uint32_t number = 0;
  semihosting(COMMAND_LINE, block);
  while (*digit != '\0' && *digit != ' ') { /* the program's name */
    digit++;
  }
  if (*digit++ != ' ') {
    return 1;
  }
  while (*digit >= '0' && *digit <= '9') {
    number = number * 10 + (uint32_t)(*digit++ - '0');
  }
  return number;
}

/* The C library's stdout, which an exported network's own test prints to. */
#ifdef __PICOLIBC__
static int put(char c, FILE *file) {
  (void)file;
  semihosting(WRITE_CHARACTER, &c);
  return c;
}

static FILE standard = FDEV_SETUP_STREAM(put, NULL, NULL, _FDEV_SETUP_WRITE);
FILE *const stdout = &standard;
#else
int _write(int file, const char *text, int bytes) {
  int i;
  (void)file;
  for (i = 0; i < bytes; i++) {
    semihosting(WRITE_CHARACTER, text + i);
  }
  return bytes;
}
#endif
