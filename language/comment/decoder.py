"""T5 and GPT-2 behind one face: likely next words, and sentences written to their end, run by CTranslate2."""

import sys
from collections import defaultdict
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from common.errors import UserError

LEAST_PROBABILITY = 0.002  # of a next token
THREADS = 2
MAX_TOKENS = 64  # of a sentence
MARKS = (".", "!", "~", "…")  # that end a sentence; in our tokenizer each is a token of its own


class Decoder:
    """A writer's weights and tokenizer.

    Log probabilities are natural, summed over what follows the prefix alone. Several threads may write at the same
    time; how many `threads` the engine has does not change what is written.

    Raises:
        UserError: the files are damaged.
    """

    def __init__(self, folder: Path, architecture: str, eos: str, threads: int = THREADS):
        from tokenizers import Tokenizer

        engine = {"t5": compiled().Translator, "gpt2": compiled().Generator}[architecture]
        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            # a batch on each thread: two threads on one small matrix cost ten times what they bring
            self.engine = engine(str(folder), device="cpu", compute_type="int8", inter_threads=threads, intra_threads=1)
        except Exception as error:  # both raise plain Exceptions for damaged files
            raise UserError(f"the writer in {folder} is damaged ({str(error).splitlines()[0][:120]})") from None
        self.is_t5, self.eos = architecture == "t5", eos
        self.marks = [mark for mark in MARKS if self.tokenizer.token_to_id(mark) is not None]

    def tokens(self, text: str) -> list[str]:
        """Tokens of a text, no `</s>` at its end."""
        return self.tokenizer.encode(text, add_special_tokens=False).tokens

    def text(self, tokens: list[str]) -> str:
        """The text of tokens; published models have more embeddings than their tokenizers have tokens."""
        ids = (self.tokenizer.token_to_id(token) for token in tokens)
        return self.tokenizer.decode([number for number in ids if number is not None]).strip()

    def next_tokens(
        self, source: list[str], prefixes: list[list[str]], width: int
    ) -> list[list[tuple[list[str], float]]]:
        """For each prefix up to `width` likeliest continuations by one token: (longer prefix, log probability)."""
        # one length at a time: CTranslate2 expands a batch at the end of its longest prefix
        by_length = defaultdict(list)
        for index, prefix in enumerate(prefixes):
            by_length[len(prefix)].append(index)
        options = {"num_hypotheses": width, "return_alternatives": True}
        options["end_token"] = self.tokenizer.id_to_token(0)  # padding: the end itself would never be an alternative
        options["min_alternative_expansion_prob"] = LEAST_PROBABILITY
        running = {}
        for indices in by_length.values():
            jobs = self._submit(source, [prefixes[i] for i in indices], 1, **options)
            running |= dict(zip(indices, jobs, strict=True))
        hypotheses = [self._hypotheses(prefixes[i], running[i].result()) for i in range(len(prefixes))]
        return [
            [(prefix + new, score) for new, score in found if new]
            for prefix, found in zip(prefixes, hypotheses, strict=True)
        ]

    def go_on(self, source: list[str], prefixes: list[list[str]]) -> list[tuple[list[str], float]]:
        """Each prefix written on, always the likeliest token, through the next mark that ends a sentence or the end
        token: (longer prefix, log probability)."""
        stops = {"end_token": [self.eos, *self.marks], "return_end_token": True}
        jobs = self._submit(source, prefixes, MAX_TOKENS, **stops)
        found = [self._hypotheses(prefix, job.result())[0] for prefix, job in zip(prefixes, jobs, strict=True)]
        return [(prefix + new, score) for prefix, (new, score) in zip(prefixes, found, strict=True)]

    def _submit(self, source: list[str], prefixes: list[list[str]], length: int, **options) -> list:
        """Start writing on; one job a prefix, in two batches, one a thread."""
        options = {"beam_size": 1, "return_scores": True, "length_penalty": 0, "asynchronous": True, **options}
        options["max_batch_size"] = -(-len(prefixes) // THREADS)
        if self.is_t5:
            length += max(map(len, prefixes), default=0)
            # by default the first new token is never the end
            options = {"target_prefix": prefixes, "min_decoding_length": 0, "max_decoding_length": length, **options}
            return self.engine.translate_batch([source] * len(prefixes), **options)
        options = {"end_token": self.eos, "include_prompt_in_result": False, **options}
        return self.engine.generate_batch([source + p for p in prefixes], max_length=length, **options)

    def _hypotheses(self, prefix: list[str], result) -> list[tuple[list[str], float]]:
        """(new tokens, summed log probability) of a job's result."""
        new = [h[len(prefix) :] for h in result.hypotheses] if self.is_t5 else result.sequences
        return list(zip(new, result.scores, strict=True))


@cache
def compiled():
    """CTranslate2's compiled module, which has its engines.

    `import ctranslate2` imports torch and transformers where they are installed, for its converters alone: two seconds
    that a run-time start cannot afford. On Windows only the package knows where its libraries lie.
    """
    if sys.platform == "win32" or "ctranslate2" in sys.modules:
        import ctranslate2

        return ctranslate2
    folder = Path(find_spec("ctranslate2").origin).parent
    file = PathFinder.find_spec("_ext", [str(folder)]).origin
    spec = spec_from_file_location("ctranslate2._ext", file)  # the name under which the package would import it
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
