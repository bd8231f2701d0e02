"""Providers: one method, from a request to a reply."""

import os
from typing import Protocol

from common.errors import UserError
from datagen.llm.records import Reply, Request
from datagen.llm.settings import ModelSettings


class Provider(Protocol):
    """A language model. Threads may call `complete` at the same time; it tries once, retries are the runner's."""

    def complete(self, request: Request) -> Reply:
        """Answer a request.

        Raises:
            RetryableError, RejectedError, FatalError: there is no reply; see `records`.
        """
        ...


def make_provider(settings: ModelSettings) -> Provider:
    """The provider that the settings name; its library is imported only here.

    Raises:
        UserError: its key or library is missing, or the model cannot be loaded.
    """
    try:
        if settings.provider == "replay":
            from datagen.llm.replay import ReplayProvider

            return ReplayProvider(settings.replay)
        if settings.provider == "local":
            from datagen.llm.local import LocalProvider

            return LocalProvider(settings)
        if settings.provider == "gemini":
            from datagen.llm.gemini import GeminiProvider

            return GeminiProvider(settings, key_of(settings, "GEMINI_API_KEY"))
        from datagen.llm.openai_ import OpenAIProvider

        return OpenAIProvider(settings, key_of(settings, "OPENAI_API_KEY"))
    except ImportError as error:
        extra = "datagen,train" if settings.provider == "local" else "datagen"
        raise UserError(
            f"provider {settings.provider} needs {error.name or error}: pip install '.[{extra}]'"
        ) from error


def key_of(settings: ModelSettings, usual: str) -> str:
    """The key from the environment; servers of one's own (a base_url, and no key_env) need none.

    Raises:
        UserError: the variable is not set.
    """
    name = settings.key_env or usual
    if key := os.environ.get(name, "").strip():
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"what the environment variable {name} holds is no key")
        return key
    if settings.base_url and not settings.key_env:
        return "none"
    raise UserError(f"no key: set the environment variable {name} (key_env in the config names another)")
