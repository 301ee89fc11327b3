"""Encoders of texts: what they compute, that padding is not read, that their weights come from their seed."""

import numpy as np
import pytest
import torch

from spherometer.data import TextPairs, Vocabulary
from spherometer.errors import InputError, ShapeError
from spherometer.losses import InfoNCELoss
from spherometer.training import (
    BagOfEmbeddings,
    GRUEncoder,
    build_encoder,
    encode,
    load_encoder,
    save_encoder,
)

WORDS = Vocabulary(["a", "cat", "dog", "barks", "sleeps"])
TEXTS = ["a cat sleeps", "a dog barks", "dog", "unknown words here and a cat"]
KINDS = [BagOfEmbeddings, GRUEncoder]


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    def test_shapes_and_unit_length(self, kind):
        encoder = kind(8, vocabulary=WORDS, width=6)
        found = encoder.features(encoder.tokens(TEXTS))
        assert found.output.shape == (4, 8)
        assert found.penultimate.shape == (4, {"bag": 6, "gru": 128}[encoder.kind])
        assert torch.allclose(found.output.norm(dim=1), torch.ones(4))
        tapped = encoder.tap(encoder.tokens(TEXTS), ["output", "penultimate"])
        assert torch.equal(tapped["output"], found.output)
        assert torch.equal(tapped["penultimate"], found.penultimate)

    def test_padding_changes_nothing(self, kind):
        encoder = kind(8, vocabulary=WORDS)
        short = WORDS.tokens(TEXTS, max_length=6)
        long = WORDS.tokens(TEXTS, max_length=20)
        assert torch.allclose(encoder(short), encoder(long), atol=1e-6)
        assert torch.allclose(encoder(short[2:3, :1]), encoder(long)[2:3], atol=1e-6)

    def test_weights_are_the_seeds_own(self, kind):
        before = torch.get_rng_state()
        made = [kind(8, vocabulary=WORDS, seed=seed) for seed in (3, 3, 4)]
        assert torch.equal(torch.get_rng_state(), before)
        z = [each(each.tokens(TEXTS)) for each in made]
        assert torch.equal(z[0], z[1])
        assert not torch.allclose(z[0], z[2])
        assert all(bool(torch.isfinite(weights).all()) for weights in made[0].parameters())
        assert float(made[0].body.vectors.weight[0].detach().abs().max()) == 0

    def test_config_makes_it_again(self, kind):
        encoder = kind(8, vocabulary=WORDS, width=6, head="mlp", max_length=5, seed=2)
        again = build_encoder(encoder.kind, **encoder.config, seed=2)
        assert again.config == encoder.config
        assert torch.equal(again(again.tokens(TEXTS)), encoder(encoder.tokens(TEXTS)))

    def test_training_pulls_pairs_together(self, kind):
        left = ["a cat", "a dog", "the sun", "the rain", "one boat", "two cars"] * 6
        right = ["it purrs", "it barks", "is hot", "is wet", "it sails", "they drive"] * 6
        pairs = TextPairs(left, right, max_length=4)
        encoder = kind(8, vocabulary=pairs.vocabulary, width=16)
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-2)
        loss = InfoNCELoss(0.2)
        index = torch.arange(6)
        values = []
        for step in range(40):
            x, y = encoder(torch.cat(pairs(step, index))).tensor_split(2)
            value = loss(x, y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
        assert values[-1] < 0.2 * values[0]
        assert float(encoder.body.vectors.weight[0].detach().abs().max()) == 0  # padding stays nothing
        x, y = (encode(encoder, side[:6]).output for side in (pairs.left, pairs.right))
        assert (x @ y.T).argmax(dim=1).tolist() == list(range(6))

    def test_refusals(self, kind):
        name = kind.__name__
        with pytest.raises(InputError) as error:
            kind(8)
        assert str(error.value) == (
            f"{name}: vocabulary must be given, because every known word has a vector. Got None. Pass "
            "that of the texts, for instance TextPairs(...).vocabulary."
        )
        with pytest.raises(ShapeError) as error:
            kind(8, vocabulary=WORDS)(torch.zeros(2, 3))
        assert str(error.value) == (
            f"{name}: x must be token numbers [B, L], int64, because words have vectors by number. Got shape "
            "(2, 3), dtype float32. Convert texts with encoder.tokens(texts)."
        )


def test_the_bag_is_the_mean_of_its_vectors():
    encoder = BagOfEmbeddings(None, vocabulary=WORDS, width=6, head="none").double()
    vectors = encoder.body.vectors.weight.detach().numpy()
    for text, row in zip(TEXTS, encode(encoder, encoder.tokens(TEXTS)).output.numpy(), strict=True):
        mean = np.mean([vectors[WORDS.words.index(word) + 2 if word in WORDS.words else 1]
                        for word in text.split()], axis=0)  # fmt: skip
        assert np.allclose(row, mean / np.linalg.norm(mean))


def test_the_gru_is_the_recurrence_of_its_weights():
    """Against the formulas of Cho et al., step by step in NumPy, in both directions."""
    encoder = GRUEncoder(4, vocabulary=WORDS, width=3, hidden=2).double()
    weights = {name: value.detach().numpy() for name, value in encoder.body.gru.named_parameters()}
    vectors = encoder.body.vectors.weight.detach().numpy()

    def last(rows, suffix):
        state = np.zeros(2)
        w, u = weights[f"weight_ih_l0{suffix}"], weights[f"weight_hh_l0{suffix}"]
        b, c = weights[f"bias_ih_l0{suffix}"], weights[f"bias_hh_l0{suffix}"]
        for row in rows:
            x, h = w @ row + b, u @ state + c
            reset, update = (1 / (1 + np.exp(-(x[k : k + 2] + h[k : k + 2]))) for k in (0, 2))
            state = (1 - update) * np.tanh(x[4:] + reset * h[4:]) + update * state
        return state

    found = encode(encoder, WORDS.tokens(TEXTS, max_length=6)).penultimate.numpy()
    for text, row in zip(TEXTS, found, strict=True):
        rows = [vectors[WORDS.words.index(word) + 2 if word in WORDS.words else 1] for word in text.split()]
        assert np.allclose(row, np.concatenate([last(rows, ""), last(rows[::-1], "_reverse")]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_survives_its_file_with_its_vocabulary(kind, tmp_path):
    encoder = kind(8, vocabulary=WORDS, width=6, max_length=5, seed=2)
    save_encoder(encoder, tmp_path / "one.safetensors", notes={"what": "texts"})
    again, notes = load_encoder(tmp_path / "one.safetensors")
    assert notes == {"what": "texts"}
    assert again.vocabulary == WORDS
    assert torch.equal(again(again.tokens(TEXTS)), encoder(encoder.tokens(TEXTS)))
