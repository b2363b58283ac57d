/* Start-up of a 32-bit RISC-V in machine mode. */
#include "board.h"

void _exit(int status);

/* mtvec holds addresses that four divides. */
__attribute__((aligned(4), noreturn)) static void fault(void) {
  say("FAULT\n");
  _exit(1);
  for (;;) {
  }
}

__attribute__((used, noreturn)) static void reset(void) {
  __asm__ volatile(".option push\n .option arch, +zicsr\n csrw mtvec, %0\n .option pop" ::"r"(fault));
  begin();
}

__attribute__((section(".vectors"), naked, used)) void entry(void) {
  __asm__("la sp, stack_top\n j reset");
}

/* The debugger knows its call by the two instructions around it, none of them compressed. */
__attribute__((naked, noinline, aligned(16))) intptr_t semihosting(intptr_t operation,
                                                                   const void *parameter) {
  (void)operation;
  (void)parameter;
  __asm__(
      ".option push\n .option norvc\n"
      "slli x0, x0, 0x1f\n ebreak\n srai x0, x0, 7\n"
      ".option pop\n ret");
}
