"""A referee of disputes, written from docs/dispute-trace.md: which element follows from an opening. verdict() says "holds",
"differs", "range", "fails" or "unproved" (an operand out of its bounds counts as the last)."""
import struct

from trace_elements import element
from trace_layout import DTYPES, Fails, LEAF, Range, Unproved, arrays_of, hashes_in, leaf_hash, proof_length, result_arrays, root_of

BLOCK = 512


class Opening:
    """The reads of one step, out of its opening."""
    def __init__(self, cell, operation, data):
        self.cell, self.answer, self.program = cell, cell.answer, cell.answer.program
        self.operation, self.position, self.data, self.at = operation, cell.position, data, 0
        self.other = None  # (cell number, its border's roots by operation and array)

    def take(self, length):
        if self.at + length > len(self.data):
            raise Unproved("short")
        self.at += length
        return self.data[self.at - length:self.at]

    def leaves(self, size, tag, begin, end, total, root):
        """Bytes begin to end out of leaves of `size` bytes."""
        first, last = begin // size, (end - 1) // size
        stop, count = min((last + 1) * size, total), -(-total // size)
        if end > total:
            raise Unproved("beyond the end")
        data = self.take(stop - first * size)
        proof = hashes_in(self.take(32 * proof_length(first, last, count)))
        hashes = [leaf_hash(tag + data[i:i + size]) for i in range(0, len(data), size)]
        if root_of(hashes, first, count, proof) != root:
            raise Unproved("a proof")
        return data[begin - first * size:end - first * size]

    def elements(self, root, total, width, first, count):
        if count == 0:
            return []
        if first + count > total:
            raise Unproved("beyond an array")
        data = self.leaves(BLOCK, b"\1", first * width, (first + count) * width, total * width, root)
        return [int.from_bytes(data[i:i + width], "little", signed=True) for i in range(0, len(data), width)]

    def array(self, array, first, count=None):
        _, total, width, _, _ = arrays_of(self.answer, self.operation, self.position)[array]
        values = self.elements(self.cell.roots[self.operation, array], total, width, first, 1 if count is None else count)
        return values[0] if count is None else values

    def open_cell(self, group, position):
        number = group * self.answer.positions + position
        if self.other and self.other[0] == number:
            return self.other[1]
        border = [(i, a) for i in self.program.members(group) if self.program.border[i]
                  for a, array in enumerate(arrays_of(self.answer, i, position)) if array[3]]
        data = self.take(32 * len(border))
        total = (self.program.groups[-1] + 1) * self.answer.positions
        proof = hashes_in(self.take(32 * proof_length(number, number, total)))
        if root_of([leaf_hash(b"\2" + data)], number, total, proof) != self.answer.trace_root:
            raise Unproved("a cell")
        self.other = (number, dict(zip(border, hashes_in(data))))
        return self.other[1]

    def result(self, operation, array, position, first, count):
        if not self.answer.evaluated(operation, position):
            raise Unproved("not evaluated")
        group = self.program.groups[operation]
        roots = (self.cell.roots if (group, position) == (self.cell.group, self.position)
                 else self.open_cell(group, position))
        _, total, width, _, _ = arrays_of(self.answer, operation, position)[array]
        return self.elements(roots[operation, array], total, width, first, count)

    def input(self, slot, first, count=None, position=None, scale=False):
        operation = self.program.operations[self.operation].inputs[slot]
        array = result_arrays(self.program.operations[operation])[scale]
        position = self.position if position is None else position
        values = self.result(operation, array, position, first, 1 if count is None else count)
        return values[0] if count is None else values

    def tensor(self, number, first, count=None):
        tensor = self.program.tensors[number]
        form = DTYPES[tensor.dtype]
        size, wanted = struct.calcsize(form), 1 if count is None else count
        if (first + wanted) * size > tensor.bytes:
            raise Unproved("beyond a tensor")
        begin = tensor.offset + first * size
        data = self.leaves(LEAF, b"", begin, begin + wanted * size, self.program.region_length, self.program.model_root)
        values = [value for value, in struct.iter_unpack(form, data)]
        return values[0] if count is None else values

    def allowed_byte(self, index):
        root = self.answer.allowed[self.position + 1 - self.answer.prompt]
        return self.elements(root, (self.program.vocabulary + 7) // 8, 1, index, 1)[0]


def verdict(cell, operation, array, index, value, data):
    """What the referee says of one step."""
    answer = cell.answer
    name, count, _, _, is_witness = arrays_of(answer, operation, cell.position)[array]
    named = cell.is_range_operation(operation)
    if not (answer.evaluated(operation, cell.position) or named) or index >= count or is_witness:
        return "not a step"
    if named and (array, index) > tuple(cell.named):
        return "not a step"
    named = named and (array, index) == tuple(cell.named)
    opening = Opening(cell, operation, data)
    try:
        try:
            found = element(opening, name, index)
        finally:
            if opening.at != len(data):
                raise Unproved("bytes that nothing asked for")
    except Unproved:
        return "unproved"
    except Range:
        return "holds" if named else "range"
    except Fails:
        return "fails"
    if named:
        return "differs"
    return "holds" if found == value else "differs"
