import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.catalog.card import TextPreprocess
from models.text.clip_bpe import clip_tokenizer_json
from services.errors import Kind, Problem
from services.text.tokenizer import Tokenizer
from tests.support import tiny_models

FIXTURE = json.loads((Path(__file__).resolve().parents[2] / "parity" / "clip_tokenizer.json").read_text())
CLIP = TextPreprocess(max_length=77, padding="max", pad_id=0, mask_input=None)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tokenizer.json").write_text(clip_tokenizer_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    (folder / "tokenizer.json").write_bytes(tiny_models.tokenizer())
    return folder


@pytest.mark.parametrize(("clean", "reference"), [("none", "hf_clip_77"), ("clip", "openai_clip_77")])
def test_clip_inputs_equal_the_reference(clip_folder: Path, clean: str, reference: str):
    tokenizer = Tokenizer(clip_folder, CLIP.model_copy(update={"clean": clean}))
    inputs = tokenizer.encode([case["text"] for case in FIXTURE["cases"]])
    assert list(inputs) == ["input_ids"]
    ids = inputs["input_ids"]
    assert ids.shape == (34, 77) and ids.dtype == np.int64
    for row, case in zip(ids, FIXTURE["cases"], strict=True):
        expected = np.array(case[reference])
        if reference == "hf_clip_77":  # its pads are 49407, ours 0
            expected[len(tokenizer.ids([case["text"]])[0]) :] = 0
        np.testing.assert_array_equal(row, expected)


def test_a_batch_is_padded_to_its_longest_with_a_mask(bert_folder: Path):
    tokenizer = Tokenizer(bert_folder, TextPreprocess(max_length=16, pad_id=0))
    inputs = tokenizer.encode(["cat", "a photo of the cat", ""])
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    assert ids.shape == mask.shape == (3, 7)
    assert mask.sum(axis=1).tolist() == [3, 7, 2]
    assert (ids[mask == 0] == 0).all()
    assert ids.dtype == mask.dtype == np.int64


def test_names_pad_and_padding_are_the_cards(bert_folder: Path):
    spec = TextPreprocess(max_length=9, padding="max", pad_id=5, ids_input="tokens", mask_input="keep")
    inputs = Tokenizer(bert_folder, spec).encode(["cat"])
    assert inputs["tokens"].shape == inputs["keep"].shape == (1, 9)
    assert (inputs["tokens"][0, 3:] == 5).all()


def test_a_long_text_is_cut_and_still_ends(bert_folder: Path):
    tokenizer = Tokenizer(bert_folder, TextPreprocess(max_length=8))
    (short,), (long,) = tokenizer.ids(["cat"]), tokenizer.ids(["cat " * 500])
    assert len(long) == 8
    assert long[0] == short[0] and long[-1] == short[-1]


def test_padding_and_truncation_of_the_file_play_no_part(tmp_path: Path):
    described = json.loads(tiny_models.tokenizer())
    described["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    described["padding"] = {
        "strategy": {"Fixed": 128},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    assert Tokenizer(tmp_path, TextPreprocess(max_length=16)).encode(["a photo of a cat"])["input_ids"].shape == (1, 7)


def test_few_and_many_texts_get_the_same_ids(bert_folder: Path):
    tokenizer = Tokenizer(bert_folder, TextPreprocess(max_length=16))
    texts = ["a red cat", "old dog", "", "photo of the car"] * 20
    assert tokenizer.ids(texts) == [tokenizer.ids([text])[0] for text in texts]
    assert tokenizer.tokenize(texts).count == sum(map(len, tokenizer.ids(texts)))


def test_lower_case_is_made_when_the_card_asks(clip_folder: Path, tmp_path: Path):
    described = json.loads(clip_tokenizer_json())
    described["normalizer"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    spec = CLIP.model_copy(update={"lowercase": True})
    assert Tokenizer(tmp_path, spec).ids(["A CAT"]) == Tokenizer(clip_folder, CLIP).ids(["a cat"])


def test_half_a_surrogate_pair_is_refused(bert_folder: Path):
    tokenizer = Tokenizer(bert_folder, TextPreprocess(max_length=16))
    for texts in (["\ud800"], ["cat"] * 50 + ["\ud800"]):
        with pytest.raises(Problem) as caught:
            tokenizer.ids(texts)
        assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "text-not-unicode")


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"version": "1.0"}'])
def test_a_broken_tokenizer_file_is_a_problem(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(Problem) as caught:
        Tokenizer(tmp_path, TextPreprocess(max_length=16))
    assert (caught.value.kind, caught.value.code) == (Kind.UNAVAILABLE, "tokenizer-unreadable")
    assert str(tmp_path) not in caught.value.detail


def test_a_tokenizer_outside_the_folder_is_not_read(bert_folder: Path, tmp_path: Path):
    with pytest.raises(Problem):
        Tokenizer(tmp_path, TextPreprocess(max_length=16, tokenizer=str(bert_folder / "tokenizer.json")))


def test_threads_may_share_one_tokenizer(clip_folder: Path):
    tokenizer = Tokenizer(clip_folder, CLIP)
    texts = [f"a photo of {n} dogs" for n in range(50)]
    expected = tokenizer.ids(texts)
    with ThreadPoolExecutor(8) as pool:
        assert [rows[0] for rows in pool.map(lambda text: tokenizer.ids([text]), texts)] == expected
