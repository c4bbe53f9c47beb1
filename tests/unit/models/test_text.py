"""A VAE of sentences: counts, padding, teacher forcing, dropout as noise, sentences of z, and data to train it on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from service.cli.use import source
from service.errors import UsageError
from tests import sentences as sentences_of_data
from tuning.space import with_values
from vae_models.config.train import TrainConfig
from vae_models.data.formats.speeches import read_speeches, words
from vae_models.data.tokens import BOS, EOS, PAD
from vae_models.evaluation.likelihood.bound import dimensions
from vae_models.evaluation.run import evaluate
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Rows, Subject
from vae_models.likelihoods.specs import TokensConfig
from vae_models.likelihoods.tokens import Tokens
from vae_models.metrics import sentences
from vae_models.nn.gates import Gate
from vae_models.recipes import catalogue
from vae_models.topologies.text.model import SentenceVAE
from vae_models.topologies.text.multi_rate import MultiRateSentenceVAE
from vae_models.topologies.text.specs import TextConfig
from vae_models.topologies.vae.specs import GatingConfig
from vae_models.trained import Trained
from vae_models.training.context import LocalContext
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.loop import Run, train
from vae_models.training.step import merged

CONFIG = TextConfig(
    latent=3, embedding=5, hidden=4, dropout=0.4, word_dropout=0.3, likelihood=TokensConfig(vocabulary=9)
)
SIZES = (50, 20, 20)
LENGTHS = torch.tensor([7, 3, 5])


def built() -> SentenceVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CONFIG.build((7,)).double()


def sentences_of(length: int = 7) -> tuple[Tensor, Tensor]:
    """x [3, length] of <bos>, tokens, <eos>, <pad>, and which are no padding."""
    x = torch.randint(4, 9, (3, length), generator=torch.Generator().manual_seed(1))
    places = torch.arange(length)
    x = x.where(places != 0, torch.tensor(BOS)).where(places != LENGTHS[:, None] - 1, torch.tensor(EOS))
    mask = places < LENGTHS[:, None]
    return x.where(mask, torch.tensor(PAD)), mask


def noise_of(model: SentenceVAE, rows: int = 3, samples: int = 1) -> Mapping[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    draw = {"normal": torch.randn, "uniform": torch.rand}
    return {
        name: draw[spec.kind](rows, *spec.shape, generator=generator, dtype=torch.float64)
        for name, spec in model.noise(samples).items()
    }


@pytest.mark.parametrize(("name", "count"), [("yahoo/lstm", 8_821_072), ("yahoo/mr-lstm", 9_351_632)])
def test_table_1_to_the_last_number(name: str, count: int) -> None:
    """MR-VAE's LSTM row, of a vocabulary of 10,000, from the specification and of the nets that are built."""
    config = catalogue()[name].build()
    assert config.model.likelihood.vocabulary == 10_000
    assert config.model.weights(config.data.facts.shape) == count
    assert sum(each.numel() for each in config.model.build(config.data.facts.shape).parameters()) == count


def test_the_vocabulary_is_the_datas() -> None:
    config = catalogue()["tinyshakespeare/text-vae"].build()
    assert config.model.likelihood.vocabulary == config.data.facts.vocabulary == 6_000


def test_padding_counts_nothing() -> None:
    """Of a sentence alone, and padded beside longer ones, the same numbers."""
    model = built().eval()
    x, mask = sentences_of()
    noise = noise_of(model)
    together = model(x, noise, None, mask)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(x[row : row + 1, :length], {name: each[row : row + 1] for name, each in noise.items()})
        torch.testing.assert_close(together.rate[row : row + 1], alone.rate)
        torch.testing.assert_close(together.distortion[row : row + 1], alone.distortion)
        torch.testing.assert_close(together.squared_error[row : row + 1], alone.squared_error)


