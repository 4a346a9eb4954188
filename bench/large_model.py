"""A model too large for any cache, which no package brings: the layers of Llama-3.2-3B with random weights as Q8_0, the
tokenizer of SmolLM2 and an output matrix of its own, 3.12 * 10^9 weights. How fast a model runs does not depend on what
its weights are. Written a tensor at a time, so that it takes little memory. Needs numpy and gguf.
"""
import glob
import os

import peer

NAME = "random-3B.Q8_0.gguf"
LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, HEAD_SIZE, CONTEXT = 28, 3072, 8192, 24, 8, 128, 8192
BLOCK, BLOCK_BYTES = 32, 34  # Q8_0: an f16 scale, then 32 signed bytes (ggml's block_q8_0)
SPREAD = 0.02  # standard deviation of the weights, about what training starts from


def shapes(vocabulary):
    """(name, rows, columns) of every tensor; no columns: a norm's gains."""
    kv = KV_HEADS * HEAD_SIZE
    yield "token_embd.weight", vocabulary, HIDDEN
    for layer in range(LAYERS):
        block = "blk.%d." % layer
        yield block + "attn_norm.weight", HIDDEN, None
        yield block + "attn_q.weight", HEADS * HEAD_SIZE, HIDDEN
        yield block + "attn_k.weight", kv, HIDDEN
        yield block + "attn_v.weight", kv, HIDDEN
        yield block + "attn_output.weight", HIDDEN, HEADS * HEAD_SIZE
        yield block + "ffn_norm.weight", HIDDEN, None
        yield block + "ffn_gate.weight", INNER, HIDDEN
        yield block + "ffn_up.weight", INNER, HIDDEN
        yield block + "ffn_down.weight", HIDDEN, INNER
    yield "output_norm.weight", HIDDEN, None
    yield "output.weight", vocabulary, HIDDEN


def random_blocks(numpy, numbers, rows, columns):
    blocks = numpy.empty((rows, columns // BLOCK, BLOCK_BYTES), numpy.uint8)
    scale = numpy.array([SPREAD / (127 / 3 ** 0.5)], numpy.float16)  # of numbers spread evenly from -127 to 127
    blocks[:, :, :2] = scale.view(numpy.uint8)
    blocks[:, :, 2:] = numbers.integers(-127, 128, (rows, columns // BLOCK, BLOCK), numpy.int8).view(numpy.uint8)
    return blocks.reshape(rows, -1)


def add_metadata(gguf, file, tokenizer):
    file.add_context_length(CONTEXT)
    file.add_embedding_length(HIDDEN)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(INNER)
    file.add_head_count(HEADS)
    file.add_head_count_kv(KV_HEADS)
    file.add_rope_dimension_count(HEAD_SIZE)
    file.add_rope_freq_base(500000.0)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    for key, field in tokenizer.items():
        of_items = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        file.add_key_value(key, field.contents(), field.types[0], of_items)


def write(path, tokenizer_model):
    import gguf
    import numpy
    fields = gguf.GGUFReader(tokenizer_model).fields
    tokenizer = {key: field for key, field in fields.items() if key.startswith("tokenizer.")}
    vocabulary = len(tokenizer["tokenizer.ggml.tokens"].data)
    numbers = numpy.random.default_rng(1)
    file = gguf.GGUFWriter(path, "llama")
    add_metadata(gguf, file, tokenizer)
    for name, rows, columns in shapes(vocabulary):
        if columns:
            row_bytes = columns // BLOCK * BLOCK_BYTES
            file.add_tensor_info(name, (rows, row_bytes), numpy.dtype(numpy.uint8), rows * row_bytes,
                                 gguf.GGMLQuantizationType.Q8_0)
        else:
            file.add_tensor_info(name, (rows,), numpy.dtype(numpy.float32), rows * 4)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_ti_data_to_file()
    for name, rows, columns in shapes(vocabulary):
        file.write_tensor_data(random_blocks(numpy, numbers, rows, columns) if columns
                               else numpy.ones(rows, numpy.float32))
    file.close()


def source(models):
    """The path of the model, made once."""
    path = os.path.join(peer.cache_folder(), NAME)
    if not os.path.exists(path):
        write(path + ".partial", glob.glob(os.path.join(models, "SmolLM2*.gguf"))[0])
        os.rename(path + ".partial", path)
    return path
