"""`PYTHON loadtest/real/make_model.py FOLDER`, with vLLM's own Python: a chat model of half a megabyte.

Its weights are random, its tokens are learnt from the pages in docs. What it says makes no sense, but at temperature 0
it always says the same, which is enough to compare answers of an engine with those that come through the gateway.
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

_END, _START, _TURN_END = _MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CALLS = ["<tool_call>", "</tool_call>"]
_CONTEXT = 4096
_TEMPLATE = """{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Reply with <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content or [] %}{{ part.text }}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with the marks of ChatML."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=_MARKS, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train([str(path) for path in sorted(Path(__file__).parents[2].glob("docs/*.md"))], trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=_TURN_END, pad_token=_END)
    whole.add_tokens(_CALLS)
    whole.chat_template = _TEMPLATE
    return whole


def main(folder: str) -> None:
    tokens = tokenizer()
    marks = {
        "eos_token_id": tokens.convert_tokens_to_ids(_TURN_END),
        "pad_token_id": tokens.convert_tokens_to_ids(_END),
    }
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=(len(tokens) + 63) // 64 * 64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        **marks,
    )
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(do_sample=True, **marks)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
