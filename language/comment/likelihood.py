"""How likely a model finds given targets: the exact sum over tokens that bits per character rest on."""

IGNORED = -100  # what PyTorch's cross entropy leaves out


def nats(model, rows: list[tuple[list[int], list[int]]], pad: int, batch: int = 64) -> list[float]:
    """Negative log likelihood in nats of each (source, target) of token ids, summed over the target's tokens."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    found, causal = [], not model.config.is_encoder_decoder
    rows = [(s + t, [IGNORED] * len(s) + t) if causal else (s, t) for s, t in rows]
    for first in range(0, len(rows), batch):
        ids, labels = zip(*rows[first : first + batch], strict=True)
        columns = lambda lists, fill: pad_sequence([torch.tensor(x) for x in lists], True, fill).to(model.device)
        inputs = {"input_ids": columns(ids, pad), "labels": columns(labels, IGNORED)}
        inputs["attention_mask"] = columns([[1] * len(row) for row in ids], 0)
        with torch.no_grad():
            logits, wanted = model.eval()(**inputs).logits.float(), inputs["labels"]
        if causal:  # what stands at a place was foretold at the place before
            logits, wanted = logits[:, :-1], wanted[:, 1:]
        losses = cross_entropy(logits.transpose(1, 2), wanted, reduction="none", ignore_index=IGNORED)
        found += losses.sum(1).tolist()
    return found
