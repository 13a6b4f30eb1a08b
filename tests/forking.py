"""Processes that are to be killed, without a start of Python: forks of this one."""

import multiprocessing
import os
import warnings

FORK = multiprocessing.get_context("fork")


def forked(work, *arguments):
    """Call a function in a fork; return how it ended, minus the number of a signal or the exit status."""
    child = _start(work, *arguments)
    child.join()
    return child.exitcode


def started(work, *arguments):
    """Begin to call a function in a fork; return the process and the lines that it tells, a file.

    The function gets what tells a line, and the arguments.
    """
    reads, writes = os.pipe()
    child = _start(_telling, work, writes, *arguments)
    os.close(writes)
    return child, open(reads)


def _start(work, *arguments):
    child = FORK.Process(target=work, args=arguments)
    with warnings.catch_warnings():  # later Pythons warn of every fork beside threads; this one computes alone
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    return child


def _telling(work, writes, *arguments):
    with open(writes, "w", buffering=1) as lines:
        work(lambda *told: print(*told, file=lines, flush=True), *arguments)
