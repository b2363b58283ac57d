/* What a program on a machine without an operating system has: a way to speak, and an end. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Symbols of machine.ld, in the order of memory. */
extern uint32_t data_in_flash[], data_start[], data_end[], bss_end[], stack_top[];

/* Prints text. */
void say(const char *text);

/* Prints a number in decimal digits. */
void say_number(uint32_t number);

/* Prints the eight hexadecimal digits of a word. */
void say_bits(uint32_t bits);

/* The number on the command line of the emulator; 1 without one. */
uint32_t argument(void);

/* Copies .data, clears .bss, runs main and ends the emulator with its status. */
void begin(void) __attribute__((noreturn));

/* One call of the debugger that the emulator plays: each architecture has its own instruction. */
intptr_t semihosting(intptr_t operation, const void *parameter);

#endif
