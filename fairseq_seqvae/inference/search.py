"""Generation in the form that fairseq's commands expect: latent vectors of sentences and draws, and a sampler."""

import copy
import logging

from fairseq import search

logger = logging.getLogger(__name__)


# Options under which only fairseq's own generator does what is asked, with the value that switches them off.
_BEAM_SEARCH_OPTIONS = {
    "no_repeat_ngram_size": 0,
    "match_source_len": False,
    "print_alignment": None,
    "constraints": None,
}


def can_sample(models, args, seq_gen_cls, extra_gen_cls_kwargs, prefix_allowed_tokens_fn) -> bool:
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
        logger.info("sampling by fairseq's generator: what is drawn then depends on the batch size, too")
    return not special


def check_options(args, subset: str | None) -> None:
    """Raise a ValueError, for beam search as for sampling, about options that cannot be; *subset* is that of draws."""
    if args.beam < 1:
        raise ValueError(f"--beam must be at least 1 but is {args.beam}.")
    if getattr(args, "nbest", 1) < 1:
        raise ValueError(f"--nbest must be at least 1 but is {args.nbest}.")
    if getattr(args, "nbest", 1) > args.beam:
        raise ValueError(f"--nbest {args.nbest} needs --beam {args.nbest} or more, but --beam is {args.beam}.")
    if not args.temperature > 0:
        raise ValueError(f"--temperature must be positive but is {args.temperature}.")
    if not args.sampling_topp <= 1:
        raise ValueError(f"--sampling-topp must be at most 1 but is {args.sampling_topp}.")
    prefix_size = getattr(args, "prefix_size", 0)
    if prefix_size < 0:
        raise ValueError(f"--prefix-size must not be negative but is {prefix_size}.")
    if subset and prefix_size > 0:
        raise ValueError(
            f"--prefix-size {prefix_size} needs sentences to take prefixes from, but --gen-subset {subset} has none: "
            "choose a split of the data."
        )
    if subset and getattr(args, "score_reference", False):
        raise ValueError(
            f"--score-reference needs sentences to score, but --gen-subset {subset} has none: choose a split of the "
            "data."
        )


def fit_lengths(args, fixed_length: int):
    """Options of generation with the lengths that a model of fixed length has."""
    if not fixed_length:
        return args
    args = copy.deepcopy(args)
    args.min_len, args.max_len_a, args.max_len_b = fixed_length, 0, fixed_length
    return args


def sample_for_search(sample: dict, generator) -> dict:
    """The sample as fairseq's search can take it.

    Diverse beam search looks up a table of the batch by the number that a sentence has in its data set, which fails for
    all but the first batch; without numbers it counts within the batch.
    """
    if isinstance(getattr(generator, "search", None), search.DiverseBeamSearch):
        return {key: value for key, value in sample.items() if key != "id"}
    return sample
