"""One exception for everything that is the user's to mend, how a command reports it, and how Ctrl-C ends one."""

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OURS = ("common", "configs", "datagen", "detection", "language", "pipeline")


class UserError(Exception):
    """A mistake in usage or input. The message names what was wrong and what is allowed, in one line."""


def exit_with(main, argv=None):
    """Run a command's `main(argv) -> int` and leave with its status.

    A `UserError`, or a library that only an extra installs, becomes one line on stderr and status 2; Ctrl-C becomes
    status 130 without a traceback.
    """
    try:
        status = main(argv)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output (`| head`) has gone
        sys.stdout = None
        status = 141
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in OURS:
            raise
        print(f"error: {error.name} is not installed; requirements.txt has it", file=sys.stderr)
        status = 2
    except OSError as error:  # a full disk
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: {error.strerror} ({error.filename or 'while writing'}); what was written stays", file=sys.stderr)
        status = 2
    sys.exit(status)


@contextmanager
def gentle_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Within it the first Ctrl-C calls `stop`, so that what is in hand can be finished; the second one interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(*_) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
