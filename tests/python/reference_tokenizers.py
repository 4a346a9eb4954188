"""The original tokenizers, rebuilt in PyPI `tokenizers` and `sentencepiece` from what a GGUF file says.

The regular expressions are those of the models' published tokenizer.json files.
"""
import re

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_ENDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDS}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDS}"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def bytes_to_unicode():
    """GPT-2's alphabet: a printable character for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def _split(expression):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(expression), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _gpt2():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm():
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


# tokenizer.ggml.pre: (pre-tokenizer, NFC, ignore_merges)
PRE = {
    "gpt-2": (_gpt2, False, False),
    "default": (_gpt2, False, False),
    "smollm": (_smollm, False, False),
    "starcoder": (_smollm, False, False),
    "refact": (_smollm, False, False),
    "llama-bpe": (lambda: _split(LLAMA3), False, True),
    "qwen2": (lambda: _split(QWEN2), True, False),
    "qwen35": (lambda: _split(QWEN35), True, False),
    "tekken": (lambda: _split(TEKKEN), False, True),
    "gpt-4o": (lambda: _split(GPT4O), False, False),
}


class Vocabulary:
    """What a GGUF's tokenizer.ggml.* keys hold."""

    def __init__(self, path):
        fields = gguf.GGUFReader(path).fields

        def get(key, default=None):
            return fields[key].contents() if key in fields else default

        self.architecture = get("general.architecture")
        self.model = get("tokenizer.ggml.model")
        self.pre = get("tokenizer.ggml.pre", "default")
        self.tokens = get("tokenizer.ggml.tokens")
        self.types = get("tokenizer.ggml.token_type", [NORMAL] * len(self.tokens))
        self.scores = get("tokenizer.ggml.scores")
        self.merges = get("tokenizer.ggml.merges")
        self.prefix = get("tokenizer.ggml.add_space_prefix", True)
        self.unknown = get("tokenizer.ggml.unknown_token_id")


def _added(tokenizer, vocabulary):
    """Control and user-defined tokens, as a published tokenizer.json has them."""
    sentencepiece_style = vocabulary.model == "llama"
    takes_space = sentencepiece_style and vocabulary.architecture == "phi3"
    added = []
    for text, kind in zip(vocabulary.tokens, vocabulary.types):
        if kind in (CONTROL, UNKNOWN, USER):
            spaced = sentencepiece_style and kind == USER and (" " in text or "▁" in text)
            added.append(AddedToken(
                text.replace(" ", "▁") if spaced else text, normalized=spaced, special=kind != USER,
                rstrip=takes_space and (text == "</s>" or kind != USER and text not in
                                        ("<unk>", "<s>", "<|endoftext|>"))))
    tokenizer.add_tokens(added)
    tokenizer.add_special_tokens([token for token in added if token.special])


def byte_level(vocabulary, pre=None, nfc=None, ignore_merges=None):
    make, default_nfc, default_ignore = PRE[pre or vocabulary.pre]
    ids = {text: index for index, text in enumerate(vocabulary.tokens)}
    merges = [tuple(re.split(" ", merge, maxsplit=1)) for merge in vocabulary.merges]
    ignore = default_ignore if ignore_merges is None else ignore_merges
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=ignore))
    if default_nfc if nfc is None else nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = make()
    tokenizer.decoder = decoders.ByteLevel()
    _added(tokenizer, vocabulary)
    return tokenizer


def merges_from_scores(vocabulary):
    """The merges that transformers derives from a SentencePiece vocabulary (convert_slow_tokenizer.py)."""
    scores = {text: score for text, score, kind in zip(vocabulary.tokens, vocabulary.scores, vocabulary.types)
              if kind == NORMAL}
    ids = {text: index for index, text in enumerate(vocabulary.tokens)}
    merges = []
    for text, score in scores.items():
        local = [(text[:at], text[at:], score) for at in range(1, len(text))
                 if text[:at] in scores and text[at:] in scores]
        merges += sorted(local, key=lambda merge: (ids[merge[0]], ids[merge[1]]))
    merges.sort(key=lambda merge: (merge[2], len(merge[0]), len(merge[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


def sentencepiece_style(vocabulary):
    ids = {text.replace(" ", "▁") if kind == USER else text: index
           for index, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types))}
    unknown = vocabulary.tokens[vocabulary.unknown]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges_from_scores(vocabulary), unk_token=unknown,
                                     fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if vocabulary.prefix else []
    tokenizer.normalizer = normalizers.Sequence(steps + [normalizers.Replace(" ", "▁")])
    end = [decoders.Strip(" ", 1, 0)] if vocabulary.prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + end)
    _added(tokenizer, vocabulary)
    return tokenizer


def rebuild(vocabulary):
    return sentencepiece_style(vocabulary) if vocabulary.model == "llama" else byte_level(vocabulary)


def sentencepiece_processor(vocabulary):
    """PyPI sentencepiece with the same pieces, types and scores."""
    model = sentencepiece_model_pb2.ModelProto()
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    for index, (text, score, kind) in enumerate(zip(vocabulary.tokens, vocabulary.scores, vocabulary.types)):
        piece = model.pieces.add()
        piece.piece = text.replace(" ", "▁") if kind == USER else text
        piece.score = score
        # The library wants exactly one unknown piece.
        piece.type = kinds.UNKNOWN if index == vocabulary.unknown else kind
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id = vocabulary.unknown
    model.trainer_spec.unk_piece = vocabulary.tokens[vocabulary.unknown]
    model.trainer_spec.vocab_size = len(vocabulary.tokens)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = bool(vocabulary.prefix)
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.SerializeToString())
    return processor
