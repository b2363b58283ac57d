/* A plugin of QEMU that counts one call of a function.
 *
 * Arguments, addresses in hexadecimal: code=FIRST-END, the program's instructions; entry=ADDRESS,
 * where the call begins; back=FIRST-END, the function that it returns to; parent=FIRST-END, the
 * function whose own calls are counted apart if they take least=NUMBER instructions; out=FILE.
 *
 * The file has a line "part CALLEE" for each of these calls in turn, and for what lies between two
 * of them (CALLEE is 0). Then comes a line for each instruction that ran: part, address, times
 * executed, times that it jumped, and further bus accesses that its unaligned accesses took.
 *
 * Declarations are those of QEMU's API, version 1: docs/devel/tcg-plugins.rst. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
typedef void (*translated_t)(qemu_plugin_id_t, void *block);
typedef void (*executed_t)(unsigned cpu, void *data);
typedef void (*accessed_t)(unsigned cpu, qemu_plugin_meminfo_t, uint64_t address, void *data);
typedef void (*ended_t)(qemu_plugin_id_t, void *data);
enum { NO_REGISTERS = 0, READS_AND_WRITES = 3 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
void qemu_plugin_register_vcpu_tb_exec_cb(void *block, executed_t, int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(void *insn, accessed_t, int flags, int rw, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended_t, void *data);
size_t qemu_plugin_tb_n_insns(const void *block);
void *qemu_plugin_tb_get_insn(const void *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const void *insn);
size_t qemu_plugin_insn_size(const void *insn);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
EXPORTED int qemu_plugin_version = 1;

typedef struct {
  uint64_t first, end;
} range_t;

/* A block of instructions that QEMU runs from its first to its last. */
typedef struct {
  uint64_t end; /* behind its last instruction */
  size_t length;
  uint64_t at[];
} block_t;

typedef struct {
  uint64_t executed, jumped, unaligned;
} count_t;

typedef struct {
  uint64_t callee, instructions;
  count_t *counts; /* of every second byte of the code */
} part_t;

enum { PARTS = 256 };
static part_t parts[PARTS];
static unsigned part;
static enum { BEFORE, DURING, AFTER } call;
static const block_t *previous;
static range_t code, back, parent;
static uint64_t entry, least;
static const char *out;

static bool within(range_t range, uint64_t address) {
  return range.first <= address && address < range.end;
}

static size_t slots(void) { return (size_t)(code.end - code.first) / 2 + 1; }

static count_t *count_of(uint64_t address) {
  return &parts[part].counts[(address - code.first) / 2];
}

static void begin_part(uint64_t callee) {
  parts[part].callee = callee;
  if (parts[part].counts == NULL) {
    parts[part].counts = calloc(slots(), sizeof(count_t));
  }
}

/* Joins a part that is no layer with one before it that is none either. */
static void end_part(void) {
  part_t *this = &parts[part], *before = this - (part != 0);
  size_t i;
  if (this->instructions < least) {
    this->callee = 0;
  }
  if (part == 0 || this->callee != 0 || before->callee != 0) {
    part += part < PARTS - 2;
    return;
  }
  before->instructions += this->instructions;
  for (i = 0; i < slots(); i++) {
    before->counts[i].executed += this->counts[i].executed;
    before->counts[i].jumped += this->counts[i].jumped;
    before->counts[i].unaligned += this->counts[i].unaligned;
  }
  this->instructions = 0;
  memset(this->counts, 0, slots() * sizeof(count_t));
}

/* A jump out of the parent begins a part, and so does the return to it. */
static void follow(const block_t *next) {
  const bool inside = within(parent, next->at[0]);
  if (within(back, next->at[0])) {
    call = AFTER;
    end_part();
  } else if (previous == NULL) {
    begin_part(0);
  } else if (inside != within(parent, previous->at[0])) {
    end_part();
    begin_part(inside ? 0 : next->at[0]);
  }
}

static void execute(unsigned cpu, void *data) {
  const block_t *block = data;
  size_t i;
  (void)cpu;
  if (call == BEFORE && block->at[0] == entry) {
    call = DURING;
  }
  if (call != DURING) {
    return;
  }
  if (previous != NULL && previous->end != block->at[0]) {
    count_of(previous->at[previous->length - 1])->jumped++;
  }
  follow(block);
  if (call != DURING) {
    return;
  }
  for (i = 0; i < block->length; i++) {
    count_of(block->at[i])->executed++;
  }
  parts[part].instructions += block->length;
  previous = block;
}

static void access_memory(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
  const unsigned shift = qemu_plugin_mem_size_shift(info);
  (void)cpu;
  if (call == DURING && (address & ((1u << shift) - 1)) != 0) {
    /* A word at an odd address takes a byte, a halfword and a byte. */
    count_of((uintptr_t)data)->unaligned += (address & 1) != 0 && shift == 2 ? 2 : 1;
  }
}

static void translate(qemu_plugin_id_t id, void *translated) {
  const size_t length = qemu_plugin_tb_n_insns(translated);
  block_t *block = malloc(sizeof *block + length * sizeof block->at[0]);
  size_t i;
  (void)id;
  block->length = length;
  for (i = 0; i < length; i++) {
    void *insn = qemu_plugin_tb_get_insn(translated, i);
    block->at[i] = qemu_plugin_insn_vaddr(insn);
    block->end = block->at[i] + qemu_plugin_insn_size(insn);
    if (within(code, block->at[i])) {
      qemu_plugin_register_vcpu_mem_cb(insn, access_memory, NO_REGISTERS, READS_AND_WRITES,
                                       (void *)(uintptr_t)block->at[i]);
    }
  }
  if (within(code, block->at[0])) {
    qemu_plugin_register_vcpu_tb_exec_cb(translated, execute, NO_REGISTERS, block);
  }
}

static void write_counts(qemu_plugin_id_t id, void *data) {
  FILE *file = fopen(out, "w");
  uint64_t address;
  unsigned i;
  (void)id;
  (void)data;
  if (file == NULL || call != AFTER) {
    return; /* an empty file: the call did not end */
  }
  for (i = 0; i < part; i++) {
    fprintf(file, "part %" PRIx64 "\n", parts[i].callee);
  }
  for (i = 0; i < part; i++) {
    for (address = code.first; address < code.end; address += 2) {
      const count_t c = parts[i].counts[(address - code.first) / 2];
      if (c.executed != 0) {
        fprintf(file, "%u %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i, address,
                c.executed, c.jumped, c.unaligned);
      }
    }
  }
  fclose(file);
}

static void read_argument(const char *argument) {
  sscanf(argument, "code=%" SCNx64 "-%" SCNx64, &code.first, &code.end);
  sscanf(argument, "back=%" SCNx64 "-%" SCNx64, &back.first, &back.end);
  sscanf(argument, "parent=%" SCNx64 "-%" SCNx64, &parent.first, &parent.end);
  sscanf(argument, "entry=%" SCNx64, &entry);
  sscanf(argument, "least=%" SCNu64, &least);
  if (strncmp(argument, "out=", 4) == 0) {
    out = strdup(argument + 4);
  }
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
  int i;
  (void)info;
  for (i = 0; i < argc; i++) {
    read_argument(argv[i]);
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
  qemu_plugin_register_atexit_cb(id, write_counts, NULL);
  return 0;
}
