"""Runs Python programs in forks of a process that has imported torch and fairseq, whose imports take seconds.

It is for tests of commands that start many programs. `client.py` stands in their PATH in place of the programs, and
hands on what it was called with: arguments, environment, folder, and its standard streams.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
import warnings
from pathlib import Path

# Not fairseq_cli, which sets up logging when it is imported, and nothing of the package, which --user-dir imports.
PRELOADED = ("torch", "fairseq.trainer", "fairseq.options", "fairseq.sequence_generator", "fairseq.tasks", "hydra")


def receive(connection):
    """A request, as a dictionary, and three file descriptors."""
    fds = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(3 * fds.itemsize))
    for _, _, content in ancillary:
        fds.frombytes(content)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 16)
    return json.loads(data), list(fds)


def attend(connection):
    """Say the number of the new process, wait for it, and say how it ended; in that process, return the request."""
    request, fds = receive(connection)
    program = os.fork()
    if program == 0:
        connection.close()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        return request
    for fd in fds:
        os.close(fd)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % program)
        _, status = os.waitpid(program, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def serve(address):
    """Wait for requests; returns one of them in a process of its own. Ends with standard input."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return attend(connection)
        connection.close()


def run(request):
    """What `python` or a program of this environment does with these words."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if os.environ.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    real, sys.executable = sys.executable, request["executable"]  # so that its own programs come here, too
    name, *words = request["words"]
    if name == "python" and words[0] in ("-m", "-c"):
        how, what, folder, sys.argv = words[0], words[1], os.getcwd(), words[:1] + words[2:]
    else:
        if name != "python":
            words.insert(0, str(Path(real).parent / name))
        how, what, folder, sys.argv = "file", words[0], str(Path(words[0]).resolve().parent), words
    sys.path[:1] = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif how == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    logging.getLogger().handlers.clear()  # some of them log something, which sets logging up
    logging.getLogger().setLevel(logging.WARNING)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    wanted = serve(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        run(wanted)
    except SystemExit as end:
        if not isinstance(end.code, (int, type(None))):
            raise
        code = end.code or 0
    # What the interpreter does at its end, but for taking the preloaded modules apart, which takes long.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
