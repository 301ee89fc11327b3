"""Our loss and evaluator in the real sentence-transformers."""

import csv
import warnings

import numpy as np
import pytest
import torch

import spherometer as sm
from spherometer import losses
from spherometer._monitor import Monitor
from spherometer.errors import InputError, ShapeError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library's own imports
    library = pytest.importorskip(
        "sentence_transformers",
        reason="sentence-transformers is not installed (pip install spherometer[text])",
    )
    from datasets import Dataset
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    from spherometer.integrations.sentence_transformers import PairLoss, SphereEvaluator
    from spherometer.integrations.transformers import SphereCallback

pytestmark = [
    # Trainer pins memory in its loader whether there is a GPU or not
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]

WORDS = [f"word{k}" for k in range(40)]
FIRST = [f"{WORDS[k]} {WORDS[(k * 7 + 3) % 40]}" for k in range(40)]
SECOND = [f"{WORDS[(k * 7 + 3) % 40]} {WORDS[(k * 3 + 1) % 40]} {WORDS[k]}" for k in range(40)]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny(dim: int = 8):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0} | {w: k + 1 for k, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = torch.randn(41, dim, generator=torch.Generator().manual_seed(0)).numpy()
    embedding = StaticEmbedding(tokenizer, embedding_weights=weights)
    return library.SentenceTransformer(modules=[embedding], device="cpu")


def train(model, loss, folder, *, steps=3, columns=None, callbacks=None, **options):
    arguments = library.SentenceTransformerTrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=20, learning_rate=0.1,
        report_to="none", use_cpu=True, save_strategy="no", logging_strategy="no", disable_tqdm=True, seed=0,
        **options,
    )  # fmt: skip
    trainer = library.SentenceTransformerTrainer(
        model=model, args=arguments, loss=loss, callbacks=callbacks,
        train_dataset=Dataset.from_dict(columns or {"anchor": FIRST, "positive": SECOND}),
    )  # fmt: skip
    trainer.train()
    return trainer


@pytest.mark.parametrize("inner", [None, losses.InfoNCELoss(0.1)])
def test_loss_is_that_of_the_embeddings_and_trains(inner, tmp_path):
    model = tiny()
    loss = PairLoss(model, inner)
    features = [model.preprocess(texts) for texts in (FIRST, SECOND)]
    x, y = (torch.from_numpy(model.encode(texts)) for texts in (FIRST, SECOND))
    expected = float((inner or losses.AlignUniformLoss())(x, y))
    assert float(loss(features, None).detach()) == pytest.approx(expected, abs=1e-6)
    train(model, loss, tmp_path)
    x, y = (torch.from_numpy(model.encode(texts)) for texts in (FIRST, SECOND))
    assert float((inner or losses.AlignUniformLoss())(x, y)) < expected
    assert loss.get_config_dict() == {"loss": repr(loss.loss)}
    assert "Loss(" in loss.get_config_dict()["loss"]


def test_monitor_in_their_trainer(tmp_path):
    callback = SphereCallback(Monitor(every=2), views="sentence_embedding")
    model = tiny()
    trainer = train(model, PairLoss(model), tmp_path, callbacks=[callback])
    assert [reading["num_rows"] for reading in callback.monitor.history] == [20, 40]
    assert any("sphere/alignment" in line for line in trainer.state.log_history)


def test_evaluator_measures_pairs_and_distinct_sentences(tmp_path):
    model = tiny()
    evaluator = SphereEvaluator(FIRST + FIRST[:1], SECOND + FIRST[:1], name="dev")
    found = evaluator(model, str(tmp_path), epoch=1, steps=5)
    x, y = (model.encode(texts) for texts in (FIRST + FIRST[:1], SECOND + FIRST[:1]))
    z = np.concatenate([x[:40], y[:40]])
    expected = {
        "dev_alignment": sm.alignment(x, y),
        "dev_uniformity": sm.uniformity(z),
        "dev_align_uniform": sm.alignment(x, y) + sm.uniformity(z),
        "dev_expected_uniformity": sm.sphere.expected_uniformity(8),
        "dev_normalized_uniformity": sm.normalized_uniformity(z),
        "dev_effective_rank": sm.effective_rank(z, normalize=True),
    }
    assert found == pytest.approx(expected, abs=1e-5)
    assert evaluator.primary_metric == "dev_align_uniform"
    assert evaluator.greater_is_better is False
    evaluator(model, str(tmp_path), epoch=2)
    with (tmp_path / "sphere_evaluation_dev_results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["epoch"], line["steps"]) for line in lines] == [("1", "5"), ("2", "-1")]
    assert float(lines[0]["uniformity"]) == found["dev_uniformity"]


def test_evaluator_in_their_trainer(tmp_path):
    model = tiny()
    arguments = library.SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True
    )
    trainer = library.SentenceTransformerTrainer(
        model=model, args=arguments, loss=PairLoss(model), evaluator=SphereEvaluator(FIRST, SECOND)
    )
    assert "eval_uniformity" in trainer.evaluate()


def test_refusals(tmp_path):
    model = tiny()
    features = [model.preprocess(FIRST[:2])] * 3
    with pytest.raises(ShapeError) as caught:
        PairLoss(model)(features, None)
    assert str(caught.value) == (
        "PairLoss: sentence_features must have two columns, because a positive pair has two sides, and the "
        "other rows of a batch are the negatives. Got 3. Keep the two columns of the pairs, for instance "
        "with dataset.select_columns."
    )
    with pytest.raises(InputError) as caught:
        SphereEvaluator(FIRST, SECOND[:3])
    assert str(caught.value) == (
        "SphereEvaluator: sentences2 must have as many sentences as sentences1, at least one, because "
        "sentence i of both is a positive pair. Got 40 and 3. Pass matching lists."
    )
