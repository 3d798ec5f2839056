"""Generation in the form that fairseq's commands expect: latent vectors of sentences and draws, and a sampler."""

import copy
import logging

import torch
from fairseq import search
from fairseq.data import data_utils
from torch import Tensor

from fairseq_seqvae import noise, rollout
from fairseq_seqvae.latent import slerp
from fairseq_seqvae.noise import Stream

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


def without_eos(tokens: Tensor, eos: int, pad: int) -> Tensor:
    """Prompts (B, T) without their EOS, padded on the right; T may become 0."""
    tokens = tokens.masked_fill(tokens == eos, pad)
    return tokens[:, : int((tokens != pad).sum(dim=1).max())]


def prefixes_as_sources(prefixes: Tensor, eos: int, pad: int, with_eos: bool) -> tuple[Tensor, Tensor]:
    """Prefixes (B, P), padded with *pad*, as inputs of an encoder: tokens and lengths (B,).

    Args:
        with_eos: end them with EOS, as the sentences that the model knows
    """
    prefixes = prefixes.masked_fill(prefixes == eos, pad)
    lengths = (prefixes != pad).sum(dim=1)
    if not with_eos:
        return prefixes, lengths
    sources = torch.cat([prefixes, prefixes.new_full((prefixes.size(0), 1), pad)], dim=1)
    return sources.scatter(1, lengths.unsqueeze(1), eos), lengths + 1


def latent_dim(model) -> int:
    """Z of a model."""
    return model.encoder.latent_dim


def prior_latent(model, ids: Tensor, seed: int) -> Tensor:
    """Draws from the prior by number, (B, Z)."""
    return noise.normal(noise.row_keys(seed, 0, Stream.PRIOR, ids), latent_dim(model))


def latent_of_sentences(models, tokens: Tensor, lengths: Tensor, ids: Tensor, latent: str, seed: int) -> Tensor | None:
    """Latent vectors of sentences, (B, Z); None leaves it to each model to take the mean of its posterior.

    Args:
        tokens: (B, T), padded on the right
        lengths: (B,)
        ids: (B,), numbers of the sentences
        latent: ``mean``, ``sample`` (of the posterior) or ``prior``
    """
    if latent == "mean":
        return None
    if latent == "prior":
        return prior_latent(models[0], ids, seed)
    if len(models) > 1:
        raise ValueError("--latent sample needs one model, but --path names several: their latent spaces differ.")
    posterior = models[0].encoder.posterior(tokens, lengths)
    return posterior.sample(noise.normal(noise.row_keys(seed, 0, Stream.POSTERIOR, ids), latent_dim(models[0])))


def posterior_means(models, sentences: list[Tensor], pad: int, device) -> Tensor:
    """Means of q(z|x), (B, Z), of *sentences*, each (T,) with EOS."""
    if len(models) > 1:
        raise ValueError("walking between sentences needs one model, but --path names several.")
    tokens = data_utils.collate_tokens(sentences, pad, left_pad=False).to(device)
    lengths = torch.tensor([len(s) for s in sentences], device=device)
    return models[0].encoder.posterior(tokens, lengths).mean


def interpolated_latent(model, ids: Tensor, num_points: int, seed: int, ends: Tensor | None = None) -> Tensor:
    """Points *ids* of *num_points* on the way between two latent vectors, (B, Z).

    Args:
        ids: (B,), 0 is one end and *num_points* - 1 the other
        ends: (2, Z), or None for two draws from the prior

    Raises:
        ValueError: the model has no latent space (Z = 0).
    """
    if latent_dim(model) == 0:
        raise ValueError("there is nothing to walk through: the model was trained with --latent-dim 0.")
    if ends is None:
        ends = prior_latent(model, torch.arange(2, device=ids.device), seed)
    weight = ids.to(ends.dtype) / max(1, num_points - 1)
    return slerp(ends[:1].expand(len(ids), -1), ends[1:].expand(len(ids), -1), weight)


