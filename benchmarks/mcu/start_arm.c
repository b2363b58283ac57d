/* Start-up of a Cortex-M: the vector table, and what is switched on before the first call. */
#include "board.h"

#define COPROCESSORS (*(volatile uint32_t *)0xE000ED88u)
#define CONFIGURATION (*(volatile uint32_t *)0xE000ED14u)
#define FAULT_STATUS (*(volatile uint32_t *)0xE000ED28u)
enum { FULL_ACCESS_TO_10_AND_11 = 0xF << 20, UNALIGN_TRP = 1 << 3, UNALIGNED = 1 << 24 };

void _exit(int status);

static void reset(void) {
#ifdef __ARM_ARCH_6M__
  /* A Cortex-M0 has no unaligned accesses. A machine with a larger core shall refuse them too. */
  CONFIGURATION |= UNALIGN_TRP;
#else
  /* Floating-point and vector instructions. */
  COPROCESSORS |= FULL_ACCESS_TO_10_AND_11;
#endif
  __asm__ volatile("dsb\n isb" ::: "memory");
  begin();
}

static void fault(void) {
  say((FAULT_STATUS & UNALIGNED) != 0 ? "FAULT: unaligned access\n" : "FAULT\n");
  _exit(1);
}

typedef void (*handler_t)(void);

/* Of the exceptions, only faults can come: no interrupt is switched on. */
__attribute__((section(".vectors"), used)) static const handler_t vectors[16] = {
    (handler_t)stack_top, reset, fault, fault, fault, fault, fault, fault,
};

intptr_t semihosting(intptr_t operation, const void *parameter) {
  register intptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = parameter;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}
