"""A process that calls a function of a user's Python file, again and again: this file is its program.

It reads pickles from its standard input, and writes them to its standard output, each after its length in 8 bytes:
first the file and the name of the function; then positional and keyword arguments of each call. It
answers with ``(True, result)``, or ``(False, (type, message, line))`` for a call that raised. It ends with its input,
so it does not outlive the process that has started it.
"""

import importlib.util
import os
import pickle
import signal
import sys
import traceback
from typing import IO, Any


def write(file: IO[bytes], thing: Any) -> None:
    """Write one pickle."""
    data = pickle.dumps(thing)
    file.write(len(data).to_bytes(8, "little") + data)
    file.flush()


def read(file: IO[bytes]) -> Any:
    """Read one pickle; EOFError if there is none any more."""
    length = file.read(8)
    data = file.read(int.from_bytes(length, "little")) if len(length) == 8 else b""
    if not data:
        raise EOFError("the other process has ended.")
    return pickle.loads(data)


def place(error: BaseException, other_than: str) -> str:
    """The line of the code that raised *error*, in brackets; "" if only the file *other_than* was reached."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != other_than]
    return f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


def main() -> None:
    """Call until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that has started this one
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints must not come between the answers
    path, name = read(source)
    spec = importlib.util.spec_from_file_location("fairseq_seqvae_user_reward", path)
    assert spec is not None and spec.loader is not None  # the caller has imported it, too
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name)
    while True:
        try:
            arguments, keywords = read(source)
        except EOFError:
            return
        try:
            answer: tuple[bool, Any] = True, function(*arguments, **keywords)
        except Exception as error:
            answer = False, (type(error).__name__, str(error), place(error, __file__))
        write(sink, answer)


if __name__ == "__main__":
    main()
