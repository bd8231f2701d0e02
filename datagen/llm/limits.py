"""How fast and how dear: token buckets for requests and tokens, waiting after a refusal, prices and token estimates."""

import random
import time
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveInt

from configs.load import Settings, load_settings
from datagen.llm.records import Reply, Request
from datagen.llm.settings import ModelSettings

PRICES = Path(__file__).parents[2] / "configs/datagen/prices.yaml"
LONGEST_WAIT_S = 60.0
PER_MESSAGE = 8  # tokens around each message, more than any known chat format needs


def estimate_tokens(request: Request, image_tokens: int = 0) -> int:
    """About how many prompt tokens: four ASCII characters or one other make a token."""
    plain = sum(map(str.isascii, request.text))
    return plain // 4 + len(request.text) - plain + PER_MESSAGE * len(request.messages) + _image(request, image_tokens)


def most_tokens(request: Request, image_tokens: int = 0) -> int:
    """Never fewer prompt tokens than a server will count: a token holds at least one byte."""
    schema = len(str(request.schema)) if request.schema else 0
    return len(request.text.encode()) + schema + PER_MESSAGE * len(request.messages) + _image(request, image_tokens)


def _image(request: Request, image_tokens: int) -> int:
    return len(request.images) * image_tokens


class Price(Settings):
    """USD per million tokens of one model."""

    prompt: NonNegativeFloat
    completion: NonNegativeFloat
    batch: NonNegativeFloat = 0.5  # share of the price that the batch API costs
    image_tokens: PositiveInt = 3000  # most prompt tokens of one picture

    def most(self, request: Request, batch: bool = False) -> float:
        """USD that a request can cost at most."""
        return self._cost(most_tokens(request, self.image_tokens), request.max_tokens, batch)

    def of(self, request: Request, reply: Reply, batch: bool = False) -> float:
        """USD of a reply by the server's token counts, or at most where it gives none."""
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return self.most(request, batch)
        return self._cost(reply.prompt_tokens, reply.completion_tokens, batch)

    def _cost(self, prompt: float, completion: float, batch: bool) -> float:
        return (prompt * self.prompt + completion * self.completion) / 1e6 * (self.batch if batch else 1)


FREE = Price(prompt=0, completion=0, batch=1)


class PriceTable(Settings):
    """The price file: when it was looked up, and each model's price."""

    as_of: str
    models: dict[str, Price]


def price_of(settings: ModelSettings) -> Price | None:
    """The price of the settings' model; local and replayed ones are free, None means unknown.

    Raises:
        UserError: the price file cannot be read or is wrong.
    """
    if settings.provider in ("local", "replay"):
        return FREE
    return load_settings(settings.prices or PRICES, PriceTable).models.get(settings.model)


class Bucket:
    """Up to `per_minute` units a minute, saved up for at most `burst_s` seconds."""

    def __init__(self, per_minute: float | None, burst_s: float = 5.0, now: float | None = None) -> None:
        self.rate = per_minute / 60 if per_minute else None
        self.most = max(1.0, burst_s * (self.rate or 0))
        self.level, self.at = self.most, time.monotonic() if now is None else now

    def wait(self, units: float, now: float) -> float:
        """Seconds until `units` may be taken; more than the bucket holds may be taken when it is full."""
        if self.rate is None:
            return 0.0
        self.level, self.at = min(self.most, self.level + (now - self.at) * self.rate), now
        return max(0.0, (min(units, self.most) - self.level) / self.rate)

    def take(self, units: float) -> None:
        """Take units; the level may go below zero and has to be waited for."""
        if self.rate is not None:
            self.level -= units


class Pace:
    """When the next request may be sent: under RPM and TPM, and not while the server wants to be left alone."""

    def __init__(self, settings: ModelSettings) -> None:
        self.requests, self.tokens = Bucket(settings.rpm), Bucket(settings.tpm)
        self.backoff_s, self.quiet_until = settings.backoff_s, 0.0

    def wait(self, request: Request) -> float:
        """Seconds until this request may be sent."""
        now = time.monotonic()
        units = estimate_tokens(request) + request.max_tokens
        return max(self.quiet_until - now, self.requests.wait(1, now), self.tokens.wait(units, now), 0.0)

    def take(self, request: Request) -> None:
        """Count a request that is sent now."""
        self.requests.take(1)
        self.tokens.take(estimate_tokens(request) + request.max_tokens)

    def back_off(self, tries: int, retry_after: float | None) -> float:
        """Seconds before a refused request is sent again: what the server says (then everyone waits), else doubled
        each time, up to a minute, with jitter so that not all come back at once."""
        if retry_after is not None:
            self.quiet_until = max(self.quiet_until, time.monotonic() + retry_after)
            return retry_after
        return min(LONGEST_WAIT_S, self.backoff_s * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
