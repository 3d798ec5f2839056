"""Slow, obvious versions of the core's equations, written as loops over numbers.

Nothing here comes from the package: an expectation that is computed with the code under test proves nothing.
"""

import math

import numpy as np
from scipy import stats

# A statistical test fails by chance once in a million draws of its keys; they are fixed, so it fails always or never.
CHANCE = 1e-6


def normal_quantile(chance=CHANCE):
    """The absolute value that a standard normal number exceeds with probability `chance`."""
    return float(stats.norm.isf(chance / 2))


def assert_frequencies(counts, probs, chance=CHANCE):
    """Chi-square test of `counts` against `probs`; impossible outcomes must not occur, rare ones are pooled."""
    counts, probs = np.asarray(counts, dtype=float), np.asarray(probs, dtype=float)
    assert counts.shape == probs.shape
    assert counts[probs == 0].sum() == 0, "an outcome of probability zero was drawn"
    expected = probs * (counts.sum() / probs.sum())
    order = np.argsort(expected)
    pooled_counts, pooled_expected, count, mass = [], [], 0.0, 0.0
    for i in order:
        count, mass = count + counts[i], mass + expected[i]
        # Chi-square is a fair approximation only where five or more are expected.
        if mass >= 5:
            pooled_counts.append(count)
            pooled_expected.append(mass)
            count, mass = 0.0, 0.0
    if mass > 0 and pooled_counts:
        pooled_counts[-1] += count
        pooled_expected[-1] += mass
    observed, wanted = np.array(pooled_counts), np.array(pooled_expected)
    if len(observed) < 2:
        return
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    bound = float(stats.chi2.isf(chance, len(observed) - 1))
    assert statistic < bound, (
        f"chi-square {statistic:.1f} exceeds {bound:.1f} at {len(observed) - 1} degrees of freedom"
    )


# --- latent ---------------------------------------------------------------------------------------------------------


