"""Our own tokenizer: BPE over Korean and English with byte fallback, so that no emoji and no name is unknown.

One `tokenizer.json` serves training (through `PreTrainedTokenizerFast`) and inference (through `tokenizers`).
"""

import json
from collections.abc import Iterable
from pathlib import Path

SPECIALS = ["<pad>", "</s>", "<unk>"]
PAD, EOS, UNK = SPECIALS
SPACE = "\u2581"  # stands for a space inside tokens


def train_tokenizer(texts: Iterable[str], vocab_size: int, path: Path) -> None:
    """Learn a BPE vocabulary and write `tokenizer.json`; every input ends with `</s>` when encoded.

    The 256 byte tokens must not be special (special tokens vanish when decoding), so the learned vocabulary is
    rewritten with them in front.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    learner = Tokenizer(models.BPE())
    # marks stand alone, so that a name is the same token before a comma, a colon or nothing
    spaces = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    learner.pre_tokenizer = pre_tokenizers.Sequence([spaces, pre_tokenizers.Punctuation("isolated")])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIALS) - 256, min_frequency=2, show_progress=False, limit_alphabet=2500
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    head = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {token: number for number, token in enumerate([*head, *sorted(learned["vocab"], key=learned["vocab"].get)])}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=UNK, byte_fallback=True, fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = learner.pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace(SPACE, " "), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, vocab[EOS])])
    tokenizer.add_special_tokens(SPECIALS)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))


def for_training(path: Path):
    """The tokenizer as `transformers` wants it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token=PAD, bos_token=EOS, eos_token=EOS, unk_token=UNK)
