"""The section "Sampling" of docs/canonical.md: which token a row of logits gives. Exact integers throughout."""
import collections
import dataclasses
import hashlib

import numpy

MILLION = 10 ** 6
SCALE = 1477319722  # log2 units in Q10, by millionths of a temperature


class OutOfBounds(Exception):
    """A changed logit leaves 32 bits, or the numerator of D does not stay below 2^63."""


@dataclasses.dataclass
class Settings:
    """A request's numbers; all but seed and top_k in millionths. The defaults change nothing."""
    temperature: int = 0
    top_k: int = 0
    top_p: int = MILLION
    min_p: int = 0
    repetition: int = MILLION
    presence: int = 0
    frequency: int = 0
    biases: dict = dataclasses.field(default_factory=dict)
    seed: int = 0


def divide_half_up(numerator, denominator):
    """round(numerator / denominator) of a positive denominator: the floor of the quotient plus a half."""
    return (2 * numerator + denominator) // (2 * denominator)


def adjusted(logits, fraction_bits, settings, prompt, generated, allowed=None):
    """The allowed ids, upwards, and their logits after biases and penalties; docs/notes/ambiguities.md says what is
    rounded and which bound holds."""
    logits = logits.astype(object) if settings_adjust(settings) else logits.astype(numpy.int64)

    def steps(amount):
        return divide_half_up(amount << fraction_bits, MILLION)

    for token, amount in settings.biases.items():
        logits[token] += steps(amount)
    if settings.repetition != MILLION:
        for token in set(prompt) | set(generated):
            logit = logits[token]
            logits[token] = (divide_half_up(logit * MILLION, settings.repetition) if logit > 0
                             else divide_half_up(logit * settings.repetition, MILLION))
    for token, count in collections.Counter(generated).items():
        if settings.presence:
            logits[token] -= steps(settings.presence)
        if settings.frequency:
            logits[token] -= steps(settings.frequency * count)
    ids = numpy.arange(len(logits)) if allowed is None else numpy.array(sorted(allowed))
    if logits.dtype == object and any(abs(logit) >= 1 << 31 for logit in logits[ids]):
        raise OutOfBounds("changed logit")
    return ids, logits[ids]


def settings_adjust(settings):
    return bool(settings.biases or settings.repetition != MILLION or settings.presence or settings.frequency)


def draw_number(seed, position):
    """r of the new token's position, the prompt's first token at 0."""
    text = b"bulla-sample" + seed.to_bytes(8, "little") + position.to_bytes(8, "little")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def choice_seed(seed, choice):
    text = b"bulla-choice" + seed.to_bytes(8, "little") + choice.to_bytes(8, "little")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def weights_of(logits, fraction_bits, temperature, exp24):
    largest = max(logits) if logits.dtype == object else int(logits.max())
    numerators = (largest - logits.astype(object)) * SCALE
    if max(numerators) >= 1 << 63:
        raise OutOfBounds("numerator of D")
    distance = (numerators.astype(numpy.uint64) // numpy.uint64(temperature << fraction_bits)).astype(numpy.int64)
    return exp24.astype(numpy.int64)[distance & 1023] >> numpy.minimum(distance >> 10, 62)


def kept(weights, settings):
    """Indices that survive top_k, top_p and min_p; weights are in the order of ascending ids."""
    ranked = numpy.argsort(-weights, kind="stable")
    if settings.top_k:
        ranked = ranked[:settings.top_k]
    running = numpy.cumsum(weights[ranked])  # below 2^24 times the vocabulary: exact
    needed = settings.top_p * int(running[-1])
    shortest = int(numpy.searchsorted(running, -(-needed // MILLION)))  # the first sum with 10^6 * sum >= needed
    ranked = ranked[:shortest + 1]
    enough = -(-settings.min_p * int(weights[ranked[0]]) // MILLION)
    return ranked[weights[ranked] >= enough]


def sample(logits, fraction_bits, settings, position, exp24, prompt=(), generated=(), allowed=None):
    """The id of the token at `position`. logits: integers, one an id."""
    ids, values = adjusted(numpy.asarray(logits), fraction_bits, settings, prompt, generated, allowed)
    if settings.temperature == 0:
        return int(ids[numpy.argmax(values)])  # the first of equals
    weights = weights_of(values, fraction_bits, settings.temperature, exp24)
    chosen = numpy.sort(kept(weights, settings))
    total = int(weights[chosen].sum())
    draw = draw_number(settings.seed, position) * total >> 64
    running = numpy.cumsum(weights[chosen])
    return int(ids[chosen[numpy.searchsorted(running, draw, side="right")]])
