"""A process of its own for what is to be killed, without a start of Python: a fork of this one."""

import os
import traceback


def forked(work, *arguments):
    """Call a function in a fork; return how it ended, minus the number of a signal or the exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
