"""The smallest tokenizer whose ids are literal."""

from __future__ import annotations


class Bytes:
    """One token per byte; 256 begins a sequence, and <end> is 257 unless special tokens are split."""

    chat_template: str | None = None

    def __init__(self, bos: bool = False, template: str | None = None) -> None:
        self.bos_token_id = 256 if bos else None
        self.chat_template = template

    def __call__(self, text, add_special_tokens=True, split_special_tokens=False):
        if isinstance(text, list):
            return {"input_ids": [self(t, add_special_tokens, split_special_tokens)["input_ids"] for t in text]}
        ids = [256] if add_special_tokens and self.bos_token_id else []
        for number, part in enumerate([text] if split_special_tokens else text.split("<end>")):
            ids += [*([257] if number else []), *part.encode()]
        return {"input_ids": ids}

    def get_chat_template(self):
        return self.chat_template

    def apply_chat_template(self, messages, **options):
        assert options.pop("chat_template") == self.chat_template
        assert options == {
            "tokenize": False,
            "add_generation_prompt": True,
            "enable_thinking": False,
            "thinking": False,
        }
        return self.chat_template.replace("CONTENT", messages[0]["content"])

    def decode(self, ids, skip_special_tokens, clean_up_tokenization_spaces):
        assert not skip_special_tokens
        assert not clean_up_tokenization_spaces
        return bytes(i for i in ids if i < 256).decode()
