"""Sampling, encoding, reconstruction, interpolation and continuation of text from Python."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from fairseq import checkpoint_utils, file_utils, hub_utils
from fairseq.data import data_utils
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_REGISTRY
from omegaconf import open_dict
from torch import Tensor

from fairseq_seqvae import register
from fairseq_seqvae.core.latents.base import Posterior
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import SamplingOptions
from fairseq_seqvae.core.rollouts.rollout import sample
from fairseq_seqvae.inference import latents
from fairseq_seqvae.inference.labels import Labels, code_of, labels_of_texts

GREEDY = SamplingOptions(top_k=1)


def load_hub_interface(
    model_name_or_path: str | os.PathLike, checkpoint_file: str, data_name_or_path: str | os.PathLike, **kwargs: Any
) -> "SeqVAEHubInterface":
    """See :meth:`fairseq_seqvae.models.SeqVAEModel.from_pretrained`."""
    for name, path in (("model_name_or_path", model_name_or_path), ("data_name_or_path", data_name_or_path)):
        if not Path(path).exists():
            raise FileNotFoundError(f"`{name}` {str(path)!r} does not exist: give a folder, best by its absolute path.")
    register()
    folder = file_utils.load_archive_file(str(model_name_or_path))
    for name in checkpoint_file.split(os.pathsep) if folder else ():
        refuse_addresses(refuse_other_tasks(os.path.join(folder, name)), kwargs)
    loaded = hub_utils.from_pretrained(str(model_name_or_path), checkpoint_file, str(data_name_or_path), **kwargs)
    return SeqVAEHubInterface(loaded["args"], loaded["task"], loaded["models"])


def refuse_other_tasks(path: str | os.PathLike) -> Any:
    """The configuration in a checkpoint, which the task seqvae must have trained.

    fairseq builds whatever task and model a checkpoint names, and some evaluate strings of their options as code.

    Raises:
        ValueError: another task did
    """
    cfg = checkpoint_utils.load_checkpoint_to_cpu(str(path))["cfg"]
    task = getattr(cfg.task, "task", None) or getattr(cfg.task, "_name", None)
    if not getattr(TASK_REGISTRY.get(task), "builds_seqvae_only", False):
        raise ValueError(f"{path} is a checkpoint of the task {task!r}: give one that --task seqvae trained.")
    return cfg


def refuse_addresses(cfg: Any, given: Mapping[str, Any]) -> None:
    """Refuse to fetch what the encoder of subwords or the tokenizer of a checkpoint names, unless the caller names it.

    Args:
        cfg: the configuration in the checkpoint
        given: options that the caller gives in place of those in the checkpoint

    Raises:
        ValueError: an option, or its default, is an address, or a subword encoder would fetch a vocabulary
    """
    for part in ("bpe", "tokenizer"):
        name = given.get(part, getattr(cfg.get(part), "_name", cfg.get(part)))
        config = REGISTRIES[part]["dataclass_registry"].get(name)
        if config is None:
            continue
        options = {**vars(config()), **(cfg[part] if isinstance(cfg.get(part), Mapping) else {}), **given}
        addresses = [key for key in vars(config()) if key not in given and urlparse(str(options[key])).scheme]
        if name == "bert" and not options["bpe_vocab_file"]:
            addresses.append("bpe_vocab_file")
        if addresses:
            raise ValueError(
                f"the checkpoint's {part} {name!r} would fetch {addresses[0]} {str(options[addresses[0]])!r} from "
                f"elsewhere: give it yourself, as a local file: from_pretrained(..., {addresses[0]}=FILE)."
            )


class SeqVAEHubInterface(hub_utils.GeneratorHubInterface):
    """A trained model with text on both sides.

    What fairseq's interface offers works too (``encode`` and ``decode`` between text and tokens, ``generate`` with beam
    search, ``score``). In the methods here *texts* are lines as they were before subword encoding, and random draws
    are a function of *seed* and of the place in the list alone. Sampling options are those of
    :func:`fairseq_seqvae.sampling.pick`, with ``max_len`` (tokens, EOS included) and ``min_len``.

    Of a model that was trained with --labels, *labels* are those of the given texts, and *condition* is what is asked
    for: one label, or one for each text. Without *condition*, texts are made with their own labels, and draws with
    labels as frequent as in the training data.
    """

    @property
    def model(self) -> Any:
        """The first model of the ensemble."""
        return self.models[0]

    @property
    def latent_dim(self) -> int:
        """Z."""
        return latents.latent_dim(self.model)

    @torch.no_grad()
    def encode_latent(self, texts: Sequence[str], labels: Labels = None) -> Posterior:
        """q(z|x) of each text: its ``mean`` (B, Z) and, of a Gaussian, ``std`` (B, Z)."""
        tokens = [self._binarize(text) for text in self._checked(texts)]
        fixed = self.model.decoder.fixed_length
        for text, row in zip(texts, tokens, strict=True):
            if fixed and len(row) != fixed:
                raise ValueError(f"{text!r} has {len(row)} tokens: the model knows sequences of {fixed} only.")
        return self._posterior(tokens, labels_of_texts(self, labels, None, len(tokens)))

    def _posterior(self, tokens: list[Tensor], labels: Tensor | None) -> Posterior:
        lengths = torch.tensor([len(t) for t in tokens], device=self.device)
        padded = data_utils.collate_tokens(tokens, self.tgt_dict.pad(), left_pad=False).to(self.device)
        return self.model.encoder.posterior(padded, lengths, labels)

    def sample_latent(self, n: int, seed: int = 1, prior: str = "model") -> Tensor:
        """*n* draws from the prior, (n, Z): the ``model``'s own or the ``fitted`` one."""
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"`n` must be a whole number of at least 1 but is {n!r}.")
        return latents.prior_latent(self.model, torch.arange(n, device=self.device), seed, prior)

    @torch.no_grad()
    def decode_latent(
        self,
        z: Tensor,
        seed: int | None = None,
        max_len: int = 200,
        prefixes: Sequence[str] | None = None,
        condition: Labels = None,
        **options: Any,
    ) -> list[str]:
        """One text for each z (B, Z): the likeliest token at each step, or with *seed* or *options* a draw.

        Args:
            z: latent vectors
            seed: of the draws; with *options* alone it is 1
            max_len: longest text, in tokens, EOS included; no longer than the decoder makes of a z
            prefixes: texts to begin with, one for each z
            condition: labels of the texts, see :class:`SeqVAEHubInterface`
            options: ``temperature``, ``top_k``, ``top_p``, ``min_len``
        """
        if not torch.is_tensor(z):
            raise TypeError(f"`z` must be a tensor (B, {self.latent_dim}) but is a {type(z).__name__}.")
        if z.dim() != 2 or z.size(1) != self.latent_dim:
            raise ValueError(f"`z` must have the shape (B, {self.latent_dim}) but has {tuple(z.shape)}.")
        decoder = self.model.decoder
        max_len = min(max_len, decoder.max_positions())
        prefix = None if prefixes is None else self._prefix_tokens(prefixes, len(z))
        if prefix is not None:
            max_len = max(max_len, prefix.size(1))
        keys = Draws(1 if seed is None else seed).keys(Stream.GENERATION, torch.arange(len(z), device=self.device))
        how = GREEDY if seed is None and not options else SamplingOptions(**options)
        code = code_of(self, z.to(self.device), condition, seed)
        drawn = sample(decoder, code, keys, decoder.fixed_length or max_len, how, prefix)
        return [self.decode(tokens[:length]) for tokens, length in zip(drawn.tokens, drawn.lengths, strict=True)]

    def _prefix_tokens(self, prefixes: Sequence[str], count: int) -> Tensor:
        """Tokens (B, P) of *prefixes*, padded on the right; there must be *count* of them."""
        if len(prefixes) != count:
            raise ValueError(f"`prefixes` must have one text for each of the {count} z but has {len(prefixes)}.")
        tokens = [self.encode(text)[:-1] for text in prefixes]
        prefix = data_utils.collate_tokens(tokens, self.tgt_dict.pad(), left_pad=False).to(self.device)
        fixed = self.model.decoder.fixed_length
        if 0 < fixed < prefix.size(1):
            raise ValueError(f"a prefix has {prefix.size(1)} tokens: the model knows sequences of {fixed} only.")
        return prefix

    def sample_prior(
        self, n: int, seed: int = 1, prior: str = "model", condition: Labels = None, **options: Any
    ) -> list[str]:
        """*n* new texts; *prior* as of :meth:`sample_latent`, options as of :meth:`decode_latent`."""
        return self.decode_latent(self.sample_latent(n, seed, prior), seed, condition=condition, **options)

    def reconstruct(
        self,
        texts: Sequence[str],
        latent: str = "mean",
        beam: int = 5,
        seed: int = 1,
        labels: Labels = None,
        condition: Labels = None,
    ) -> list[str]:
        """The likeliest text, by beam search, for the z of each text: the ``mean`` of its posterior or a ``sample``."""
        own = labels if labels is not None else condition
        posterior = self.encode_latent(texts, own)
        if latent == "mean":
            z = posterior.mean
        elif latent == "sample":
            z = self._draw(posterior, seed)
        else:
            raise ValueError(f"`latent` must be 'mean' or 'sample' but is {latent!r}.")
        return self._beam_search(code_of(self, z, own if condition is None else condition, seed), beam)

    def interpolate(
        self, start: str, end: str, n: int = 8, beam: int = 5, labels: Labels = None, condition: Labels = None
    ) -> list[str]:
        """*n* texts on the spherical way from one text to another, both ends reconstructed.

        All have the label *condition*; without it, that of the start.
        """
        if n < 2:
            raise ValueError(f"`n` must be at least 2, the two ends, but is {n}.")
        own = labels if labels is not None else condition
        ends = self.encode_latent([start, end], own).mean
        z = latents.interpolated_latent(self.model, torch.arange(n, device=self.device), n, 0, ends)
        if condition is None and own is not None:
            condition = own if isinstance(own, str) else own[0]
        return self._beam_search(code_of(self, z, condition, None), beam)

    @torch.no_grad()
    def continue_text(
        self,
        prefixes: Sequence[str],
        latent: str = "mean",
        seed: int = 1,
        labels: Labels = None,
        condition: Labels = None,
        **options: Any,
    ) -> list[str]:
        """Texts that begin with the given ones.

        Args:
            latent: z is the ``mean`` of the posterior of the prefix, a ``sample`` of it, or from the ``prior``
            labels: of the prefixes, see :class:`SeqVAEHubInterface`
            condition: labels of what comes out
        """
        wanted = labels if condition is None else condition
        if latent not in ("mean", "sample", "prior"):
            raise ValueError(f"`latent` must be 'mean', 'sample' or 'prior' but is {latent!r}.")
        tokens = [self._binarize(text) for text in self._checked(prefixes)]
        if latent == "prior":
            z = self.sample_latent(len(tokens), seed)
        elif not all(map(len, tokens)):
            raise ValueError("a prefix is empty, and the model knows no end of a sequence: give latent='prior'.")
        else:
            posterior = self._posterior(tokens, labels_of_texts(self, labels, condition, len(tokens)))
            z = posterior.mean
            if latent == "sample":
                z = self._draw(posterior, seed)
        return self.decode_latent(z, seed, prefixes=prefixes, condition=wanted, **options)

    def _draw(self, posterior: Posterior, seed: int) -> Tensor:
        """One draw of each posterior, (B, Z)."""
        ids = torch.arange(len(posterior.mean), device=self.device)
        return posterior.sample(Draws(seed).normal(Stream.POSTERIOR, ids, posterior.noise_dim))

    def _beam_search(self, code: Tensor, beam: int) -> list[str]:
        args = copy.deepcopy(self.cfg.generation)
        with open_dict(args):
            args.beam, args.sampling = beam, False
        generator = self.task.build_generator(self.models, args)
        eos = torch.full((len(code), 1), self.tgt_dict.eos(), device=self.device)
        net_input = {"src_tokens": eos, "src_lengths": torch.ones_like(eos[:, 0]), "z": code}
        hypotheses = generator.generate(self.models, {"net_input": net_input})
        return [self.decode(best[0]["tokens"]) for best in hypotheses]

    def _binarize(self, text: str) -> Tensor:
        """Tokens (T,) as the encoder knows them: a model of fixed length knows no EOS."""
        tokens = self.encode(text)
        self.task.warn_of_unknown_symbols(tokens, len(tokens) - 1)
        return tokens[:-1] if self.model.decoder.fixed_length else tokens

    @staticmethod
    def _checked(texts: Sequence[str]) -> Sequence[str]:
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string: its letters would be taken for texts.")
        if not texts:
            raise ValueError("the list of texts is empty.")
        if other := next((text for text in texts if not isinstance(text, str)), None):
            raise TypeError(f"give a list of texts: {other!r} is a {type(other).__name__}.")
        return texts