class SeqVAESampler:
    """Ancestral sampling with the interface of fairseq's ``SequenceGenerator``.

    ``--beam`` sequences are drawn a sentence, each by counter-based noise from (seed, number of the sentence, number of
    the draw), so that batches do not matter; they are returned likeliest first. ``--temperature``,
    ``--sampling-topk``, ``--sampling-topp``, ``--min-len``, ``--max-len-a/b``, ``--unkpen``, ``--lenpen`` and
    ``--unnormalized`` mean what they mean to fairseq.
    """

    def __init__(self, model, dictionary, args, seed: int):
        self.model = model
        self.eos, self.pad, self.unk = dictionary.eos(), dictionary.pad(), dictionary.unk()
        self.symbols_to_strip_from_output = {self.eos}
        self.draws = args.beam
        self.temperature = args.temperature
        self.top_k = max(0, args.sampling_topk)
        self.top_p = max(0.0, args.sampling_topp)
        self.max_len_a, self.max_len_b, self.min_len = args.max_len_a, args.max_len_b, args.min_len
        self.unk_penalty = args.unkpen
        self.length_penalty = args.lenpen
        self.normalize = not args.unnormalized
        self.fixed_length = model.decoder.fixed_length
        self.seed = seed
        model.eval()

    @torch.no_grad()
    def generate(self, models, sample, prefix_tokens: Tensor | None = None, constraints=None, **unused):
        """Hypotheses of each sentence of a batch, as lists of fairseq's dicts."""
        net_input, ids = sample["net_input"], sample["noise_id"]
        z = self.model.encoder(**{k: net_input.get(k) for k in ("src_tokens", "src_lengths", "z")})["z"][0]
        rows = torch.arange(len(ids), device=z.device).repeat_interleave(self.draws)
        numbers = torch.arange(self.draws, device=z.device).repeat(len(ids))
        if prefix_tokens is not None:
            prefix_tokens = prefix_tokens[rows]
        lengths = net_input["src_lengths"]
        if self.fixed_length:
            max_lens = torch.full_like(lengths, self.fixed_length)
        else:
            # fairseq takes the length of the longest source of the batch; then the batch would change what is drawn.
            max_lens = (self.max_len_a * lengths + self.max_len_b).long()
            max_lens = max_lens.clamp(max=self.model.max_decoder_positions() - 1)
            if max_lens.min() < max(1, self.min_len):
                raise ValueError(
                    f"--min-len {self.min_len} asks for more than the {int(max_lens.min())} tokens that --max-len-a "
                    f"{self.max_len_a:g} and --max-len-b {self.max_len_b} allow: raise --max-len-b."
                )
        max_lens = max_lens[rows]
        if prefix_tokens is not None and not self.fixed_length:
            max_lens = torch.maximum(max_lens, (prefix_tokens != self.pad).sum(dim=1))
        samples = rollout.sample(
            self.model.decoder,
            z[rows],
            noise.row_keys(self.seed, 0, Stream.GENERATION, ids[rows], numbers),
            int(max_lens.max()),
            self.eos,
            self.pad,
            prefix=prefix_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_len=0 if self.fixed_length else self.min_len,
            with_log_probs=True,
            unk=self.unk,
            unk_penalty=self.unk_penalty,
        )
        lengths = torch.minimum(samples.lengths, max_lens).tolist()
        hypotheses = [
            self._hypothesis(tokens[:length], log_probs[:length])
            for tokens, length, log_probs in zip(samples.tokens, lengths, samples.log_probs, strict=True)
        ]
        grouped = [hypotheses[i : i + self.draws] for i in range(0, len(hypotheses), self.draws)]
        return [sorted(group, key=lambda h: -float(h["score"])) for group in grouped]

    def _hypothesis(self, tokens: Tensor, log_probs: Tensor) -> dict[str, Tensor]:
        if tokens[-1] != self.eos:
            # Cut off at the greatest length, or of fixed length: fairseq's output ends with EOS all the same.
            tokens = torch.cat([tokens, tokens.new_tensor([self.eos])])
            log_probs = torch.cat([log_probs, log_probs.new_zeros(1)])
        score = log_probs.sum()
        if self.normalize:
            score = score / len(tokens) ** self.length_penalty
        return {
            "tokens": tokens,
            "score": score,
            "attention": torch.empty(0),
            "alignment": torch.empty(0),
            "positional_scores": log_probs,
        }