def trained(folder: Path, **choices: bool) -> tuple[list[dict[str, float]], Mapping[str, float], set[int]]:
    """What 30 steps log, what is found out afterwards, and how long batches are; choices: of trim and buckets."""
    config = TrainConfig.model_validate(
        {
            "data": sentences_of_data.config(SIZES, **choices),
            "model": CONFIG.model_dump(exclude={"likelihood"}),
            "batch_size": 4, "steps": 30, "dtype": "float64", "log_every_steps": 1, "optimizer": {"lr": 0.03},
            "evaluation": {"batch_size": 3, "pictures": False, "train": True},
        }
    )  # fmt: skip
    data = sentences_of_data.dataset(SIZES)
    run = Run(config, LocalContext(folder), data)
    shapes, going = set[int](), run.begin()
    while going and not run.done:
        shapes.add(run.batch()[0].shape[1])
        run.step()
        going = run.after_step()
    run.end(stopped=False)
    run.close()
    plan = EvaluationPlan.model_validate({"evaluators": [{"kind": "likelihood"}, {"kind": "nll", "samples": 25}]})
    subject = Subject(run.model, config, data, plan.model_copy(update={"batch_size": 3}))
    values = [value for findings in evaluate(subject).values() for value in findings.values]
    subject.close()
    logged = [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return logged, {value.name: value.value for value in values}, shapes


@pytest.mark.parametrize("buckets", [False, True])
def test_batches_cut_to_their_longest_train_and_evaluate_the_same(buckets: bool, tmp_path: Path) -> None:
    """Dropout of all kinds, and every split; in float64, within 1e-9."""
    cut, whole = (trained(tmp_path / str(trim), trim=trim, buckets=buckets) for trim in (True, False))
    assert whole[2] == {sentences_of_data.LONGEST}
    assert min(cut[2]) < sentences_of_data.LONGEST == max(cut[2])
    losses = [[line["train/loss"] for line in run[0] if "train/loss" in line] for run in (cut, whole)]
    assert len(losses[0]) == 30
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for name in ("val/elbo", "test/rate", "train_eval/distortion", "train_eval/squared_error"):
        assert cut[0][-1][name] == pytest.approx(whole[0][-1][name], rel=1e-9)
    assert {"elbo", "nll_25", "nll_25/perplexity", "bits_per_dim"} <= set(cut[1])
    assert cut[1] == pytest.approx(whole[1], rel=1e-9)


@pytest.fixture(scope="module")
def model_of_sentences(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("sentences")
    config = TrainConfig.model_validate(
        {
            "data": sentences_of_data.config(SIZES), "model": CONFIG.model_dump(exclude={"likelihood"}),
            "batch_size": 4, "steps": 2, "dtype": "float64", "evaluation": {"pictures": False},
        }
    )  # fmt: skip
    train(config, LocalContext(folder), dataset=sentences_of_data.dataset(SIZES))
    return Trained.load(folder)


def test_sentences_of_no_token_and_of_one_cost_nothing_but_their_rate(model_of_sentences: Trained) -> None:
    """Of length 0 the encoder's state is 0; neither has anything to say after <bos>. Scored, and refused beyond."""
    model = model_of_sentences
    x = sentences_of_data.dataset(SIZES).test.x[:4].numpy()
    lengths = np.array([0, 1, 9, 3])
    scores = model.score(x, samples=5, lengths=lengths)
    assert scores["distortion"][:2].tolist() == [0, 0]
    assert scores["elbo"][:2] == pytest.approx(-scores["rate"][:2])
    assert (scores["distortion"][2:] > 0).all()
    one, padded = x[1:2].copy(), x[1:2].copy()
    padded[:, 1:] = 7
    alone = [model.score(each, samples=5, lengths=np.array([1]))["rate"] for each in (one, padded)]
    assert alone[0] == pytest.approx(alone[1])
    kept = Rows(
        x=torch.from_numpy(x), mask=torch.arange(9) < torch.from_numpy(lengths)[:, None], indices=torch.arange(4)
    )
    assert dimensions(kept, built()).tolist() == [0, 0, 8, 2]
    with pytest.raises(ValueError, match="lengths must be 4 whole numbers from 0 to 9"):
        model.score(x, samples=5, lengths=np.array([0, 1, 10, 3]))


@pytest.mark.parametrize("token", [-1, sentences_of_data.VOCABULARY, 4.5])
def test_what_is_no_token_of_the_vocabulary_is_refused(token: float, model_of_sentences: Trained) -> None:
    x = sentences_of_data.dataset(SIZES).test.x[:2].double().numpy()
    x[1, 2] = token
    with pytest.raises(ValueError, match="no tokens given: this model takes whole numbers from 0 to 29"):
        model_of_sentences.score(x, samples=5, lengths=np.array([5, 5]))


def test_a_loss_of_sentences_that_is_not_finite_is_named(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(
        {
            "data": sentences_of_data.config(SIZES), "model": CONFIG.model_dump(exclude={"likelihood"}),
            "batch_size": 4, "steps": 9, "optimizer": {"lr": 1e30}, "evaluation": {"pictures": False},
        }
    )  # fmt: skip
    with pytest.raises(NonFiniteLoss, match=r"smaller optimizer\.lr") as caught:
        train(config, LocalContext(tmp_path), dataset=sentences_of_data.dataset(SIZES))
    assert caught.value.step <= 3


def test_a_trained_model_knows_the_words_and_refuses_other_ones_of_the_same_number(tmp_path: Path) -> None:
    """Two vocabularies of thirty words: the numbers fit, and would mean other words."""
    words_of = {name: tuple(f"{name}-{number}" for number in range(30)) for name in ("own", "other")}
    data = {name: replace(sentences_of_data.dataset(SIZES), vocabulary=words) for name, words in words_of.items()}
    config = TrainConfig.model_validate(
        {
            "data": sentences_of_data.config(SIZES), "model": CONFIG.model_dump(exclude={"likelihood"}),
            "batch_size": 4, "steps": 1, "evaluation": {"pictures": False},
        }
    )  # fmt: skip
    train(config, LocalContext(tmp_path), dataset=data["own"])
    model = Trained.load(tmp_path)
    assert model.origin is not None
    assert model.origin.vocabulary == data["own"].vocabulary_digest != data["other"].vocabulary_digest
    source._check_vocabulary(model, data["own"])
    source._check_vocabulary(model, sentences_of_data.dataset(SIZES))  # nobody knows its words
    with pytest.raises(UsageError, match=r"sentences has other words than this model was trained on, 30 as well"):
        source._check_vocabulary(model, data["other"])


def test_the_distortion_is_of_each_token_after_those_before_it() -> None:
    """By hand, token by token, with the decoder that writes sentences."""
    model = built().eval()
    x, mask = sentences_of()
    trace = model(x, noise_of(model), None, mask)
    z, state = trace.latents[0].sample, model.decoder.first(trace.latents[0].sample)
    nats = torch.zeros(3, dtype=torch.float64)
    for place in range(6):
        logits, state = model.decoder.next(z, x[:, place], state)
        chosen = logits.log_softmax(1).gather(1, x[:, place + 1, None])[:, 0]
        nats -= chosen.where(mask[:, place + 1], torch.zeros(()).double())
    torch.testing.assert_close(trace.distortion, nats)


def test_a_later_token_does_not_change_what_is_said_of_an_earlier_one() -> None:
    model = built().eval()
    x, _ = sentences_of()
    other = x.clone()
    other[:, 5] = 8 - other[:, 5] % 4
    z = torch.randn(3, 3, dtype=torch.float64)
    before = [model.decoder(z, each[:, :-1], None, None) for each in (x, other)]
    assert torch.equal(before[0][:, :, :5], before[1][:, :, :5])
    assert not torch.equal(before[0], before[1])


def test_dropout_is_a_function_of_the_noise_and_of_training_alone() -> None:
    model = built()
    x, mask = sentences_of()
    noise = noise_of(model)
    assert set(noise) == {"z", "dropout/inputs", "dropout/outputs", "dropout/words"}
    first, again = (model(x, noise, None, mask).distortion for _ in range(2))
    assert torch.equal(first, again)
    nothing = {name: torch.ones_like(each) if name != "z" else each for name, each in noise.items()}
    assert not torch.equal(model(x, nothing, None, mask).distortion, first)
    assert set(model.eval().noise()) == {"z"}


def test_several_samples_of_a_sentence_are_passes_of_their_own() -> None:
    model = built().eval()
    x, mask = sentences_of()
    noise = noise_of(model, samples=2)
    together = model(x, noise, None, mask)
    for sample in range(2):
        alone = model(x, {name: each[:, sample] for name, each in noise.items()}, None, mask)
        torch.testing.assert_close(together.distortion[sample::2], alone.distortion)


def test_sentences_begin_and_end() -> None:
    model = built().eval()
    noise = {name: torch.rand(50, *spec.shape, dtype=torch.float64) for name, spec in model.sample_noise().items()}
    for written in (model.sample(noise), model.sample_mean(noise)):
        assert written.shape == (50, 7)
        assert (written[:, 0] == BOS).all()
        ended = (written == EOS).cumsum(1) > 0
        assert (written[:, 1:][ended[:, :-1]] == PAD).all()


def test_tokens_are_drawn_as_often_as_the_softmax_says() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64)
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5)[:, None] / count
    drawn = Tokens(vocabulary=4).sample(logits.expand(count, -1), uniform)
    shares = torch.bincount(drawn[:, 0], minlength=4) / count
    torch.testing.assert_close(shares.double(), logits.softmax(0), atol=1 / count, rtol=0)


def test_the_error_of_tokens_is_the_share_of_wrong_ones() -> None:
    model = built().eval()
    x, mask = sentences_of()
    trace = model(x, noise_of(model), None, mask)
    wrong = [
        (trace.mean[row, : n - 1] != x[row, 1:n]).double().mean() for row, n in enumerate(LENGTHS.tolist())
    ]  # fmt: skip
    torch.testing.assert_close(trace.squared_error, torch.stack(wrong))


GATED = CONFIG.model_copy(update={"gating": GatingConfig(decoder="sigmoid"), "heads": "mlp"})


@pytest.mark.parametrize("network", ["affine", "mlp", "mlp-shared", "mlp-5"])
@pytest.mark.parametrize("function", ["sigmoid", "sqrt", "film"])
def test_gates_of_any_kind_read_each_sentences_own_beta(network: str, function: str) -> None:
    """One pass at a beta per sentence is, sentence by sentence, the pass at that beta; and beta does something."""
    gating = GatingConfig.model_validate({"network": network, "encoder": function, "decoder": function, "hidden": 3})
    torch.manual_seed(3)
    model = CONFIG.model_copy(update={"gating": gating, "heads": "mlp"}).build((7,)).double().eval()
    assert isinstance(model, MultiRateSentenceVAE)
    x, mask = sentences_of()
    noise, betas = noise_of(model, samples=2), torch.tensor([0.02, 1.0, 9.0], dtype=torch.float64)
    together = model(x, noise, betas, mask)
    for row, beta in enumerate(betas):
        alone = model(x, noise, beta, mask)
        rows = slice(2 * row, 2 * row + 2)
        torch.testing.assert_close(together.rate[rows], alone.rate[rows])
        torch.testing.assert_close(together.distortion[rows], alone.distortion[rows])
    assert not torch.allclose(model(x, noise, betas[0], mask).rate, together.rate)
    assert torch.equal(model(x, noise, None, mask).rate, model(x, noise, betas[1], mask).rate)


def test_a_gated_net_is_the_plain_one_times_the_gates_of_its_places() -> None:
    """Affine sigmoid gates with weights of 0 and biases of 0 halve what they are after: by hand, place by place."""
    torch.manual_seed(4)
    model = GATED.build((7,)).double().eval()
    torch.manual_seed(4)
    plain = GATED.model_copy(update={"gating": None}).build((7,)).double().eval()
    gates = [module for module in model.modules() if isinstance(module, Gate)]
    assert len(gates) == 8  # two embeddings, two states, two hidden layers and two outputs of heads
    with torch.no_grad():
        for gate in gates:
            for parameter in gate.parameters():
                parameter.zero_()
        for embedding in (plain.encoder.embedding, plain.decoder.embedding):
            embedding.weight.div_(2)
        for head in (plain.encoder.head.mean, plain.encoder.head.raw):
            for layer, factor in ((head[0], 4), (head[2], 2)):
                layer.weight.div_(factor)
                layer.bias.div_(2)
        for parameter in plain.decoder.start.parameters():
            parameter.div_(2)
    x, mask = sentences_of()
    noise = noise_of(plain)
    expected, found = plain(x, noise, None, mask), model(x, noise, torch.tensor(3.0).double(), mask)
    torch.testing.assert_close(found.rate, expected.rate)
    torch.testing.assert_close(found.distortion, expected.distortion)


def test_gates_of_text_are_those_after_each_layer() -> None:
    with pytest.raises(ValueError, match=r"model.gating of text is one gate after each layer: set place to gates"):
        with_values(catalogue()["tinyshakespeare/mr-text-vae-small"].build(), {"model.gating.place": "batch-norm"})


@pytest.mark.parametrize("name", [name for name in catalogue() if name.startswith(("tinyshakespeare/", "yahoo/mr"))])
def test_a_recipes_gradient_reaches_every_weight(name: str) -> None:
    config = catalogue()[name].build()
    model = config.model.build((6,))
    objective = config.objective.build(100, (6,), config.model.dimensions())
    x = torch.tensor([[1, 5, 6, 7, 2, 0], [1, 8, 2, 0, 0, 0]])
    specs = merged(model.noise(objective.samples), objective.noise())
    noise = {name: torch.rand(2, *spec.shape) for name, spec in specs.items()}
    trace = model(x, noise, torch.tensor(0.5), x != 0)
    objective(trace, torch.tensor(0.5), model=model, noise=noise).total.backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in model.parameters())


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="model text takes sentences"):
        with_values(catalogue()["digits/beta-vae-mlp"].build(), {"model.kind": "text"})
    with pytest.raises(ValueError, match=r"bernoulli takes x that is .* and x here is tokens.*: choose another model"):
        with_values(catalogue()["tinyshakespeare/text-vae"].build(), {"model.kind": "vae"})