def gaussian_kl_by_integration(mean, std, points=200_001, width=14.0):
    """KL(N(mean, std^2) || N(0, 1)) in nats as the integral of q log(q / p)."""
    x = np.linspace(mean - width * std, mean + width * std, points)
    log_q = -0.5 * ((x - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)
    log_p = -0.5 * x**2 - 0.5 * math.log(2 * math.pi)
    integrand = np.exp(log_q) * (log_q - log_p)
    return float(((integrand[1:] + integrand[:-1]) / 2 * np.diff(x)).sum())


def free_bits(kl, bits, mode):
    """`kl` is a list of rows."""
    free = bits * math.log(2)
    result = []
    for row in kl:
        if mode == "total":
            result.append(max(sum(row) - free, 0.0))
        else:
            result.append(sum(max(value - free, 0.0) for value in row))
    return result


def slerp(a, b, weight):
    """For two vectors that are neither zero nor (anti)parallel."""
    norm_a, norm_b = math.sqrt(sum(x * x for x in a)), math.sqrt(sum(x * x for x in b))
    u, v = [x / norm_a for x in a], [x / norm_b for x in b]
    angle = math.acos(max(-1.0, min(1.0, sum(x * y for x, y in zip(u, v, strict=True)))))
    share_a, share_b = math.sin((1 - weight) * angle) / math.sin(angle), math.sin(weight * angle) / math.sin(angle)
    norm = (1 - weight) * norm_a + weight * norm_b
    return [norm * (share_a * x + share_b * y) for x, y in zip(u, v, strict=True)]


# --- sequences ------------------------------------------------------------------------------------------------------


def cut_after_eos(tokens, eos, pad):
    rows, lengths = [], []
    for row in tokens:
        kept = []
        for token in row:
            kept.append(token)
            if token == eos:
                break
        lengths.append(len(kept))
        rows.append(kept + [pad] * (len(row) - len(kept)))
    return rows, lengths


def shift_right(tokens, first, pad, lengths):
    rows = []
    for row, length in zip(tokens, lengths, strict=True):
        inputs = [first] + list(row[:-1])
        rows.append([inputs[t] if t < length else pad for t in range(len(row))])
    return rows


def log_softmax(logits):
    """Of one list of numbers, which may hold -inf."""
    peak = max(logits)
    total = sum(math.exp(x - peak) for x in logits)
    return [x - peak - math.log(total) for x in logits]


def softmax(logits):
    return [math.exp(x) for x in log_softmax(logits)]


def token_log_probs(logits, tokens, lengths):
    result = []
    for row_logits, row_tokens, length in zip(logits, tokens, lengths, strict=True):
        row = []
        for t, token in enumerate(row_tokens):
            row.append(log_softmax(row_logits[t])[token] if t < length else 0.0)
        result.append(row)
    return result


def entropy(probs):
    return -sum(p * math.log(p) for p in probs if p > 0)


# --- sampling -------------------------------------------------------------------------------------------------------


def truncated_probs(logits, temperature=1.0, top_k=0, top_p=0.0):
    """Probabilities of every token; unused by top-k and top-p: 0. For distinct logits."""
    probs = softmax([x / temperature for x in logits])
    by_likelihood = sorted(range(len(probs)), key=lambda i: -probs[i])
    kept = set(by_likelihood)
    if top_k > 0:
        kept = set(by_likelihood[:top_k])
    if 0 < top_p < 1:
        nucleus, mass = [], 0.0
        for i in by_likelihood:
            nucleus.append(i)
            mass += probs[i]
            if mass >= top_p:
                break
        kept &= set(nucleus)
    total = sum(probs[i] for i in kept)
    return [probs[i] / total if i in kept else 0.0 for i in range(len(probs))]


# --- rollout --------------------------------------------------------------------------------------------------------


def completion_distribution(next_probs, prefix, eos, max_len):
    """Every way to finish `prefix`, with its probability.

    `next_probs(history)` gives the list of probabilities of the next token after the tuple `history`.
    """
    prefix = tuple(prefix)
    if len(prefix) == max_len or eos in prefix:
        return {prefix: 1.0}
    result = {}
    for token, prob in enumerate(next_probs(prefix)):
        if prob > 0:
            for finished, rest in completion_distribution(next_probs, prefix + (token,), eos, max_len).items():
                result[finished] = result.get(finished, 0.0) + prob * rest
    return result


def checkpoints(length, stride):
    """Lengths of the proper prefixes that are completed."""
    return [i for i in range(1, length) if i % stride == 0]


# --- adversarial ----------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def binary_cross_entropy(logit, target):
    return -(target * log_sigmoid(logit) + (1 - target) * log_sigmoid(-logit))


# --- policy gradient ------------------------------------------------------------------------------------------------


def rewarded_positions(length, stride):
    """Indices (from 0) of the tokens that end a rewarded prefix."""
    ends = [i for i in range(stride, length, stride)] + [length]
    return [i - 1 for i in ends]


def prefix_weighted_loss(log_probs, rewards, lengths, stride):
    """SeqVAE_2: - sum_i R_i * sum_{t <= i} log p_t, one double loop a sequence."""
    losses = []
    for row_log_probs, row_rewards, length in zip(log_probs, rewards, lengths, strict=True):
        loss = 0.0
        for i in rewarded_positions(length, stride):
            for t in range(i + 1):
                loss -= row_rewards[i] * row_log_probs[t]
        losses.append(loss)
    return losses


def segment_loss(log_probs, rewards, lengths, stride):
    """SeqVAE_1: - sum_i R_i * sum of log p_t over the segment that ends at i."""
    losses = []
    for row_log_probs, row_rewards, length in zip(log_probs, rewards, lengths, strict=True):
        loss, start = 0.0, 0
        for i in rewarded_positions(length, stride):
            loss -= row_rewards[i] * sum(row_log_probs[start : i + 1])
            start = i + 1
        losses.append(loss)
    return losses


def token_returns(rewards, rewarded, lengths, credit):
    """`rewarded`: for each row the set of rewarded positions."""
    result = []
    for row_rewards, row_rewarded, length in zip(rewards, rewarded, lengths, strict=True):
        row = []
        for t in range(len(row_rewards)):
            later = [i for i in sorted(row_rewarded) if t <= i < length]
            if t >= length:
                row.append(0.0)
            elif credit == "step":
                row.append(row_rewards[later[0]])
            else:
                row.append(sum(row_rewards[i] for i in later))
        result.append(row)
    return result


def advantages(returns, lengths, baseline, normalize):
    result = [[0.0] * len(row) for row in returns]
    real = []
    for b, row in enumerate(returns):
        for t in range(lengths[b]):
            alive = [c for c in range(len(returns)) if t < lengths[c]]
            if baseline == "none":
                value = 0.0
            elif len(alive) == 1:
                value = row[t]
            elif baseline == "mean":
                value = sum(returns[c][t] for c in alive) / len(alive)
            else:
                value = sum(returns[c][t] for c in alive if c != b) / (len(alive) - 1)
            result[b][t] = row[t] - value
            real.append(result[b][t])
    scale = math.sqrt(sum(value * value for value in real) / len(real))
    if normalize and scale > 0:
        result = [[value / scale for value in row] for row in result]
    return result


# --- schedules ------------------------------------------------------------------------------------------------------


def turn_names(gen_pretrain, disc_pretrain, g_steps, d_steps, updates):
    """The first `updates` turns, written down one after the other."""
    names = ["generator-pretrain"] * gen_pretrain + ["discriminator-pretrain"] * disc_pretrain
    while len(names) < updates:
        names += ["generator"] * g_steps + ["discriminator"] * d_steps
    return names[:updates]


def cyclical_weight(update, weight, anneal_updates, cycles, ramp):
    if update >= anneal_updates:
        return weight
    cycle_length = anneal_updates / cycles
    place = update
    while place >= cycle_length:
        place -= cycle_length
    return weight * min(1.0, place / (ramp * cycle_length))


# --- networks -------------------------------------------------------------------------------------------------------


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, w_ih, w_hh, b_ih, b_hh):
    """One direction over `x` (T, D), from a zero state; gates in torch's order i, f, g, o. Gives (T, H)."""
    hidden = w_hh.shape[1]
    h, c, outputs = np.zeros(hidden), np.zeros(hidden), []
    for step in x:
        gates = w_ih @ step + b_ih + w_hh @ h + b_hh
        i, f, g, o = (gates[n * hidden : (n + 1) * hidden] for n in range(4))
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def convolution_max(embedded, kernel, bias):
    """Largest response of each of F kernels over the windows of one sequence.

    `embedded` (length, D) holds real tokens alone; `kernel` (F, D, width) in the layout of Conv1d. Windows lie inside
    the sequence; a sequence shorter than the width is filled up with zero vectors and has one window.
    """
    length, dim = embedded.shape
    num_kernels, _, width = kernel.shape
    best = np.full(num_kernels, -np.inf)
    for start in range(max(length - width, 0) + 1):
        for f in range(num_kernels):
            total = bias[f]
            for offset in range(width):
                if start + offset < length:
                    for d in range(dim):
                        total += kernel[f, d, offset] * embedded[start + offset, d]
            best[f] = max(best[f], total)
    return best
