"""What fairseq's commands generate with a SeqVAE: from sentences, from the prior, along a walk, from prompts."""

import logging
import zlib
from collections import Counter
from typing import Any

import torch
from fairseq.data import Dictionary
from torch import Tensor

from fairseq_seqvae.inference import latents, search
from fairseq_seqvae.inference.sampler import SeqVAESampler
from fairseq_seqvae.tasks.config import SeqVAETaskConfig
from fairseq_seqvae.tasks.labels import LabelledTask

logger = logging.getLogger(__name__)

PRIOR, INTERPOLATE = "prior", "interpolate"


class LatentGenerationTask(LabelledTask):
    """The part of the task that needs no training.

    Attributes:
        dictionary: of source and target
        fixed_length: number of tokens of every sequence, which then has no EOS; 0: they end with EOS
    """

    def __init__(self, cfg: SeqVAETaskConfig, dictionary: Dictionary):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.fixed_length: int = cfg.fixed_length
        self.bpe, self.tokenizer = None, None
        self._ends: list[Tensor] | None = None
        self._prompts_seen: Counter = Counter()

    def build_bpe(self, args: Any) -> Any:
        """Remember the encoder of subwords: the sentences between which one walks need it."""
        self.bpe = super().build_bpe(args)
        return self.bpe

    def build_tokenizer(self, args: Any) -> Any:
        """Remember the tokenizer, see :meth:`build_bpe`."""
        self.tokenizer = super().build_tokenizer(args)
        return self.tokenizer

    def build_generator(
        self,
        models: list[Any],
        args: Any,
        seq_gen_cls: Any = None,
        extra_gen_cls_kwargs: dict[str, Any] | None = None,
        prefix_allowed_tokens_fn: Any = None,
    ) -> Any:
        """A sampler for ``--sampling``, fairseq's beam search for the rest."""
        search.check_options(args, self._subset_of_draws())
        args = search.fit_lengths(args, self.fixed_length)
        if search.can_sample(models, args, seq_gen_cls, extra_gen_cls_kwargs, prefix_allowed_tokens_fn):
            return SeqVAESampler(models[0], self.dictionary, args, self.cfg.seed)
        return super().build_generator(models, args, seq_gen_cls, extra_gen_cls_kwargs, prefix_allowed_tokens_fn)

    def inference_step(
        self,
        generator: Any,
        models: list[Any],
        sample: dict[str, Any],
        prefix_tokens: Tensor | None = None,
        constraints: Any = None,
    ) -> Any:
        """Give each sentence its latent vector, then generate."""
        with torch.no_grad():
            net_input = dict(sample["net_input"])
            tokens, lengths = net_input["src_tokens"], net_input["src_lengths"]
            ids = sample["id"] if "id" in sample else self._prompt_ids(tokens)
            continues = self.cfg.prompt == "continue" and prefix_tokens is None and "id" not in sample
            if continues:
                prefix_tokens = latents.without_eos(tokens, self.dictionary.eos(), self.dictionary.pad())
            if prefix_tokens is not None and prefix_tokens.size(1) == 0:
                prefix_tokens = None
            z: Tensor | None
            subset = self._subset_of_draws()
            # A walk has one label.
            known_ids = torch.zeros_like(ids) if subset == INTERPOLATE else ids
            labels = self.label_inputs(models, known_ids, net_input.get("labels"), subset is not None)
            net_input |= labels
            if subset and "id" in sample and "prev_output_tokens" not in net_input:
                z = self._latent_of_draws(models, subset, ids, labels.get("labels"))
                if subset == INTERPOLATE:
                    # The points of a walk share their random numbers: what differs between them comes from z.
                    ids = torch.zeros_like(ids)
            else:
                if prefix_tokens is not None:
                    # What follows the prefix must not be known to the latent vector either.
                    tokens, lengths = latents.prefixes_as_sources(
                        prefix_tokens, self.dictionary.eos(), self.dictionary.pad(), with_eos=not self.fixed_length
                    )
                how = self.cfg.latent, self.cfg.seed, self._prior, labels.get("labels")
                z = latents.latent_of_sentences(models, tokens, lengths, ids, *how)
            if z is not None:
                net_input["z"] = z
            elif prefix_tokens is not None:
                net_input["src_tokens"], net_input["src_lengths"] = tokens, lengths
            sample = search.sample_for_search({**sample, "noise_id": ids, "net_input": net_input}, generator)
            return generator.generate(models, sample, prefix_tokens=prefix_tokens, constraints=constraints)

    @property
    def _prior(self) -> str:
        """``model`` or ``fitted``; tasks of earlier checkpoints do not know."""
        return str(getattr(self.cfg, "prior", None) or "model")

    def _subset_of_draws(self) -> str | None:
        """``prior`` or ``interpolate``, if that is what is generated."""
        return next((name for name in (PRIOR, INTERPOLATE) if name in self.datasets), None)

    def _latent_of_draws(self, models, subset: str, ids: Tensor, labels: Tensor | None) -> Tensor:
        if subset == PRIOR:
            return latents.prior_latent(models[0], ids, self.cfg.seed, self._prior)
        ends = None
        if self.cfg.interpolate_from is not None:
            if self._ends is None:
                self._ends = [self._encode_end(name) for name in ("interpolate_from", "interpolate_to")]
            known = None if labels is None else labels[:1].expand(len(self._ends))
            ends = latents.posterior_means(models, self._ends, self.dictionary.pad(), ids.device, known)
        return latents.interpolated_latent(models[0], ids, self.cfg.num_draws, self.cfg.seed, ends, self._prior)

    def _encode_end(self, name: str) -> Tensor:
        """Tokens (T,) of the sentence that the option *name* gives, where a walk begins or ends."""
        flag = f"--{name.replace('_', '-')}"
        tokens = self.encode_sentence(getattr(self.cfg, name))
        if self.fixed_length and len(tokens) != self.fixed_length:
            raise ValueError(f"{flag} has {len(tokens)} tokens: the model knows sequences of {self.fixed_length} only.")
        if len(tokens) > self.cfg.max_positions:
            raise ValueError(
                f"{flag} has {len(tokens)} tokens, more than --max-positions {self.cfg.max_positions}: shorten it."
            )
        self.warn_of_unknown_symbols(tokens, len(tokens) - (not self.fixed_length), f"{flag}: ")
        return tokens

    def encode_sentence(self, text: str) -> Tensor:
        """Tokens (T,) of a sentence as the encoder knows them, by the tokenizer and subword encoder in use."""
        for encoder in (self.tokenizer, self.bpe):
            if encoder is not None:
                text = encoder.encode(text)
        return self.dictionary.encode_line(text, add_if_not_exist=False, append_eos=not self.fixed_length).long()

    def _prompt_ids(self, tokens: Tensor) -> Tensor:
        """Numbers for lines that fairseq-interactive hands over without any: by content, and by how often it came.

        So what is drawn for a line depends on no batch, and a line typed twice gets two draws.
        """
        ids = []
        for row in tokens.tolist():
            content = " ".join(str(t) for t in row if t != self.dictionary.pad())
            ids.append(zlib.crc32(content.encode()) * 1_000_003 + self._prompts_seen[content])
            self._prompts_seen[content] += 1
        return torch.tensor(ids, dtype=torch.long, device=tokens.device)

    def warn_of_unknown_symbols(self, tokens: Tensor, num_symbols: int, source: str = "") -> None:
        """Warn if some of the *num_symbols* symbols of *tokens* (T,) are <unk>; *source* says whose they are."""
        unknown = int((tokens == self.dictionary.unk()).sum())
        if unknown:
            logger.warning(
                f"{source}{unknown} of {num_symbols} symbols are not in the dictionary (<unk>): "
                f"{self.dictionary.string(tokens)}"
            )
