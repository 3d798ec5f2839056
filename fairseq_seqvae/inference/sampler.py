"""Generation in the form that fairseq's commands expect: latent vectors of sentences and draws, and a sampler."""

import logging

import torch
from torch import Tensor

from fairseq_seqvae.core import noise, rollouts
from fairseq_seqvae.core.noise import Stream

logger = logging.getLogger(__name__)


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
        samples = rollouts.sample(
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
