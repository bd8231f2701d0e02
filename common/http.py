"""What HTTP says of trying again."""

import time
from email.utils import parsedate_to_datetime

AGAIN = (408, 409, 425, 429)  # statuses of refusals that pass


def retry_after(headers) -> float | None:
    """Seconds from a Retry-After header: a number or a date."""
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None
