"""The tables of docs/canonical.md, computed from their definitions: exact integers and decimal numbers of
60 digits, whose exp and ln are correctly rounded. Nothing here depends on a mathematical library's last bit.
"""
import decimal
import hashlib

import numpy

DIGITS = 60
# Distance from a rounding boundary below which a result of DIGITS digits would not be trusted.
CLEAR = decimal.Decimal(10) ** -40


def decimals():
    return decimal.localcontext(decimal.Context(prec=DIGITS))


def round_half_up(value):
    """The page's round: the floor of the exact value plus a half. A value too near a boundary is refused."""
    shifted = value + decimal.Decimal("0.5")
    floor = shifted.to_integral_value(decimal.ROUND_FLOOR)
    if shifted - floor < CLEAR or floor + 1 - shifted < CLEAR:
        raise ArithmeticError(f"{value} is too near a rounding boundary")
    return int(floor)


def exponential_mantissas(bits):
    """EXPn's 1,024 mantissas: round((2^n - 1) * 2^(-D / 1024))."""
    with decimals():
        logarithm = decimal.Decimal(2).ln()
        return numpy.array([round_half_up((2 ** bits - 1) * (-logarithm * step / 1024).exp()) for step in range(1024)],
                           numpy.uint32)


def arc_tangent_of_inverse(number, one):
    """arctan(1 / number) in units of 1 / one, by its series."""
    power = total = one // number
    divisor, sign = 1, 1
    while power:
        power //= number * number
        divisor += 2
        sign = -sign
        total += sign * (power // divisor)
    return total


def cosines():
    """COS: round(16384 * cos(2 pi n / 2^16)), by turning the point (1, 0) in fixed point of 256 bits."""
    bits = 256
    one = 1 << bits
    circle = 8 * (4 * arc_tangent_of_inverse(5, one) - arc_tangent_of_inverse(239, one))  # Machin's formula
    angle = circle >> 16
    step_cosine = step_sine = 0
    term, index = one, 0
    while term:
        if index % 2 == 0:
            step_cosine += term if index % 4 == 0 else -term
        else:
            step_sine += term if index % 4 == 1 else -term
        index += 1
        term = (term * angle >> bits) // index
    table = numpy.zeros(1 << 16, numpy.int16)
    half = one >> 1
    cosine, sine = one, 0
    for index in range(1 << 16):
        scaled = (cosine << 14) + half
        # The accumulated error is far below 2^-200; a value within 2^-100 of a boundary would be refused.
        if min(scaled % one, -scaled % one) < one >> 100:
            raise ArithmeticError(f"cosine {index} is too near a rounding boundary")
        table[index] = scaled >> bits
        cosine, sine = ((cosine * step_cosine - sine * step_sine) >> bits,
                        (sine * step_cosine + cosine * step_sine) >> bits)
    return table


def hyperbolic_tangent(value):
    double = (-2 * abs(value)).exp()
    return ((1 - double) / (1 + double)).copy_sign(value)


def silu(x):
    return x / (1 + (-x).exp())


def gelu_tanh(x):
    pi = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
    inner = (2 / pi).sqrt() * (x + decimal.Decimal("0.044715") * x * x * x)
    return x / 2 * (1 + hyperbolic_tangent(inner))


def activation(function):
    """The gate's A: the activation at -16 + i / 32 in Q16, rounded."""
    with decimals():
        return numpy.array([round_half_up(65536 * function(decimal.Decimal(step) / 32 - 16)) for step in range(1025)],
                           numpy.int32)


def softcap(cap_units):
    """A softcap's A: cap * tanh(x / cap) at x = -2^19 + 1024 i, all in the units of what is capped."""
    with decimals():
        cap = decimal.Decimal(cap_units)
        return numpy.array([round_half_up(cap * hyperbolic_tangent((1024 * step - 2 ** 19) / cap))
                            for step in range(1025)], numpy.int32)


def digest(table):
    return hashlib.sha256(table.astype(table.dtype.newbyteorder("<")).tobytes()).hexdigest()
