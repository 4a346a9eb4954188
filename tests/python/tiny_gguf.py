"""Tiny models of every family with random weights, as GGUF files: with outlier channels, grouped heads, windows and
softcaps where the family has them, and a vocabulary of single bytes."""
import gguf
import numpy

# Fields by their GGUF names; `norms` are added to what every family has.
FAMILIES = {
    "llama": dict(architecture="llama", heads=4, kv_heads=2, size=16, hidden=64, inner=160, layers=2, own_head=True),
    "qwen2": dict(architecture="qwen2", heads=6, kv_heads=2, size=16, hidden=96, inner=128, layers=2, biases=True),
    "qwen3": dict(architecture="qwen3", heads=4, kv_heads=2, size=32, hidden=64, inner=96, layers=3,
                  norms=("attn_q_norm", "attn_k_norm"), own_head=True),
    "gemma2": dict(architecture="gemma2", heads=4, kv_heads=2, size=32, hidden=96, inner=192, layers=4, window=24,
                   norms=("post_attention_norm", "post_ffw_norm"), caps=(50.0, 30.0)),
    "gemma3": dict(architecture="gemma3", heads=4, kv_heads=1, size=32, hidden=80, inner=160, layers=7, window=20,
                   norms=("post_attention_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm")),
    "phi3": dict(architecture="phi3", heads=3, kv_heads=3, size=24, hidden=72, inner=120, layers=2, window=40,
                 fused=True, own_head=True),
    # A token that no ordinary text has fills a channel that stays empty otherwise and has a large gain, so that
    # what import measured does not hold for it: it raises RANGE.
    "range": dict(architecture="llama", heads=4, kv_heads=2, size=16, hidden=64, inner=160, layers=2, own_head=True,
                  rare=True),
}
CONTEXT = 512
FILLERS = 30000  # so many that the rare token is not among those that import tries at random
RARE_TEXT, RARE_TOKEN, RARE_CHANNEL = "<rare>", 286, 5


def vocabulary(rare):
    tokens = [("<unk>", 2), ("<s>", 3), ("</s>", 3)] + [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    tokens += [(letter, 1) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    if rare:
        tokens += [(RARE_TEXT, 4)] + [(f"<filler {number}>", 4) for number in range(FILLERS)]
    return [text.encode() for text, _ in tokens], [kind for _, kind in tokens]


class Writer:
    def __init__(self, path, family, seed):
        self.shape = FAMILIES[family]
        self.numbers = numpy.random.default_rng(seed)
        self.file = gguf.GGUFWriter(path, self.shape["architecture"])
        self.tokens, self.kinds = vocabulary(self.shape.get("rare"))

    def write(self):
        self.metadata()
        self.tensors()
        self.file.write_header_to_file()
        self.file.write_kv_data_to_file()
        self.file.write_tensors_to_file()
        self.file.close()

    def metadata(self):
        shape, file = self.shape, self.file
        file.add_context_length(CONTEXT)
        file.add_embedding_length(shape["hidden"])
        file.add_block_count(shape["layers"])
        file.add_feed_forward_length(shape["inner"])
        file.add_head_count(shape["heads"])
        file.add_head_count_kv(shape["kv_heads"])
        file.add_layer_norm_rms_eps(1e-6)
        file.add_rope_freq_base(10000.0)
        file.add_rope_dimension_count(shape["size"])
        file.add_vocab_size(len(self.tokens))
        if shape["architecture"] != "phi3":
            file.add_key_length(shape["size"])
            file.add_value_length(shape["size"])
        if "window" in shape:
            file.add_sliding_window(shape["window"])
        if "caps" in shape:
            file.add_attn_logit_softcapping(shape["caps"][0])
            file.add_final_logit_softcapping(shape["caps"][1])
        file.add_tokenizer_model("llama")
        file.add_tokenizer_pre("default")
        file.add_token_list(self.tokens)
        file.add_token_scores([0.0 if kind != 1 else -1.0 for kind in self.kinds])
        file.add_token_types(self.kinds)
        file.add_bos_token_id(1)
        file.add_eos_token_id(2)
        file.add_add_bos_token(True)

    def add(self, name, values):
        if self.shape.get("rare"):
            if name == "token_embd":
                values[:, RARE_CHANNEL] = 0
                values[RARE_TOKEN, RARE_CHANNEL] = numpy.abs(values).max()
            elif name == "output":
                values[RARE_TOKEN] *= 4  # it is drawn now and then
            elif name.endswith(("attn_output", "ffn_down")):
                values[RARE_CHANNEL] = 0
            elif name.endswith(("attn_norm", "ffn_norm")):
                values[RARE_CHANNEL] = 1000
        self.file.add_tensor(name + ".weight", values.astype(numpy.float32))

    def matrix(self, name, outputs, inputs):
        values = self.numbers.standard_normal((outputs, inputs)) / numpy.sqrt(inputs)
        values[:, self.numbers.integers(inputs)] *= 6
        self.add(name, values)

    def gains(self, name, size):
        values = numpy.abs(1 + 0.3 * self.numbers.standard_normal(size)) + 0.05
        values[self.numbers.integers(size)] *= 20
        self.add(name, values)

    def tensors(self):
        shape, count = self.shape, len(self.tokens)
        hidden, size = shape["hidden"], shape["size"]
        self.matrix("token_embd", count, hidden)
        self.gains("output_norm", hidden)
        if shape.get("own_head"):
            self.matrix("output", count, hidden)
        for layer in range(shape["layers"]):
            self.layer(f"blk.{layer}.", shape, hidden, size)

    def layer(self, block, shape, hidden, size):
        self.gains(block + "attn_norm", hidden)
        self.gains(block + "ffn_norm", hidden)
        for name in shape.get("norms", ()):
            self.gains(block + name, size if name in ("attn_q_norm", "attn_k_norm") else hidden)
        heads, kv_heads = shape["heads"] * size, shape["kv_heads"] * size
        if shape.get("fused"):
            self.matrix(block + "attn_qkv", heads + 2 * kv_heads, hidden)
            self.matrix(block + "ffn_up", 2 * shape["inner"], hidden)
        else:
            for name, outputs in (("attn_q", heads), ("attn_k", kv_heads), ("attn_v", kv_heads)):
                self.matrix(block + name, outputs, hidden)
                if shape.get("biases"):
                    bias = self.numbers.standard_normal(outputs).astype(numpy.float32)
                    self.file.add_tensor(block + name + ".bias", bias)
            self.matrix(block + "ffn_gate", shape["inner"], hidden)
            self.matrix(block + "ffn_up", shape["inner"], hidden)
        self.matrix(block + "attn_output", hidden, heads)
        self.matrix(block + "ffn_down", hidden, shape["inner"])


def write(path, family, seed=1):
    Writer(path, family, seed).write()
