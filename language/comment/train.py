"""Train a comment writer.

    python -m language.comment.train --config configs/comment/t5_pocket.yaml

Pairs come from a JSONL file (`pairs=FILE`) or are composed from the phrase bank. Held out are whole element sets,
never single lines. The best checkpoint by held-out loss is exported for CTranslate2 (int8). A run that was
interrupted goes on where it stopped.
"""

import json
import shutil
from pathlib import Path

from configs.errors import UserError, exit_with
from configs.load import Settings, settings_command
from language.comment import corpus
from language.records import ElementList, Pair, read_jsonl
from language.render import PLAN_END, RENDER_VERSION, render_target
from language.tokenizer import EOS, PAD, for_training, train_tokenizer


class WriterSettings(Settings):
    """Settings of one run. Only T5 is built so far."""

    pairs: Path | None = None  # JSONL of {"elements", "comment"}; composed from the phrase bank where absent
    count: int = 180000  # how many pairs to compose
    run: Path
    start: Path | None = None  # a folder of weights to go on from, in transformers' format
    vocab_size: int = 5000
    d_model: int = 256
    d_ff: int = 1024
    num_heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 4
    dropout: float = 0.1
    epochs: float = 1
    patience: int = 3
    batch: int = 32
    lr: float = 2.5e-2  # relative to the size of each weight matrix, as Adafactor scales it
    held_out_share: float = 0.01
    eval_steps: int = 1000
    seed: int = 0
    export: Path | None = None  # folder for the CTranslate2 model


def load_pairs(settings: WriterSettings) -> list[Pair]:
    """The pairs of a run.

    Raises:
        UserError: the file is missing, has a bad line, or holds too few pairs.
    """
    if not settings.pairs:
        return corpus.build(settings.count, settings.seed)
    try:
        pairs = read_jsonl(settings.pairs)
    except OSError as error:
        raise UserError(f"cannot read the pairs {settings.pairs}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    if len(pairs) < 10:
        raise UserError(f"{settings.pairs} holds {len(pairs)} pairs; at least 10 are needed")
    return pairs


def new_model(settings: WriterSettings, vocab_size: int):
    """A T5 built from settings with random weights, or the one in `settings.start`."""
    from transformers import T5Config, T5ForConditionalGeneration

    if settings.start:
        return T5ForConditionalGeneration.from_pretrained(settings.start)

    config = T5Config(
        vocab_size=vocab_size,
        d_model=settings.d_model,
        d_kv=settings.d_model // settings.num_heads,
        d_ff=settings.d_ff,
        num_layers=settings.encoder_layers,
        num_decoder_layers=settings.decoder_layers,
        num_heads=settings.num_heads,
        dropout_rate=settings.dropout,
        feed_forward_proj="relu",
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def encode(pairs: list[Pair], tokenizer):
    """A `datasets.Dataset` with input_ids and labels, unpadded."""
    from datasets import Dataset

    columns = {
        "input_ids": tokenizer([p.elements for p in pairs])["input_ids"],
        "labels": tokenizer([render_target(ElementList.parse(p.elements), p.comment) for p in pairs])["input_ids"],
    }
    return Dataset.from_dict(columns)


def train(settings: WriterSettings) -> Path:
    """Run one training; returns the folder of the best checkpoint in transformers' format."""
    from transformers import (
        Adafactor,
        DataCollatorForSeq2Seq,
        EarlyStoppingCallback,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        set_seed,
    )
    from transformers.trainer_utils import get_last_checkpoint

    pairs = load_pairs(settings)
    settings.run.mkdir(parents=True, exist_ok=True)
    settings.save(settings.run / "settings.yaml")
    train_pairs, held_out = corpus.split_by_elements(pairs, settings.held_out_share, settings.seed)
    vocabulary = settings.run / "tokenizer.json"
    if not vocabulary.exists():
        train_tokenizer(
            (text for p in train_pairs for text in (p.elements, p.comment, PLAN_END)), settings.vocab_size, vocabulary
        )
    tokenizer = for_training(vocabulary)
    set_seed(settings.seed)
    model = new_model(settings, len(tokenizer))
    print(f"{len(train_pairs)} pairs, {len(held_out)} held out, {model.num_parameters():,} parameters")
    # T5's initial weights differ a hundredfold in size between matrices: steps must be relative to them.
    # AdamW needs six times as many pairs to get as far (docs/experiments.md).
    optimizer = Adafactor(model.parameters(), lr=settings.lr, scale_parameter=True, relative_step=False)
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(settings.run / "checkpoints"),
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch * 2,
        lr_scheduler_type="cosine",
        warmup_steps=300,
        weight_decay=0.01,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        eval_steps=settings.eval_steps,
        save_steps=settings.eval_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=50,
        report_to=[],
        seed=settings.seed,
        dataloader_pin_memory=False,
    )
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=encode(train_pairs, tokenizer),
        eval_dataset=encode(held_out, tokenizer),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model, label_pad_token_id=-100),
        callbacks=[EarlyStoppingCallback(settings.patience)],
        optimizers=(optimizer, None),
    )
    checkpoints = Path(arguments.output_dir)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None)
    best = settings.run / "best"
    trainer.save_model(str(best))
    tokenizer.save_pretrained(str(best))
    figures = {
        "held_out_loss": trainer.evaluate()["eval_loss"],
        "train_pairs": len(train_pairs),
        "held_out_pairs": len(held_out),
    }
    (settings.run / "figures.json").write_text(json.dumps(figures, indent=1), "utf-8")
    if settings.export:
        export(best, vocabulary, settings.export)
    return best


def export(model: Path, vocabulary: Path, target: Path) -> None:
    """Write the CTranslate2 int8 folder that `CommentWriter` reads: model, tokenizer and how inputs are rendered."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(target), quantization="int8", force=True)
    shutil.copy(vocabulary, target / "tokenizer.json")
    card = {
        "architecture": "t5",
        "lang": "ko",
        "styles": ["polite"],
        "render_version": RENDER_VERSION,
        "pad": PAD,
        "eos": EOS,
    }
    (target / "writer.json").write_text(json.dumps(card, indent=1), "utf-8")


main = settings_command("language.comment.train", __doc__, WriterSettings, train)


if __name__ == "__main__":
    exit_with(main)
