"""What the log says about an exception that a request ended with."""

import errno
import logging
import os

import pytest

from speechpipe.interfaces.api.errors import log_unforeseen, unforeseen


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no_space"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "no_space"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "overloaded"),
        (MemoryError(), "overloaded"),
    ],
)
def test_what_the_machine_lacks_is_one_line(caplog: pytest.LogCaptureFixture, error: Exception, cause: str) -> None:
    log_unforeseen(unforeseen(error), error, "POST '/x'")
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert record.getMessage().startswith(f"{cause}: ")
    assert "\n" not in caplog.text.rstrip()


def test_a_defect_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        _ = [1][int(str(2))]
    except IndexError as error:
        log_unforeseen(unforeseen(error), error, "POST '/x'")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "Traceback" in caplog.text
