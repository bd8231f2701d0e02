"""Settings that every job with a language model shares."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from configs.load import Settings
from datagen.llm.records import Request

Share = Annotated[float, Field(gt=0, le=1)]
Warmth = Annotated[float, Field(ge=0, le=2)]


class ModelSettings(Settings):
    """Which model, how it is asked, and how fast."""

    provider: Literal["openai", "gemini", "local", "replay"] = "openai"
    model: str  # the provider's name of it; for local a folder or a Hugging Face name
    base_url: str | None = None  # openai: any server that speaks its protocol, as http://localhost:11434/v1
    key_env: str | None = None  # environment variable with the key; None: the provider's usual one
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"  # how the shape of replies is asked for
    thinking_tokens: Annotated[int, Field(ge=0)] | None = None  # gemini: most tokens of thoughts; they count as reply
    timeout_s: PositiveFloat = 60
    replay: Path | None = None  # replay: JSONL of answers

    precision: Literal["auto", "fp32", "fp16", "bf16", "8bit", "4bit"] = "auto"  # local: auto is fp16 on a GPU
    batch: PositiveInt = 8  # local: requests generated together
    repetition_penalty: PositiveFloat = 1.05  # local

    temperature: Warmth = 0.8
    top_p: Share = 0.9
    retry_temperature: Warmth = 0.55  # of a re-ask
    retry_top_p: Share = 0.85
    max_tokens: PositiveInt = 256  # longest reply
    seed: int = 0  # another seed asks everything anew

    max_attempts: PositiveInt = 2  # replies per request before it is failed: the first and the re-asks
    retries: Annotated[int, Field(ge=0)] = 6  # after 429, 5xx, timeouts and lost connections
    backoff_s: PositiveFloat = 1  # first wait, doubled each time
    concurrency: PositiveInt = 8
    rpm: PositiveInt | None = None  # requests, tokens per minute; requests per day (UTC)
    tpm: PositiveInt | None = None
    rpd: PositiveInt | None = None
    prices: Path | None = None  # price table; None: configs/datagen/prices.yaml
    batch_api: bool = False  # openai: half the price within a day, instead of at once
    batch_requests: PositiveInt = 10000  # most requests of one batch
    poll_s: PositiveFloat = 60  # seconds between looks at a batch

    @model_validator(mode="after")
    def _fits(self):
        if self.provider == "replay" and self.replay is None:
            raise ValueError("the replay provider needs replay=FILE")
        if self.batch_api and self.provider != "openai":
            raise ValueError(f"batch_api needs provider openai, but got {self.provider}")
        return self

    def request(self, messages: tuple[dict, ...], schema: dict, rules: str) -> Request:
        """The first ask of these messages.

        Args:
            schema: JSON schema of the reply.
            rules: version of the prompt and the rules; another version is another request.
        """
        return Request(
            model=self.model,
            messages=messages,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            schema=schema,
            seed=self.seed,
            rules=rules,
        )
