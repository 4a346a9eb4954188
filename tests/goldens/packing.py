"""Weights in the 4-bit layouts of GPTQ and AWQ, written from their published descriptions, apart from Bulla's reader.

Each takes a matrix [outputs, inputs] in float32 and gives (tensors, dequantised): the named parts of the layout and
the float32 matrix [outputs, inputs] that their integers stand for. Rounding is to nearest in groups of inputs.

GPTQ (AutoGPTQ): qweight [inputs / 8, outputs] holds eight inputs to an int32, the first in the lowest bits; scales
[groups, outputs]; qzeros [groups, outputs / 8], eight outputs to an int32, less one in version 1; g_idx [inputs] is
each input's group, out of order with act-order. AWQ (its GEMM version): qweight [inputs, outputs / 8] and qzeros
[groups, outputs / 8] hold outputs 0, 2, 4, 6, 1, 3, 5, 7 of each eight from the lowest bits up; scales as above.
In both the value is (q - zero) * scale.
"""
import numpy

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def _integers(columns, group_of, symmetric):
    """q [inputs, outputs] and zero, scale [groups, outputs] of columns [inputs, outputs]."""
    groups = int(group_of.max()) + 1
    zeros = numpy.empty((groups, columns.shape[1]), dtype=numpy.int64)
    scales = numpy.empty((groups, columns.shape[1]), dtype=numpy.float16)
    q = numpy.empty(columns.shape, dtype=numpy.int64)
    for group in range(groups):
        rows = columns[group_of == group]
        low, high = numpy.minimum(rows.min(axis=0), 0), numpy.maximum(rows.max(axis=0), 0)
        if symmetric:
            high = numpy.maximum(numpy.abs(low), high)
            low = -high
        scales[group] = numpy.maximum((high - low) / 15, 1e-4).astype(numpy.float16)
        scale = scales[group].astype(numpy.float32)
        # Version 1 stores zeros less one, so that 1 is the least.
        zeros[group] = 8 if symmetric else numpy.clip(numpy.round(-low / scale), 1, 15)
        q[group_of == group] = numpy.clip(numpy.round(rows / scale) + zeros[group], 0, 15)
    return q, zeros, scales


def _values(q, zeros, scales, group_of):
    return ((q - zeros[group_of]).astype(numpy.float32) * scales.astype(numpy.float32)[group_of]).T.copy()


def _joined(nibbles, axis, order=range(8)):
    """Eight neighbours along the axis in one int32; nibble k of it is neighbour order[k]."""
    parts = numpy.moveaxis(nibbles, axis, -1).astype(numpy.uint32)
    parts = parts.reshape(*parts.shape[:-1], -1, 8)
    word = numpy.zeros(parts.shape[:-1], dtype=numpy.uint32)
    for place, neighbour in enumerate(order):
        word |= parts[..., neighbour] << numpy.uint32(4 * place)
    return numpy.ascontiguousarray(numpy.moveaxis(word, -1, axis)).view(numpy.int32)


def gptq(matrix, group, act_order, symmetric, version, random):
    inputs = matrix.shape[1]
    group_of = numpy.arange(inputs) // group
    if act_order:
        group_of = random.permutation(group_of)
    q, zeros, scales = _integers(matrix.T, group_of, symmetric)
    tensors = {"qweight": _joined(q, 0), "qzeros": _joined(zeros - (1 if version == 1 else 0), 1), "scales": scales,
               "g_idx": group_of.astype(numpy.int32)}
    return tensors, _values(q, zeros, scales, group_of)


def awq(matrix, group, random):
    group_of = numpy.arange(matrix.shape[1]) // group
    q, zeros, scales = _integers(matrix.T, group_of, False)
    tensors = {"qweight": _joined(q, 1, AWQ_ORDER), "qzeros": _joined(zeros, 1, AWQ_ORDER), "scales": scales}
    return tensors, _values(q, zeros, scales, group_of)
