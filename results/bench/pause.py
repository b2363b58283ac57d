"""What a training step costs after a pause, on CPU: its time, the kernel's part, page faults,
voluntary context switches.

    python results/bench/pause.py [BATCH WIDTH STEPS]
        128 1: ResNet-20 and its ResNet-20 teacher, scheme A, full precision; STEPS: in a dispatch,
        of which all figures are a step's: 1, or 4, as training takes them
    GLIBC_TUNABLES=... python results/bench/pause.py 512 0.5
        with glibc's memory otherwise than the command has it

Set GLIBC_TUNABLES to `apprentice_jax.environment.MALLOC` for what the command does.
"""

import os
import resource
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # as the command

PAUSES, STEPS = (0, 1, 3, 0, 3), 6  # seconds; dispatches after each


def main(batch: str = "128", width: str = "1", together: str = "1"):
  from apprentice_jax import config as configs
  from apprentice_jax.bench import step
  from apprentice_jax.training import devices

  config = configs.base()
  config.update_from_flattened_dict(
    {
      "batch_size": int(batch),
      "scheme": "A",
      "precision": "32A,32W",
      "student.width": float(width),
      "teacher.width": float(width),
    }
  )
  devices.start(config.cpu_devices)
  steps = int(together)
  built = step.settings(config, 10)._replace(steps_per_dispatch=steps)
  take = step.stepper(built, step.loss_weights(config), config.batch_size, (32, 32, 3))
  for _ in range(3):
    take()
  for pause in PAUSES:
    time.sleep(pause)
    print(f"after {pause} s:", "; ".join(one(take, steps) for _ in range(STEPS)), flush=True)


def one(take, steps: int) -> str:
  before, seconds = resource.getrusage(resource.RUSAGE_SELF), take()
  after = resource.getrusage(resource.RUSAGE_SELF)
  return (
    f"{1000 * seconds:.0f} ms, kernel {1000 * (after.ru_stime - before.ru_stime) / steps:.0f} ms, "
    f"{(after.ru_minflt - before.ru_minflt) // steps} faults, "
    f"{(after.ru_nvcsw - before.ru_nvcsw) // steps} switches"
  )


if __name__ == "__main__":
  main(*sys.argv[1:])
