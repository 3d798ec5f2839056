"""Stands in for `python` and the programs of its environment: asks `server.py` to run them, and ends as they end.

The words in at signs are replaced where it is written to.
"""

import contextlib
import json
import os
import signal
import socket
import sys

ADDRESS = "@socket of the server@"
REAL = "@folder of the programs@"

name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "python" and not (words and (words[0] in ("-m", "-c") or not words[0].startswith("-"))):
    os.execv(os.path.join(REAL, name), [name, *words])
# A signal that comes before it can be handed on waits until then.
HANDED_ON = (signal.SIGINT, signal.SIGTERM)
signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
server = socket.socket(socket.AF_UNIX)
server.connect(ADDRESS)
request = {"words": [name, *words], "folder": os.getcwd(), "environment": dict(os.environ)}
request["executable"] = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python")
data = json.dumps(request).encode() + b"\n"
sent = socket.send_fds(server, [data[:1000]], [0, 1, 2])
server.sendall(data[sent:])
answers = server.makefile()
program = int(answers.readline())
for number in HANDED_ON:
    signal.signal(number, lambda number, _: os.kill(program, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
code = int(answers.readline())
if code < 0:
    with contextlib.suppress(OSError):  # of SIGKILL
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
