"""Being told to stop: signals, and several processes that stop after the same step."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading

import pytest

from apprentice_jax.errors import Preempted
from apprentice_jax.training import preemption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_a_second_interrupt_acts(number):
  received = []
  usual = signal.signal(number, lambda *_: received.append("acts"))
  try:
    with preemption.listening():
      assert preemption.requested() is None
      with preemption.listening():  # inside another, nothing changes
        signal.raise_signal(number)
      assert preemption.requested() == number and not received
      with preemption.listening():  # a run of a study that begins after the signal
        assert preemption.requested() == number
      signal.raise_signal(number)
      assert received == ["acts"] * (number == signal.SIGINT)
    assert preemption.requested() is None
    received.clear()
    signal.raise_signal(number)
    assert received == ["acts"]
  finally:
    signal.signal(number, usual)


def test_other_threads_do_not_listen():
  handlers = []

  def work():
    with preemption.listening():
      handlers.append(signal.getsignal(signal.SIGTERM))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert handlers == [signal.getsignal(signal.SIGTERM)] == [signal.SIG_DFL]


def test_exit_codes():
  assert Preempted("saved").exit_code == 75
  assert Preempted("saved", signal.SIGINT).exit_code == 130


def test_processes_agree_on_the_step_at_which_they_stop():
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  code = textwrap.dedent(f"""
      import sys, time, jax
      number = int(sys.argv[1])
      jax.distributed.initialize("localhost:{port}", 2, number)
      from apprentice_jax.training import preemption
      with preemption.listening():
        preemption.requested()
        print("ready", flush=True)
        for step in range(1, 3000):
          time.sleep(0.005 * (1 + number))  # one is ahead of the other
          assert preemption.requested(together=False) is None
          if preemption.requested():
            print("stopped at", step, flush=True)
            break
      jax.distributed.shutdown()
  """)
  environment = dict(os.environ, XLA_FLAGS="")
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", code, str(i)], stdout=subprocess.PIPE, text=True, env=environment
    )
    for i in range(2)
  ]
  try:
    for process in processes:
      assert any(line == "ready\n" for line in iter(process.stdout.readline, ""))
    processes[1].send_signal(signal.SIGTERM)
    lines = [p.communicate(timeout=60)[0] for p in processes]
  finally:
    for process in processes:
      process.kill()
  assert lines[0] == lines[1] and lines[0].startswith("stopped at ")
