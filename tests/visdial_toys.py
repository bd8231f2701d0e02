"""A tiny random Gemma-3 that sees (the real classes and chat template, every size as small as it goes), and dialogs."""

import json
from pathlib import Path

# as published with google/gemma-3-4b-it
CHAT_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""
TURNS = ["<start_of_turn>", "<end_of_turn>"]
IMAGE = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
COLORS = ("red", "green", "blue", "yellow", "white", "black")
WORDS = (
    "is it sunny yes no how many people two men what color the photo user model You are given conversation about "
    + ("Answer its last question from shows as briefly you would in talk")
)


def tiny_processor():
    """Gemma-3's processor with a tokenizer of bytes and a few words; photos of 28x28 pixels are four image tokens."""
    from transformers import Gemma3ImageProcessor, Gemma3Processor, GemmaTokenizer

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    pieces += [chr(code) for code in range(33, 127)]
    merges = []
    for word in (*WORDS.split(), *COLORS):
        for end in range(2, len(word) + 1):
            if word[:end] not in pieces:
                pieces.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    vocab = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = GemmaTokenizer(vocab=vocab, merges=merges, extra_special_tokens=IMAGE)
    tokenizer.add_special_tokens({"additional_special_tokens": TURNS})
    tokenizer.chat_template = CHAT_TEMPLATE
    image_processor = Gemma3ImageProcessor(size={"height": 28, "width": 28})
    return Gemma3Processor(image_processor, tokenizer, chat_template=CHAT_TEMPLATE, image_seq_length=4)


def tiny_gemma(folder: Path, seed: int = 0) -> Path:
    """Save a tiny random model and its processor as a folder that `from_pretrained` reads."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    processor = tiny_processor()
    tokenizer = processor.tokenizer
    torch.manual_seed(seed)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
        "vision_use_head": False,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config={"model_type": "siglip_vision_model", **vision},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():  # zero as built, which would hide the photo
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(std=0.5)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


ROUNDS = [("is it sunny", "yes"), ("how many people", "two men")]


def toy_dialogs(folder: Path, rounds=ROUNDS) -> tuple[Path, Path]:
    """A VisDial file and its photos: what color is the photo? All answers are options of every question."""
    from PIL import Image

    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    said = [*rounds, ("what color is the photo", None)]
    questions, answers = [q for q, _ in said], [*dict.fromkeys(a for _, a in rounds), *COLORS]
    dialogs = []
    for image_id, color in enumerate(COLORS, 1):
        Image.new("RGB", (40, 30), color).save(photos / f"COCO_train2014_{image_id:012}.jpg")
        gold = [answers.index(answer or color) for _, answer in said]
        turns = [
            {"question": n, "answer": index, "answer_options": list(range(len(answers))), "gt_index": index}
            for n, index in enumerate(gold)
        ]
        dialogs.append({"image_id": image_id, "caption": "a photo", "dialog": turns})
    data = {"questions": questions, "answers": answers, "dialogs": dialogs}
    file = folder / "visdial.json"
    file.write_text(json.dumps({"version": "1.0", "split": "val2018", "data": data}), "utf-8")
    return file, photos
