"""The head and its training equal ELEVATER's on the toolkit's own numbers."""

import json
from pathlib import Path

import pytest
import torch

from services.finetuning.heads.head import Head, HeadConfig, Probe, probabilities, train_probe
from services.metrics.classification import accuracy

FIXTURE = json.loads((Path(__file__).parents[3] / "parity" / "elevater_metrics.json").read_text())
TEXT = torch.tensor(FIXTURE["zero_shot"]["class_weights"]).T
TOLERANCE = FIXTURE["tolerance"]


def config(options):
    return HeadConfig(
        channel_bn=options.get("USE_CHANNEL_BN", True),
        normalize=options.get("NORMALIZE_VISUAL_FEATURE", False),
        logit_scale=options.get("LOGIT_SCALE_INIT", "none"),
    )


@pytest.mark.parametrize("case", FIXTURE["head"]["variants"], ids=lambda case: str(sorted(case["options"].items())))
def test_head_equals_the_reference_before_and_after_a_step(case):
    features = torch.tensor(FIXTURE["head"]["features"])
    head = Head(features.shape[1], len(TEXT), config(case["options"]), TEXT).eval()
    assert sum(p.numel() for p in head.parameters()) == case["trainable"]
    assert head.logit_scale.item() == pytest.approx(case["logit_scale"])
    for mode, name in ((False, "eval_fresh"), (True, "train_mode"), (False, "eval_after_one_train_forward")):
        head.train(mode)
        torch.testing.assert_close(head(features), torch.tensor(case[name]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("case", FIXTURE["linear_probe"]["runs"], ids=lambda case: f"{case['lr']}-{case['wd']}")
def test_training_equals_the_reference_epoch_by_epoch(case):
    probe_data = FIXTURE["linear_probe"]
    features, labels = torch.tensor(probe_data["train_features"]), torch.tensor(probe_data["train_labels"])
    test, targets = torch.tensor(FIXTURE["head"]["features"]), torch.tensor(FIXTURE["head"]["labels"])
    # The reference starts every run from the text weights or from the fixture's own random ones: take the former.
    head = Head(features.shape[1], len(TEXT), config(case["options"]), TEXT)
    probe = Probe(case["lr"], case["wd"], case["epochs"], batch_size=len(features))
    epochs, best = [], (-1.0, None)
    for epoch in train_probe(
        head, features, labels, probe, score=lambda p: 100 * accuracy(targets.numpy(), p.numpy()), validation=test
    ):
        epochs.append(epoch.metric)
        if epoch.metric > best[0]:
            best = (epoch.metric, probabilities(head, test))
    assert epochs == pytest.approx([row["val_metric"] for row in case["epochs_log"]])
    tolerance = {"atol": TOLERANCE["weights"], "rtol": 0}
    torch.testing.assert_close(head.linear.weight.detach(), torch.tensor(case["final_weight"]), **tolerance)
    torch.testing.assert_close(head.channel_bn.running_mean, torch.tensor(case["bn_running_mean"]), **tolerance)
    torch.testing.assert_close(best[1], torch.tensor(case["best_probs"]), atol=TOLERANCE["probs"], rtol=0)


def test_a_folded_head_is_the_same_function():
    features = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    head = Head(8, 3, HeadConfig(logit_scale="clip"))
    head.train()
    head(features)
    head.eval()
    weight, bias = head.folded()
    torch.testing.assert_close(features @ weight.T + bias, head(features), atol=1e-4, rtol=1e-4)


def test_a_loss_that_is_not_finite_says_at_which_learning_rate():
    features = torch.full((4, 2), float("nan"))
    with pytest.raises(FloatingPointError, match=r"learning rate 0\.5"):
        list(train_probe(Head(2, 2, HeadConfig()), features, torch.tensor([0, 1, 0, 1]), Probe(0.5, 0.0)))
