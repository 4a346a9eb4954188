"""Float arithmetic of a GGUF model with numpy: what Bulla's integers are measured against.

Written from the papers, not from Bulla's C: RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al.
2021), gated feed-forward (Shazeer 2020), grouped-query attention (Ainslie et al. 2023), and for Gemma 3 its
report (arXiv 2503.19786): q/k norms, post-norms, five local layers to one global one. Two facts of the GGUF
format: the llama architecture's q and k rows are stored permuted, so that rotary pairs are neighbours (2i and
2i + 1), where gemma3 keeps halves (i and i + d/2); Gemma's norm gains hold the 1 that is added to them.

    model = FloatModel(path)
    hidden = model.hidden(ids)             ids [chunks, tokens] -> [chunks, tokens, n], after the last norm
    logits = model.logits(hidden[0, 256:]) -> [rows, vocabulary]

Weights and activations are float32 (products by BLAS), sums of squares float64. Everything of a set of chunks
goes through a layer at once, so that each weight is read once for many tokens.
"""
import gguf
import numpy


class FloatModel:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.fields = reader.fields
        self.architecture = self._field("general.architecture")
        if self.architecture not in ("llama", "gemma3"):
            raise ValueError(f"{path}: architecture {self.architecture}, expected llama or gemma3")
        self.gemma = self.architecture == "gemma3"
        self.layers = self._setting("block_count")
        self.width = self._setting("embedding_length")
        self.heads = self._setting("attention.head_count")
        self.kv_heads = self._setting("attention.head_count_kv", self.heads)
        self.head_size = self._setting("attention.key_length", self.width // self.heads)
        self.epsilon = self._setting("attention.layer_norm_rms_epsilon")
        self.rope_base = self._setting("rope.freq_base", 10000.0)
        self.window = self._setting("attention.sliding_window", None)
        if self._setting("rope.scaling.type", "none") != "none" or "rope_freqs.weight" in self.tensors:
            raise ValueError(f"{path}: scaled rotary positions are not implemented here")
        self.embedding = self._load("token_embd.weight")
        self.head = self._load("output.weight") if "output.weight" in self.tensors else self.embedding
        self.vocabulary = self.head.shape[0]
        self.output_norm = self._load("output_norm.weight")

    def _field(self, name, *default):
        if name not in self.fields and default:
            return default[0]
        return self.fields[name].contents()

    def _setting(self, name, *default):
        return self._field(f"{self.architecture}.{name}", *default)

    def _load(self, name):
        tensor = self.tensors[name]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        return numpy.ascontiguousarray(values, dtype=numpy.float32)

    def _layer(self, index):
        prefix = f"blk.{index}."
        return {name[len(prefix):]: self._load(name) for name in self.tensors if name.startswith(prefix)}

    def _norm(self, x, gain):
        mean = numpy.sum(x * x, axis=-1, dtype=numpy.float64) / x.shape[-1]
        return x * (1 / numpy.sqrt(mean + self.epsilon)).astype(numpy.float32)[..., None] * gain

    def _turn(self, x, base):
        """Rotary positions of x [chunks, tokens, heads, head_size]."""
        half = self.head_size // 2
        angles = numpy.arange(x.shape[1])[:, None] * base ** (-numpy.arange(half) / half)
        cos, sin = numpy.cos(angles).astype(numpy.float32), numpy.sin(angles).astype(numpy.float32)
        cos, sin = cos[None, :, None, :], sin[None, :, None, :]
        first, second = (slice(0, half), slice(half, None)) if self.gemma else (slice(0, None, 2), slice(1, None, 2))
        a, b = x[..., first], x[..., second]
        turned = numpy.empty_like(x)
        turned[..., first] = a * cos - b * sin
        turned[..., second] = a * sin + b * cos
        return turned

    def _attention(self, weights, x, is_global):
        chunks, tokens, _ = x.shape
        q = (x @ weights["attn_q.weight"].T).reshape(chunks, tokens, self.heads, self.head_size)
        k = (x @ weights["attn_k.weight"].T).reshape(chunks, tokens, self.kv_heads, self.head_size)
        v = (x @ weights["attn_v.weight"].T).reshape(chunks, tokens, self.kv_heads, self.head_size)
        if "attn_q_norm.weight" in weights:
            q, k = self._norm(q, weights["attn_q_norm.weight"]), self._norm(k, weights["attn_k_norm.weight"])
        # Gemma 3's local layers keep the base of Gemma 2; its report, section 2.
        base = self.rope_base if is_global else 10000.0
        q, k = self._turn(q, base), self._turn(k, base)
        age = numpy.arange(tokens)[:, None] - numpy.arange(tokens)[None, :]
        hidden = (age < 0) | ((age >= self.window) if not is_global else False)
        mask = numpy.where(hidden, numpy.float32(-numpy.inf), numpy.float32(0))
        result = numpy.empty((chunks, tokens, self.heads, self.head_size), dtype=numpy.float32)
        group = self.heads // self.kv_heads
        scale = numpy.float32(self.head_size ** -0.5)
        for chunk in range(chunks):
            for head in range(self.heads):
                scores = (q[chunk, :, head] * scale) @ k[chunk, :, head // group].T + mask
                scores -= scores.max(axis=1, keepdims=True)
                numpy.exp(scores, out=scores)
                scores /= scores.sum(axis=1, keepdims=True)
                result[chunk, :, head] = scores @ v[chunk, :, head // group]
        return result.reshape(chunks, tokens, -1) @ weights["attn_output.weight"].T

    def _feed_forward(self, weights, x):
        gate = x @ weights["ffn_gate.weight"].T
        if self.gemma:  # GELU by its tanh approximation
            inner = numpy.float32((2 / numpy.pi) ** 0.5) * (gate + numpy.float32(0.044715) * gate * gate * gate)
            gate *= numpy.float32(0.5) * (1 + numpy.tanh(inner))
        else:  # SiLU
            with numpy.errstate(over="ignore"):
                gate /= 1 + numpy.exp(-gate)
        gate *= x @ weights["ffn_up.weight"].T
        return gate @ weights["ffn_down.weight"].T

    def hidden(self, ids):
        """The states after the last norm, of chunks of equal length that each start at position 0."""
        x = self.embedding[numpy.asarray(ids)]
        if self.gemma:
            x = x * numpy.float32(self.width ** 0.5)
        for index in range(self.layers):
            weights = self._layer(index)
            is_global = not self.gemma or (index + 1) % 6 == 0
            part = self._attention(weights, self._norm(x, weights["attn_norm.weight"]), is_global)
            if self.gemma:
                part = self._norm(part, weights["post_attention_norm.weight"])
            x = x + part
            part = self._feed_forward(weights, self._norm(x, weights["ffn_norm.weight"]))
            if self.gemma:
                part = self._norm(part, weights["post_ffw_norm.weight"])
            x = x + part
        return self._norm(x, self.output_norm)

    def logits(self, hidden):
        return hidden @ self.head.T
