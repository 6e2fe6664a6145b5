"""A person at a terminal: runs the command in the arguments there, presses keys without Enter, and ends it by Ctrl-C.
Prints what the terminal showed, and whether it is as before."""

import os
import pty
import subprocess
import sys
import termios

controller, terminal = pty.openpty()
before = termios.tcgetattr(terminal)


def at_terminal():
    os.setsid()
    os.open(os.ttyname(0), os.O_RDWR)


process = subprocess.Popen(sys.argv[1:], stdin=terminal, stdout=terminal, preexec_fn=at_terminal)
shown = ""


def wait_for(words):
    global shown
    while words not in shown:
        shown += os.read(controller, 4096).decode()


for words, key in [("Keys: ", "f"), ("first fails", "h"), ("first is well", "\x03")]:
    wait_for(words)
    os.write(controller, key.encode())
wait_for(" alone: ")
code = process.wait()
print(shown)
print("exit code", code, "and the terminal is", "as before" if termios.tcgetattr(terminal) == before else "another")
