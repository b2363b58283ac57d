"""restart.sh, run as a user would, on a command that ends in one way or another."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

RESTART = pathlib.Path(__file__).parents[2] / "launch" / "restart.sh"


def stand_in(tmp_path, body):
  """A command that counts its starts in the file `starts`; the number is `start`."""
  path = tmp_path / "command.py"
  path.write_text(
    textwrap.dedent("""
      import pathlib, signal, sys, time
      starts = pathlib.Path(__file__).with_name("starts")
      start = len(starts.read_text()) + 1 if starts.exists() else 1
      starts.write_text("x" * start)
  """)
    + textwrap.dedent(body)
  )
  return ["bash", str(RESTART), sys.executable, str(path)]


def starts(tmp_path):
  return len((tmp_path / "starts").read_text())


@pytest.mark.parametrize(
  "codes, expected", [((0,), 0), ((75, 75, 0), 0), ((75, 2), 2), ((130,), 130), ((1,), 1)]
)
def test_a_run_that_saved_is_started_again(codes, expected, tmp_path):
  done = subprocess.run(stand_in(tmp_path, f"sys.exit({codes!r}[start - 1])"), timeout=60)
  assert (done.returncode, starts(tmp_path)) == (expected, len(codes))


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_is_passed_on_and_ends_both(number, code, tmp_path):
  process = subprocess.Popen(
    stand_in(
      tmp_path,
      f"""
      def stop(*_):
        time.sleep(0.3)  # saves
        pathlib.Path(__file__).with_name("saved").touch()
        sys.exit({code})
      signal.signal({int(number)}, stop)
      print("ready", flush=True)
      time.sleep(60)
  """,
    ),
    stdout=subprocess.PIPE,
  )
  assert process.stdout.readline() == b"ready\n"
  process.send_signal(number)
  assert process.wait(30) == code
  assert (tmp_path / "saved").exists() and starts(tmp_path) == 1


def test_a_paused_command_has_not_ended(tmp_path):
  process = subprocess.Popen(
    stand_in(
      tmp_path,
      """
      import os
      print(os.getpid(), flush=True)
      while not pathlib.Path(__file__).with_name("go").exists():
        time.sleep(0.1)
  """,
    ),
    stdout=subprocess.PIPE,
  )
  command = int(process.stdout.readline())
  os.kill(command, signal.SIGSTOP)
  try:
    with pytest.raises(subprocess.TimeoutExpired):
      process.wait(3)
  finally:
    os.kill(command, signal.SIGCONT)
  (tmp_path / "go").touch()
  assert process.wait(30) == 0 and starts(tmp_path) == 1


def test_a_signal_reaches_a_paused_command(tmp_path):
  process = subprocess.Popen(
    stand_in(
      tmp_path,
      """
      import os
      signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
      print(os.getpid(), flush=True)
      time.sleep(60)
  """,
    ),
    stdout=subprocess.PIPE,
  )
  os.kill(int(process.stdout.readline()), signal.SIGSTOP)
  process.send_signal(signal.SIGTERM)
  assert process.wait(30) == 75 and starts(tmp_path) == 1