def test_speeches_are_read_and_cut_into_words() -> None:
    text = b"ANNE:\nGood-morrow, sir.\n\n\nBEN:\nWhat's 't to thee?\nNothing!\n\nALL:"
    assert read_speeches(text) == [["Good-morrow, sir."], ["What's 't to thee?", "Nothing!"]]
    assert words("What's 't to thee? Good-morrow") == ["what's", "'t", "to", "thee", "?", "good", "-", "morrow"]
    with pytest.raises(ValueError, match="speech 1 begins with 'no name'"):
        read_speeches(b"no name\nwords")
    with pytest.raises(ValueError, match="UTF-8"):
        read_speeches(b"\xff\xfe")


def test_sentences_are_written_up_to_their_end() -> None:
    tokens = torch.tensor([[1, 4, 5, 2, 0, 0], [1, 5, 4, 4, 5, 4]])
    assert sentences.texts(tokens, ("<pad>", "<bos>", "<eos>", "<unk>", "a", "b")) == ["a b", "b a a b a"]
    assert sentences.texts(tokens, None) == ["4 5", "5 4 4 5 4"]
    png = sentences.pairs(["a b"], ["b a"])
    assert png == sentences.pairs(["a b"], ["b a"])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ValueError, match="at least one line"):
        sentences.page([])
