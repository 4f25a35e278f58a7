"""A Python that has imported the package once and runs each command in a fork of itself.

To import torch, transformers and what they bring takes ten seconds, longer than most commands of the tests take after
it. ``serve`` imports and waits; the same file with the socket's path before a command line of Python's stands for
``python``: it hands its files, folder and environment over, passes signals on, and ends as the fork ends. Where it is
killed itself, the fork is killed within ten milliseconds.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
import types
from contextlib import suppress

PASSED_ON = (signal.SIGINT, signal.SIGTERM)


def command(path, arguments):
    """Have the command line run, and end as it ends."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [b"-"], [0, 1, 2])
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        server.sendall(json.dumps(request).encode() + b"\n")
        told = server.makefile()
        process = int(told.readline())
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(process, number))
        code = int(told.readline())
    if code < 0:
        if -code in PASSED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(path):
    """Import, then run commands until stdin is closed."""
    import torch

    import recbole_llmtrsr.quick_start
    import recbole_llmtrsr.recommend  # noqa: F401

    torch.set_num_threads(1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        gc.collect()
        gc.freeze()  # pages stay shared with the forks
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                attend(connection)
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def attend(connection):
    """Run one command in a fork, and tell its end; it is killed where the one who asked was killed."""
    _, files, *_ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile("rb").readline())
    process = os.fork()
    if process == 0:
        connection.close()
        os._exit(run(request, files))
    for file in files:
        os.close(file)
    connection.sendall(f"{process}\n".encode())
    ended = 0
    while not ended:
        if select.select([connection], [], [], 0.01)[0]:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os._exit(0)
        ended, status = os.waitpid(process, os.WNOHANG)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def run(request, files):
    """The exit code of a command line, run in this process as in a new one."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable = os.environ["WARM_PYTHON"]
    sys.path[:1] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        start(request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def start(arguments):
    """What ``python`` does with its arguments: -u, -W and -X change nothing here."""
    while arguments[0] in ("-u", "-W", "-X"):
        arguments = arguments[1 if arguments[0] == "-u" else 2 :]
    if arguments[0] == "-c":
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        command(sys.argv[1], sys.argv[2:])
