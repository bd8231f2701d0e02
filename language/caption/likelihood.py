"""How well a caption fits a photo: log p(caption | photo) - log p(caption | blank photo), in nats.

The second term takes away what makes a caption likely under any photo (short, common words), as pointwise mutual
information does (Li et al. 2016, "A Diversity-Promoting Objective Function"): a captioner that does not look at photos
scores 0 for every caption, and all candidates then tie.
"""

import random
from collections.abc import Iterator

from language.caption.photos import open_rgb
from language.caption.scores import plain, rank

IGNORED = -100  # what PyTorch's cross entropy leaves out
BATCH = 64
# Mid grey: photos' normalisation maps it to about 0, it is neither dark nor light, and nothing is to be seen in it.
BLANK = (128, 128, 128)


def blank_photo():
    """The picture that shows nothing."""
    from PIL import Image

    return Image.new("RGB", (224, 224), BLANK)


def seen(model, processor, image):
    """What the encoder says of an upright RGB picture: (1, places, hidden size)."""
    import torch

    pixels = processor(images=[image], return_tensors="pt").pixel_values.to(model.device)
    with torch.inference_mode():
        return model.eval().encoder(pixel_values=pixels).last_hidden_state


def log_likelihoods(model, tokenizer, hidden, texts: list[str]) -> list[float]:
    """log p(text | photo) of each text, end included, in nats; `hidden` is what `seen` gave for the photo."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    found, places = [], model.config.decoder.max_position_embeddings
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    ids = [torch.tensor([*row, tokenizer.eos_token_id][:places]) for row in ids]
    for first in range(0, len(ids), BATCH):
        labels = pad_sequence(ids[first : first + BATCH], batch_first=True, padding_value=IGNORED).to(model.device)
        inputs = {"encoder_outputs": (hidden.repeat(len(labels), 1, 1),), "labels": labels}
        with torch.inference_mode():
            logits = model.eval()(**inputs, decoder_attention_mask=(labels != IGNORED).long()).logits
        losses = cross_entropy(logits.float().transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
        found += (-losses.sum(1)).tolist()
    return found


def candidates(references: dict[str, list[str]], distractors: int, seed: int) -> list[list[str]]:
    """For each photo, one of its captions and then one caption each of `distractors` other photos.

    A caption that the photo has, too, is no distractor. Where there are fewer photos, there are fewer distractors.
    The same photos, number and seed give the same candidates for every captioner.
    """
    rng, found = random.Random(seed), []
    for photo, own in references.items():
        known = {plain(text) for text in own}
        chosen = [rng.choice(own)]
        for other in rng.sample(list(references), len(references)):
            wrong = [text for text in references[other] if plain(text) not in known]
            if other != photo and wrong and len(chosen) <= distractors:
                chosen.append(rng.choice(wrong))
        found.append(chosen)
    return found


def ranks(captioner: tuple, references: dict[str, list[str]], lists: list[list[str]]) -> Iterator[float]:
    """Place of each photo's own caption, the first of its list, by how well it fits (1 is best, ties share)."""
    model, tokenizer, processor = captioner
    texts = list(dict.fromkeys(text for some in lists for text in some))
    blank = seen(model, processor, blank_photo())
    anyway = dict(zip(texts, log_likelihoods(model, tokenizer, blank, texts), strict=True))
    for photo, some in zip(references, lists, strict=True):
        fits = log_likelihoods(model, tokenizer, seen(model, processor, open_rgb(photo)), some)
        yield rank([fit - anyway[text] for fit, text in zip(fits, some, strict=True)], 0)
