"""The figures of a checkpoint in sentences."""

from collections.abc import Iterable, Mapping
from typing import Any

from fairseq_seqvae.metrics.registry import LATENT_METRICS, RECONSTRUCTION_METRICS

# An estimate above this share of its ceiling says little but that there is a ceiling.
_NEAR_CEILING = 0.9

Figures = Mapping[str, Any]


def sentences(figures: Figures) -> str:
    """One line per subject; metrics that a file of the user registered come by their names."""
    lines = [
        f"{figures['sequences']} sequences of {figures['subset']}, {figures['tokens']} tokens, "
        f"{figures['importance_samples']} importance samples each"
    ]
    lines += [_likelihood(figures, number) for number in range(len(figures["temperatures"]))]
    lines += [_latent(figures), *_reconstruction(figures), *_walks(figures)]
    lines += [f"{name} {figures[name]:.4g}" for name in _further(figures, LATENT_METRICS, _LATENT)]
    lines += [f"{name} {figures[name]:.4g}" for name in _further(figures, RECONSTRUCTION_METRICS, _RECONSTRUCTION)]
    for tau, sampled in zip(figures["temperatures"], figures.get("samples", []), strict=False):
        new = [name for name in sampled if name not in _SAMPLES]
        lines += [f"temperature {tau:g}: {name} {sampled[name]:.4g}" for name in new]
    return "\n".join(lines)


_LATENT = {"mutual_information", "mutual_information_bound", "active_units"}
_RECONSTRUCTION = {
    *("rec_acc", "rec_acc_other", "rec_acc_constant", "rec_acc_notes", "rec_acc_notes_other"),
    *("rec_exact", "rec_bleu", "rec_distinct", "rec_nll_gain"),
}
_SAMPLES = {"samples", "distinct_sequences", "bigrams", "distinct_bigrams"}


def _further(figures: Figures, registered: Iterable[str], told: set[str]) -> list[str]:
    """Names of the metrics that no sentence tells."""
    return [name for name in registered if name in figures and name not in told]


def _likelihood(figures: Figures, i: int) -> str:
    line = (
        f"temperature {figures['temperatures'][i]:g}: NLL {figures['nll'][i]:.4f} +- "
        f"{figures['nll_standard_error'][i]:.4f} nats per token, {figures['nll_per_sequence'][i]:.3f} per sequence "
        f"(ELBO {-figures['elbo_per_sequence'][i]:.3f})"
    )
    if "samples" in figures:
        sampled = figures["samples"][i]
        line += (
            f"; {sampled['distinct_sequences']} of {sampled['samples']} samples and {sampled['distinct_bigrams']} "
            f"of {sampled['bigrams']} bigrams distinct"
        )
    return line


def _latent(figures: Figures) -> str:
    found, ceiling = figures["mutual_information"], figures["mutual_information_ceiling"]
    count, bound = figures["sequences"], figures.get("mutual_information_bound")
    place = f"at most ln {count} = {ceiling:.2f}"
    if count > 1 and found > _NEAR_CEILING * ceiling:
        place = f"near ln {count} = {ceiling:.2f}, the most that {count} sequences can show: more would show more"
    upper = "" if bound is None else f"; upper bound without that limit {bound:.4f}"
    return (
        f"KL {figures['kl']:.4f}, mutual information {found:.4f} nats per sequence ({place}{upper}), "
        f"{figures['active_units']} of {figures['latent_dim']} units active"
    )


def _reconstruction(figures: Figures) -> list[str]:
    if "rec_acc" not in figures:
        return []
    floors = [
        f"{figures[name]:.1%} {what}"
        for name, what in (
            ("rec_acc_other", "from another sequence's z"),
            ("rec_acc_constant", "by the commonest token of each place"),
        )
        if name in figures
    ]
    line = f"greedy reconstruction gives back {figures['rec_acc']:.1%} of the tokens ({', '.join(floors)})"
    if "rec_acc_notes" in figures:
        other = f" ({figures['rec_acc_notes_other']:.1%})" if "rec_acc_notes_other" in figures else ""
        line += f", {figures['rec_acc_notes']:.1%} of the notes{other}"
    line += f" and {figures['rec_exact']:.1%} of the sequences as a whole"
    return [
        line,
        f"reconstructions: BLEU {figures['rec_bleu']:.2f}, {figures['rec_distinct']:.3f} different ones per different "
        f"sequence; z of the posterior instead of the prior is worth {figures['rec_nll_gain']:.3f} nats per sequence",
    ]


def _walks(figures: Figures) -> list[str]:
    if "walk_pairs" not in figures:
        return []
    has_notes = "walk_acc_notes" in figures

    def with_notes(name: str, form: str, tokens: str, notes: str) -> str:
        told = f"{figures[name]:{form}} {tokens}"
        return f"{told} ({figures[f'{name}_notes']:{form}} {notes})" if has_notes else told

    return [
        f"walks between {figures['walk_pairs']} pairs, {figures['walk_points']} points each: their ends give back "
        f"{with_notes('walk_acc', '.1%', 'of the tokens', 'of the notes')} of the two sequences; neighbours differ in "
        f"{with_notes('walk_step', '.1f', 'tokens', 'at notes')}, "
        f"the ends in {with_notes('walk_ends', '.1f', 'tokens', 'at notes')}"
    ]
