"""A VAE of sentences (Bowman et al. 2016), as MR-VAE C.2 has it after Hu et al. 2019."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vae_models.data.tokens import BOS, EOS, PAD, UNK
from vae_models.likelihoods.tokens import Tokens
from vae_models.posteriors.normal import DiagonalNormal
from vae_models.precision import full
from vae_models.priors.standard_normal import StandardNormal
from vae_models.protocols import LatentLayer
from vae_models.records import NoiseSpec, Trace
from vae_models.topologies.groups import grouped
from vae_models.topologies.likelihood import X_NOISE
from vae_models.topologies.text.nets import SentenceDecoder, SentenceEncoder

LATENT, WORDS, INPUTS, OUTPUTS = "z", "dropout/words", "dropout/inputs", "dropout/outputs"


class SentenceVAE(nn.Module):
    """x = <bos>, tokens, <eos> -> q(z|x) -> z -> p(x|z) = prod_t p(x_t | x_<t, z), which <bos> is given.

    The decoder is taught with the true tokens before each place. Dropout's and word dropout's zeros are functions of
    noise that is given, and are in training alone: so a pass is a pure function of its arguments there, too.
    """

    bound = sampled = True
    given = 1  # <bos>, of a sentence's tokens

    def __init__(
        self,
        *,
        length: int,
        vocabulary: int,
        embedding: int,
        hidden: int,
        latent: int,
        dropout: float,
        word_dropout: float,
        deep: bool = False,
    ) -> None:
        """Build the nets. length: of the longest sentence, <bos> and <eos> included. dropout: of the decoder's inputs
        and outputs; word_dropout: of the tokens that it reads, which become <unk>. deep: see `SentenceEncoder`."""
        super().__init__()
        sizes = {"vocabulary": vocabulary, "embedding": embedding, "hidden": hidden, "latent": latent}
        self.encoder, self.decoder = SentenceEncoder(**sizes, deep=deep), SentenceDecoder(**sizes)
        self.likelihood = Tokens(vocabulary=vocabulary)
        self.length, self.embedding, self.hidden, self.latent = length, embedding, hidden, latent
        self.dropout, self.word_dropout = dropout, word_dropout
        self.prior, self.posterior = StandardNormal(latent=latent), DiagonalNormal()

    def latents(self) -> Mapping[str, LatentLayer]:
        """Return the one latent, z."""
        return {LATENT: LatentLayer(shape=(self.latent,), prior=self.prior, posterior=self.posterior)}

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the parameters of encoder and decoder."""
        return grouped({"encoder": (self.encoder,), "decoder": (self.decoder,)})

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """Return the noise of a pass: z's, standard normal, and in training that of dropout, uniform."""
        lead = () if samples == 1 else (samples,)
        places = self.length - 1
        specs = {LATENT: NoiseSpec(shape=(*lead, self.latent))}
        if not self.training:
            return specs
        if self.dropout:
            specs[INPUTS] = NoiseSpec(shape=(*lead, places, self.embedding), kind="uniform")
            specs[OUTPUTS] = NoiseSpec(shape=(*lead, places, self.hidden), kind="uniform")
        if self.word_dropout:
            specs[WORDS] = NoiseSpec(shape=(*lead, places), kind="uniform")
        return specs

    def forward(
        self,
        x: Int[Tensor, "batch time"],
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return one pass; the target is the sentence without <bos>, and padding counts nothing. beta is ignored."""
        several = noise[LATENT].ndim == 3
        samples = noise[LATENT].shape[1] if several else 1
        rows = {name: value.flatten(0, 1) if several else value for name, value in noise.items()}
        mean, raw = (full(each) for each in self.encoder(x, mask))
        if several:
            x, mean, raw = (each.repeat_interleave(samples, 0) for each in (x, mean, raw))
            mask = None if mask is None else mask.repeat_interleave(samples, 0)
        latent = self.posterior.latent(LATENT, mean, raw, rows[LATENT], self.prior)
        target, counted = x[:, 1:], None if mask is None else mask[:, 1:]
        logits = self._logits(latent.sample, x[:, :-1], rows)
        decoded = full(logits).flatten(1)
        distortion = -self.likelihood.log_prob(decoded, target, counted)
        return Trace(
            target=target,
            latents=(latent,),
            decoded=decoded,
            mean=self.likelihood.mean(decoded),
            distortion=distortion,
            reconstruction=distortion,
            samples=samples,
            mask=counted,
        )

    def _logits(self, z: Tensor, before: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        if not self.training:
            logits: Tensor = self.decoder(z, before, None, None)
            return logits
        time = before.shape[1]
        if self.word_dropout:
            before = torch.where(noise[WORDS][:, :time] < self.word_dropout, UNK, before)
        inputs, outputs = (self._kept(noise[name][:, :time]) if self.dropout else None for name in (INPUTS, OUTPUTS))
        taught: Tensor = self.decoder(z, before, inputs, outputs)
        return taught

    def _kept(self, uniform: Tensor) -> Tensor:
        """Return dropout's factors: 0 with probability p, else 1 / (1 - p)."""
        return (uniform >= self.dropout).to(uniform.dtype) / (1 - self.dropout)

    # --- sentences of z ---------------------------------------------------------------------------------------------

    def decode(self, z: Float[Tensor, "batch latent"], beta: Tensor | None = None) -> Int[Tensor, "batch time"]:
        """Return a sentence of each z, token by token the likeliest: <bos>, tokens, <eos>, then <pad>."""
        return self._written(z, lambda logits, place: logits.argmax(1))

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the prior's noise."""
        return self.prior.sample_noise()

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Int[Tensor, "batch time"]:
        """Return the likeliest sentences of z ~ p(z)."""
        return self.decode(self.prior.sample(noise, self._unread))

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the prior's noise, and uniform noise of each token."""
        return {**self.prior_noise(), X_NOISE: NoiseSpec(shape=(self.length,), kind="uniform")}

    def sample(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Int[Tensor, "batch time"]:
        """Draw sentences of z ~ p(z): each token from its distribution given those before it."""
        z = self.prior.sample(noise, self._unread)

        def drawn(logits: Tensor, place: int) -> Tensor:
            return self.likelihood.sample(logits, noise[X_NOISE][:, place : place + 1])[:, 0]

        return self._written(z, drawn)

    def _written(self, z: Tensor, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Return sentences [batch, length]. choose: from the logits of a place to its tokens, [batch]."""
        token = torch.full((len(z),), BOS, device=z.device)
        over = torch.zeros_like(token, dtype=torch.bool)
        state, sentence = self.decoder.first(z), [token]
        for place in range(1, self.length):
            logits, state = self.decoder.next(z, token, state)
            token = torch.where(over, PAD, choose(logits, place))
            over = over | (token == EOS)
            sentence.append(token)
        return torch.stack(sentence, dim=1)

    def _unread(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raise TypeError: a standard normal prior reads no data."""
        raise TypeError("this prior reads no data")
