"""What fairseq's options of generation ask for: their bounds, and whether the package's own sampler can do it."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairseq import search
from torch import nn

from fairseq_seqvae.options import Relation, above, at_least, at_most, check, option

logger = logging.getLogger(__name__)


# Options that only fairseq's own generator knows, with the value that switches them off.
_BEAM_SEARCH_OPTIONS = {
    "no_repeat_ngram_size": 0,
    "match_source_len": False,
    "print_alignment": None,
    "constraints": None,
}


def can_sample(
    models: Sequence[nn.Module],
    args: Any,
    seq_gen_cls: type | None,
    extra_gen_cls_kwargs: Mapping[str, Any] | None,
    prefix_allowed_tokens_fn: Callable | None,
) -> bool:
    """Whether :class:`SeqVAESampler` does what is asked: plain sampling from one model."""
    if not getattr(args, "sampling", False) or getattr(args, "score_reference", False):
        return False
    extra = dict(extra_gen_cls_kwargs or {})
    extra.pop("lm_weight", None)
    language_model = extra.pop("lm_model", None)
    special = (
        len(models) > 1
        or seq_gen_cls is not None
        or prefix_allowed_tokens_fn is not None
        or language_model is not None
        or bool(extra)
        or any(getattr(args, name, off) not in (off, None, False) for name, off in _BEAM_SEARCH_OPTIONS.items())
    )
    if special:
        logger.info("sampling by fairseq's generator: its samples depend on the batch size too")
    return not special


@dataclass
class GenerationOptions:
    """Options of fairseq's own commands whose values are checked for beam search as for sampling."""

    beam: int = option(5, "size of the beam; with --sampling number of samples per sentence", at_least(1))
    nbest: int = option(1, "number of hypotheses printed per sentence", at_least(1))
    temperature: float = option(1.0, "what logits are divided by before the softmax", above(0, infinite=True))
    sampling_topp: float = option(
        -1.0, "with --sampling: share of the probability mass that the sampled tokens have", at_most(1), {-1: "off"}
    )
    prefix_size: int = option(0, "number of tokens of each sentence that are given", at_least(0), {0: "off"})

    RELATIONS = [
        Relation(
            ("nbest", "beam"),
            lambda nbest, beam: nbest <= beam,
            "--nbest {nbest} needs --beam {nbest} or more, but --beam is {beam}.",
        ),
        Relation(
            ("prefix_size", "gen_subset"),
            lambda size, subset: size == 0 or subset is None,
            "--prefix-size {prefix_size} needs sentences to take prefixes from, but --gen-subset {gen_subset} has "
            "none: choose a split of the data.",
        ),
        Relation(
            ("score_reference", "gen_subset"),
            lambda scores, subset: not scores or subset is None,
            "--score-reference needs sentences to score, but --gen-subset {gen_subset} has none: choose a split of "
            "the data.",
        ),
    ]


def check_options(args: Any, subset: str | None) -> None:
    """Raise a ValueError about impossible options of generation; *subset* is the one of draws, if it is one."""
    check(args, GenerationOptions, gen_subset=subset)


def fit_lengths(args: Any, fixed_length: int) -> Any:
    """Options of generation with the lengths of a model whose sequences all have *fixed_length* tokens, if not 0."""
    if not fixed_length:
        return args
    args = copy.deepcopy(args)
    args.min_len, args.max_len_a, args.max_len_b = fixed_length, 0, fixed_length
    return args


def sample_for_search(sample: dict[str, Any], generator: Any) -> dict[str, Any]:
    """The sample in the form that the *generator* accepts.

    Diverse beam search looks up a table of the batch by the number of a sentence in its data set, which fails in all
    batches but the first; without these numbers it counts within the batch.
    """
    if isinstance(getattr(generator, "search", None), search.DiverseBeamSearch):
        return {key: value for key, value in sample.items() if key != "id"}
    return sample
