import gzip
import hashlib
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from models.errors import ModelError
from models.text.clip_bpe import CONTEXT_LENGTH, MERGES_FILE, VOCABULARY, clip_tokenizer_json

FIXTURE = json.loads((Path(__file__).resolve().parents[2] / "parity" / "clip_tokenizer.json").read_text())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    built = Tokenizer.from_str(clip_tokenizer_json())
    built.enable_truncation(CONTEXT_LENGTH)
    return built


@pytest.mark.parametrize("case", FIXTURE["cases"], ids=lambda case: case["text"][:24].encode("unicode_escape").decode())
def test_ids_are_hugging_faces_with_the_pad_of_openai(tokenizer: Tokenizer, case: dict):
    ids = tokenizer.encode(case["text"]).ids
    assert ids == case["hf_clip_77"][: len(ids)]
    assert set(case["hf_clip_77"][len(ids) :]) <= {FIXTURE["eos"]}
    assert len(ids) == min(case["n_tokens_with_specials"], 77) or not case["hf_same_as_openai"]
    if case["hf_same_as_openai"]:
        assert ids + [0] * (CONTEXT_LENGTH - len(ids)) == case["openai_clip_77"]


def test_specials_and_size_are_clips(tokenizer: Tokenizer):
    assert tokenizer.get_vocab_size() == VOCABULARY == FIXTURE["vocab_size"]
    assert tokenizer.token_to_id("<|startoftext|>") == FIXTURE["bos"]
    assert tokenizer.token_to_id("<|endoftext|>") == FIXTURE["eos"]


def test_a_text_that_is_too_long_keeps_its_end(tokenizer: Tokenizer):
    ids = tokenizer.encode("a very long caption " * 100).ids
    assert len(ids) == CONTEXT_LENGTH
    assert ids[-1] == FIXTURE["eos"]


def test_ids_decode_to_the_text(tokenizer: Tokenizer):
    assert tokenizer.decode(tokenizer.encode("a photo of a café").ids).strip() == "a photo of a café"


def test_the_merges_are_the_published_bytes():
    digest = hashlib.sha256(MERGES_FILE.read_bytes()).hexdigest()
    assert digest in (MERGES_FILE.parent / "ATTRIBUTION.md").read_text()


def test_an_unpacked_list_of_merges_is_read_too(tmp_path: Path):
    (tmp_path / "merges.txt").write_bytes(gzip.decompress(MERGES_FILE.read_bytes()))
    assert clip_tokenizer_json(tmp_path / "merges.txt") == clip_tokenizer_json()


@pytest.mark.parametrize(
    "content", [b"", b"no merges\na b\n", gzip.compress(b"x\n")[:-4], b"\xff\xfe", b"#\n" + b"a b c\n" * 60_000]
)
def test_another_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "merges.txt").write_bytes(content)
    with pytest.raises(ModelError, match="merges"):
        clip_tokenizer_json(tmp_path / "merges.txt")


def test_repeated_merges_are_refused(tmp_path: Path):
    (tmp_path / "merges.txt").write_bytes(b"#\n" + b"a b\n" * 60_000)
    with pytest.raises(ModelError, match="different tokens"):
        clip_tokenizer_json(tmp_path / "merges.txt")


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        clip_tokenizer_json(tmp_path / "none")
    assert "bpe_simple_vocab" in caught.value.remedy
