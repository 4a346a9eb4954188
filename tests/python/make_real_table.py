#!/usr/bin/env python3
"""Writes tests/vectors/real.txt: values of the functions of src/model/real.h, computed with decimal to 60 digits.

usage: tests/python/make_real_table.py > tests/vectors/real.txt

A line is a function, its arguments and its result, each real as two binary64 numbers in hexadecimal whose
sum it is (to 106 bits), or, for what rounds to an integer, the integer.
"""
import random
from decimal import Decimal, getcontext

getcontext().prec = 60
DIGITS = Decimal(10) ** -58


def arctangent_of_inverse(n):
    total, power, i = Decimal(0), Decimal(1) / n, 0
    while abs(power) > DIGITS:
        total += power / (2 * i + 1) * (-1) ** i
        power /= n * n
        i += 1
    return total


PI = 4 * (4 * arctangent_of_inverse(5) - arctangent_of_inverse(239))  # Machin, 1706


def cosine(x):
    x %= 2 * PI
    total, term, i = Decimal(0), Decimal(1), 0
    while abs(term) > DIGITS:
        total += term
        i += 2
        term = -term * x * x / (i * (i - 1))
    return total


def hyperbolic_tangent(x):
    if abs(x) < Decimal("0.01"):  # its series keeps the digits that the quotient of exponentials would lose
        square = x * x
        sine, cosh, term, i = Decimal(0), Decimal(0), Decimal(1), 0
        while abs(term) > DIGITS * DIGITS:
            cosh += term
            sine += term * x / (i + 1)
            i += 2
            term = term * square / (i * (i - 1))
        return sine / cosh
    e = (2 * x).exp()
    return (e - 1) / (e + 1)


def pair(value):
    """The value as the sum of two floats, and what they stand for exactly."""
    high = float(value)
    low = float(value - Decimal(high))
    return f"{high.hex()} {low.hex()}", Decimal(high) + Decimal(low)


def argument(random_source, low, high):
    value = Decimal(random_source.uniform(low, high))
    value += value * Decimal(random_source.uniform(-1, 1)) * Decimal(2) ** -60
    return pair(value)


def half_up(value):
    return int((value + Decimal("0.5")).to_integral_value(rounding="ROUND_FLOOR"))


def main():
    source = random.Random(1)
    print("# made by tests/python/make_real_table.py")
    one = [
        ("exp", Decimal.exp, [(-1, 1), (-40, 40), (-600, 600), (-1e-9, 1e-9)]),
        ("log", Decimal.ln, [(0.5, 2), (0.99, 1.01), (1e-9, 1e-8), (1, 1e6), (1e200, 1e201)]),
        ("cos", cosine, [(-8, 8), (0, 1e-6), (1.57, 1.571)]),
        ("tanh", hyperbolic_tangent, [(-1, 1), (-12, 12), (-1e-3, 1e-3), (-39, 39)]),
        ("square_root", Decimal.sqrt, [(0, 1), (0, 1e12), (1e-200, 1e-199)]),
    ]
    for name, function, ranges in one:
        for low, high in ranges:
            for _ in range(40):
                text, value = argument(source, low, high)
                print(name, text, pair(function(value))[0])
    two = [
        ("add", lambda a, b: a + b), ("subtract", lambda a, b: a - b), ("multiply", lambda a, b: a * b),
        ("divide", lambda a, b: a / b),
    ]
    for name, function in two:
        for low, high in [(-2, 2), (1, 1 + 1e-9), (-1e15, 1e15)]:
            for _ in range(40):
                (first, a), (second, b) = argument(source, low, high), argument(source, low, high)
                print(name, first, second, pair(function(a, b))[0])
    for _ in range(80):
        (first, a), (second, b) = argument(source, 1e-3, 1e6), argument(source, -20, 20)
        print("power", first, second, pair((b * a.ln()).exp())[0])
    print("pi", pair(PI)[0])
    for _ in range(200):  # around halves, by amounts that only the lower part holds
        n = source.choice([source.randrange(-2 ** 20, 2 ** 20), source.randrange(-2 ** 60, 2 ** 60)])
        text, value = pair(Decimal(n) / 2 + Decimal(source.uniform(-1, 1)) * Decimal(2) ** -source.randrange(30, 60))
        print("round", text, half_up(value))
    for base, size in [(10000, 64), (500000, 128), (1000000, 256), (10000, 96), (1000000, 64)]:
        for i in range(0, size // 2, 5):
            theta = (-Decimal(2 * i) / size * Decimal(base).ln()).exp()
            print("turn", base, size, i, half_up(theta / (2 * PI) * 2 ** 64))


if __name__ == "__main__":
    main()
