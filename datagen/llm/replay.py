"""Recorded answers instead of a model: for tests and walk-throughs."""

import json
import threading
from pathlib import Path

from common.errors import UserError
from common.files import read_jsonl
from datagen.llm.records import RejectedError, Reply, Request


class ReplayProvider:
    """Answers from a JSONL: {"reply"} and, optionally, "hash" of the request, "finish", token counts.

    An answer with a hash belongs to that request; a request that has none gets the next answer without a hash.
    """

    def __init__(self, file: Path) -> None:
        try:
            rows = read_jsonl(file)
            answers = [(row.get("hash"), self._reply(row)) for row in rows]
        except OSError as error:
            raise UserError(f"cannot read the recorded answers {file}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f'{file} holds no recorded answers ({{"reply": …}} lines): {error}') from None
        self.by_hash = {digest: reply for digest, reply in answers if digest}
        self.in_order = iter([reply for digest, reply in answers if not digest])
        self.turn = threading.Lock()

    @staticmethod
    def _reply(row: dict) -> Reply:
        text = row["reply"] if isinstance(row["reply"], str) else json.dumps(row["reply"], ensure_ascii=False)
        return Reply(text, row.get("prompt_tokens", 0), row.get("completion_tokens", 0), row.get("finish", "stop"))

    def complete(self, request: Request) -> Reply:
        with self.turn:
            reply = self.by_hash.get(request.hash) or next(self.in_order, None)
        if reply is None:
            raise RejectedError("there is no recorded answer left for this request")
        return reply
