"""Token ids of a text by a GGUF's vocabulary, apart from Bulla's own tokenizer.

Byte-level BPE goes through PyPI tokenizers with SmolLM's pre-tokenizer (single digits, then GPT-2's split);
SentencePiece-style vocabularies through the merge below: the neighbours whose union has the best score join
first (the leftmost of equals), what is in no vocabulary becomes bytes (Kudo and Richardson 2018). Both cut the
text at the user-defined and control tokens first. Small differences would not matter to a comparison in which
both sides see the same ids; the two known models agree with llama-tokenize on the texts of bench/text.
"""
import heapq
import re

import tokenizers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


class Tokens:
    def __init__(self, fields):
        self.kind = fields["tokenizer.ggml.model"].contents()
        self.spellings = fields["tokenizer.ggml.tokens"].contents()
        types = fields["tokenizer.ggml.token_type"].contents()
        self.ids = {spelling: index for index, spelling in enumerate(self.spellings)}
        special = [spelling for spelling, kind in zip(self.spellings, types) if kind in (CONTROL, USER_DEFINED)]
        special.sort(key=len, reverse=True)
        self.special = re.compile("(" + "|".join(map(re.escape, special)) + ")")
        add_start = fields.get("tokenizer.ggml.add_bos_token")
        wanted = add_start.contents() if add_start else self.kind == "llama"
        self.start = fields["tokenizer.ggml.bos_token_id"].contents() if wanted else None
        if self.kind == "gpt2":
            self.encode_part = self._byte_level(fields)
        elif self.kind == "llama":
            self.scores = fields["tokenizer.ggml.scores"].contents()
            self.encode_part = self._merge_by_score
        else:
            raise ValueError(f"tokenizer.ggml.model {self.kind}, expected gpt2 or llama")

    def encode(self, text):
        """Ids of the text, control tokens where it spells them, without a start token."""
        ids = []
        for index, part in enumerate(self.special.split(text)):
            ids.extend([self.ids[part]] if index % 2 else self.encode_part(part) if part else [])
        return ids

    def _byte_level(self, fields):
        if fields["tokenizer.ggml.pre"].contents() != "smollm":
            raise ValueError("only SmolLM's pre-tokenizer is known here")
        merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"].contents()]
        encoder = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=self.ids, merges=merges))
        encoder.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
        return lambda text: encoder.encode(text, add_special_tokens=False).ids

    def _merge_by_score(self, text):
        pieces = list(text.replace(" ", "\u2581"))
        following = list(range(1, len(pieces))) + [-1]
        before = [-1] + list(range(len(pieces) - 1))
        candidates = []

        def consider(left):
            right = following[left] if left >= 0 else -1
            if right >= 0:
                union = pieces[left] + pieces[right]
                index = self.ids.get(union)
                if index is not None:
                    heapq.heappush(candidates, (-self.scores[index], left, union))

        for left in range(len(pieces)):
            consider(left)
        while candidates:
            _, left, union = heapq.heappop(candidates)
            right = following[left]
            if pieces[left] is None or right < 0 or pieces[left] + pieces[right] != union:
                continue  # one of the two has joined another since
            pieces[left], pieces[right] = union, None
            following[left] = following[right]
            if following[left] >= 0:
                before[following[left]] = left
            consider(before[left])
            consider(left)
        ids = []
        for piece in pieces:
            if piece is None:
                continue
            if piece in self.ids:
                ids.append(self.ids[piece])
            else:
                ids.extend(self.ids[f"<0x{byte:02X}>"] for byte in piece.encode())
        return ids
