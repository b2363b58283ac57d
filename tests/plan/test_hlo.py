"""Figures read from a TPU program that is small enough to work out by hand."""

from apprentice_jax.plan import hlo

TEXT = """HloModule jit_step, is_scheduled=true

%fused_computation (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %inside = f32[8,128]{1,0:T(8,128)} add(%x, %x), metadata={op_name="jit(s)/jvp(student)/add"}
}

ENTRY %main (p: f32[8,128], q: bf16[100,128]) -> (f32[8,128]) {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  %q = bf16[100,128]{1,0:T(8,128)(2,1)} parameter(1)
  %kept = bf16[100,128]{1,0:T(8,128)(2,1)} fusion(%q), kind=kOutput, calls=%c, \
metadata={op_name="jit(s)/jvp(student)/conv_general_dilated" source_line=3}, \
backend_config={"window_config":{},"estimated_cycles":"1000"}
  %gone = f32[8,128]{1,0:T(8,128)} fusion(%kept), kind=kLoop, calls=%c, \
metadata={op_name="jit(s)/jvp(teacher)/relu"}, backend_config={"estimated_cycles":"20"}
  %core = f32[8,128]{1,0:T(8,128)S(1)} fusion(%gone), kind=kLoop, calls=%c, \
metadata={op_name="jit(s)/jvp(student)/relu"}, backend_config={"estimated_cycles":"5"}
  %same = f32[1024]{0:T(1024)} bitcast(%core)
  %grad = f32[16,100]{0,1:T(8,128)} fusion(%same, %kept), kind=kOutput, calls=%c, \
metadata={op_name="jit(s)/transpose(jvp(student))/head/dot_general"}, \
backend_config={"estimated_cycles":"300"}
  %all-reduce-start = (f32[16,100]{0,1:T(8,128)}, f32[7]{0:T(128)}) all-reduce-start(%grad, \
%same), replica_groups={{0,1}}, to_apply=%add
  %all-reduce-done = (f32[16,100]{0,1:T(8,128)}, f32[7]{0:T(128)}) \
all-reduce-done(%all-reduce-start)
  %loss = f32[]{:T(128)} all-reduce(%same), to_apply=%add, metadata={op_name="jit(s)/pmean"}
  %looked = f32[8,128]{1,0:T(8,128)} fusion(%p), kind=kLoop, calls=%c, \
metadata={op_name="jit(s)/health/cond/branch_1_fun/add"}, backend_config={"estimated_cycles":"70"}
  %update = f32[8,128]{1,0:T(8,128)} fusion(%p, %all-reduce-done), kind=kLoop, calls=%c, \
metadata={op_name="jit(s)/optimizer/sub"}, backend_config={"estimated_cycles":"9"}
  ROOT %out = (f32[8,128]{1,0:T(8,128)}) tuple(%update)
}
"""


def test_cycles_belong_to_the_part_of_the_step():
  expected = {
    "student forward": 1005,
    "teacher forward": 20,
    "student backward": 300,
    "teacher backward": 0,
    "optimizer": 9,
    "health": 70,
    "dispatch": 0,
    "other": 0,
  }
  assert hlo.cycles(TEXT) == expected


def test_what_stands_outside_the_loop_of_steps_is_done_once():
  entry = """
ENTRY %main.2 (q: u8[8]) -> u8[8] {
  %layout = u8[8]{0} copy(%q), metadata={op_name="jit(s)/jvp(student)/relu"}, \
backend_config={"estimated_cycles":"7"}
}
"""
  body = TEXT.replace("\nENTRY %", "\n%")
  found, whole = hlo.cycles(body + entry, looped=True), hlo.cycles(TEXT)
  assert found == {**whole, "dispatch": 7}
  assert hlo.cycles(body + entry)["student forward"] == whole["student forward"] + 7


def test_all_reduces_count_once_and_without_padding():
  assert hlo.all_reduces(TEXT) == [(16 * 100 + 7) * 4, 4]


def test_sizes_are_those_of_whole_tiles():
  size = lambda text: hlo._size(*hlo._ARRAY.findall(text)[0])
  assert size("bf16[100,128]{1,0:T(8,128)(2,1)}") == 104 * 128 * 2
  assert size("f32[16,100]{0,1:T(8,128)}") == 128 * 104 * 4  # the minor dimension is the first
  assert size("f32[3,5,7]{2,1,0:T(8,128)}") == 3 * 8 * 128 * 4
  assert size("f32[3,5,7]{2,1,0}") == 3 * 5 * 7 * 4
  assert size("s8[]") == 1 and size("pred[9]{0:T(1024)}") == 1024


def test_memory_follows_the_schedule():
  found = hlo.memory(TEXT)
  kept, grad = 104 * 128 * 2, 128 * 104 * 4
  # Alive when the backward pass begins, from before; what is on the core (S(1)) takes no memory.
  assert found.activations == kept
  assert found.peak == kept + grad  # at %grad
