"""The sampler that fairseq's commands use for ``--sampling``."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts import rollout
from fairseq_seqvae.core.rollouts.policy import SamplingOptions


class SeqVAESampler:
    """Ancestral sampling with the interface of fairseq's ``SequenceGenerator``.

    ``--beam`` sequences are drawn per sentence, each by counter-based noise from (seed, number of the sentence, number
    of the draw), so that batches do not matter; they are returned likeliest first. ``--temperature``,
    ``--sampling-topk``, ``--sampling-topp``, ``--min-len``, ``--max-len-a/b``, ``--unkpen``, ``--lenpen`` and
    ``--unnormalized`` mean what they mean to fairseq.

    Args:
        model: a SeqVAE
        dictionary: its dictionary
        args: fairseq's options of generation
        seed: of all draws
    """

    def __init__(self, model: Any, dictionary: Any, args: Any, seed: int):
        self.model = model
        self.eos, self.pad = dictionary.eos(), dictionary.pad()
        self.symbols_to_strip_from_output = {self.eos}
        self.draws = args.beam
        self.fixed_length = model.decoder.fixed_length
        self.max_len_a, self.max_len_b, self.min_len = args.max_len_a, args.max_len_b, args.min_len
        self.options = SamplingOptions(
            temperature=args.temperature,
            top_k=max(0, args.sampling_topk),
            top_p=max(0.0, args.sampling_topp),
            min_len=0 if self.fixed_length else args.min_len,
            unk=dictionary.unk(),
            unk_penalty=args.unkpen,
            with_log_probs=True,
        )
        self.length_penalty = args.lenpen
        self.normalize = not args.unnormalized
        self.seed = seed
        model.eval()

    @torch.no_grad()
    def generate(
        self,
        models: list[Any],
        sample: dict[str, Any],
        prefix_tokens: Tensor | None = None,
        constraints: Any = None,
        **unused: Any,
    ) -> list[list[dict[str, Tensor]]]:
        """Hypotheses of each sentence of a batch, as lists of fairseq's dicts."""
        net_input, ids = sample["net_input"], sample["noise_id"]
        inputs = {k: net_input.get(k) for k in ("src_tokens", "src_lengths", "z", "labels", "condition")}
        z = self.model.encoder(**inputs)["z"][0]
        rows = torch.arange(len(ids), device=z.device).repeat_interleave(self.draws)
        numbers = torch.arange(self.draws, device=z.device).repeat(len(ids))
        if prefix_tokens is not None:
            prefix_tokens = prefix_tokens[rows]
        max_lens = self._max_lengths(net_input["src_lengths"])[rows]
        if prefix_tokens is not None and not self.fixed_length:
            max_lens = torch.maximum(max_lens, (prefix_tokens != self.pad).sum(dim=1))
        keys = Draws(self.seed).keys(Stream.GENERATION, ids[rows], numbers)
        drawn = rollout.sample(self.model.decoder, z[rows], keys, int(max_lens.max()), self.options, prefix_tokens)
        assert drawn.log_probs is not None  # the options ask for them
        hypotheses = self._hypotheses(drawn.tokens, drawn.log_probs, torch.minimum(drawn.lengths, max_lens))
        if self.draws == 1:
            return [[hypothesis] for hypothesis in hypotheses]
        grouped = [hypotheses[i : i + self.draws] for i in range(0, len(hypotheses), self.draws)]
        return [sorted(group, key=lambda h: -float(h["score"])) for group in grouped]

    def _max_lengths(self, lengths: Tensor) -> Tensor:
        """Greatest number of tokens of each sentence, (B,), for sources of *lengths* (B,)."""
        if self.fixed_length:
            return torch.full_like(lengths, self.fixed_length)
        # fairseq takes the length of the longest source of the batch; then the batch would change what is drawn.
        max_lens = (self.max_len_a * lengths + self.max_len_b).long()
        max_lens = max_lens.clamp(max=self.model.max_decoder_positions() - 1)
        if max_lens.min() < max(1, self.min_len):
            raise ValueError(
                f"--min-len {self.min_len} asks for more than the {int(max_lens.min())} tokens that --max-len-a "
                f"{self.max_len_a:g} and --max-len-b {self.max_len_b} allow: raise --max-len-b."
            )
        return max_lens

    def _hypotheses(self, tokens: Tensor, log_probs: Tensor, lengths: Tensor) -> list[dict[str, Tensor]]:
        """Each row (T,) of *tokens* up to its length (B,), with its EOS, as fairseq has it."""
        places, ends = lengths.unsqueeze(1), lengths.new_full((len(lengths), 1), self.eos)
        # Cut off at the greatest length, or of fixed length: fairseq's output ends with EOS all the same.
        cut_off = tokens.gather(1, places - 1) != self.eos
        tokens = F.pad(tokens, (0, 1)).scatter(1, places, ends)
        log_probs = F.pad(log_probs, (0, 1)).scatter(1, places, 0.0)
        sizes = (places + cut_off).squeeze(1).tolist()
        return [
            self._hypothesis(row[:size], scores[:size])
            for row, scores, size in zip(tokens.unbind(), log_probs.unbind(), sizes, strict=True)
        ]

    def _hypothesis(self, tokens: Tensor, log_probs: Tensor) -> dict[str, Tensor]:
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
