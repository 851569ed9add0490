import os
import tracemalloc

import numpy as np
import pytest
from blocks import open_block

from tiebench.corpora import cache as keeping
from tiebench.corpora import reading
from tiebench.corpora import stream as streaming
from tiebench.corpora.stream import open_streams
from tiebench.corpora.vocabulary import fit_vocabulary
from tiebench.experiment.corpus_config import SPLITS, BPEConfig, BytesConfig, WordsConfig

WORDS, BYTES = WordsConfig(type="words"), BytesConfig(type="bytes")


@pytest.mark.parametrize("name", ["ptb", "wikitext-2"])
def test_real_streams_hold_every_token(name, open_real):
    corpus = open_real(name)
    vocabulary = fit_vocabulary(WORDS, corpus=corpus)
    for split, stream in open_streams(corpus, vocabulary=vocabulary).items():
        assert stream.num_tokens == corpus.expected_tokens[split] == len(stream.ids) - 1
        assert stream.num_bytes == corpus.files[split].stat().st_size
        assert stream.num_words == stream.num_tokens - np.count_nonzero(stream.ids[1:] == vocabulary.boundary)
        assert stream.num_unknown == np.count_nonzero(stream.ids[1:] == vocabulary.unknown)  # as the text has it
        assert stream.ids[0] == vocabulary.boundary
        assert stream.ids.dtype == np.dtype("<u2") and not stream.ids.flags.writeable
    lines = [" ".join(line.split()) for line in corpus.lines("test")]
    assert vocabulary.decode(stream.ids[1:]) == "\n".join(lines) + "\n"


@pytest.mark.parametrize("options", [BPEConfig(type="bpe", size=300), BYTES], ids=lambda options: options.type)
def test_bpe_and_bytes_streams_decode_to_the_file(options, write_corpus):
    corpus = open_block(write_corpus(test="naïve  🙂\n\n end\n"))
    vocabulary = fit_vocabulary(options, corpus=corpus)
    for split, stream in open_streams(corpus, vocabulary=vocabulary).items():
        text = corpus.files[split].read_text("utf-8")
        assert vocabulary.decode(stream.ids[1:]) == text
        assert (stream.num_bytes, stream.num_words) == (len(text.encode()), len(text.split()))


def test_lost_words_are_counted_those_of_the_text_too(write_corpus):
    corpus = open_block(write_corpus(train="a <unk> b\n", valid="a dog <unk> dog\n", test="a\n"))
    streams = open_streams(corpus, vocabulary=fit_vocabulary(WORDS, corpus=corpus))
    assert [streams[split].num_unknown for split in SPLITS] == [1, 3, 0]
    assert (streams["valid"].num_words, streams["valid"].num_tokens, streams["valid"].num_bytes) == (4, 5, 16)


def test_large_vocabularies_get_wider_ids(write_corpus):
    corpus = open_block(write_corpus(train=" ".join(f"w{number:05}" for number in range(70_000)) + "\n"))
    vocabulary = fit_vocabulary(WORDS, corpus=corpus)
    ids = open_streams(corpus, vocabulary=vocabulary)["train"].ids
    assert ids.dtype == np.dtype("<u4") and vocabulary.token(ids[70_000]) == "w69999"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "header", "manifest"])
def test_damaged_cache_is_written_again(damage, write_corpus, cache):
    corpus = open_block(write_corpus())
    vocabulary = fit_vocabulary(WORDS, corpus=corpus)
    before = open_streams(corpus, vocabulary=vocabulary)["train"].ids.tolist()
    folder = next(path for path in cache.glob("streams/*") if path.is_dir())
    file = folder / {"header": streaming.HEADER, "manifest": keeping.MANIFEST}.get(damage, "train.bin")
    content = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(content[:-2] if damage == "truncate" else content[:4] + bytes([content[4] ^ 1]) + content[5:])
    assert not keeping.is_intact(folder)
    assert open_streams(corpus, vocabulary=vocabulary)["train"].ids.tolist() == before
    assert keeping.is_intact(folder)


def test_a_changed_byte_is_found_though_size_and_time_are_as_before():
    def build(folder):
        with (folder / "file").open("wb") as file:
            file.truncate(100 * 2**20)

    file = keeping.keep_folder("large", build=build) / "file"
    status = file.stat()
    with file.open("r+b") as changed:
        changed.seek(50 * 2**20)
        changed.write(b"x")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not keeping.is_intact(file.parent)
    keeping.keep_folder("large", build=build)
    assert keeping.is_intact(file.parent)


def test_a_manifest_of_an_older_kind_is_no_error(cache):
    folder = keeping.keep_folder("small", build=lambda folder: (folder / "file").write_bytes(b"x"))
    (folder / keeping.MANIFEST).write_text('{"file": {"num_bytes": 1, "mtime_ns": 0, "sha256": "0"}}', "utf-8")
    assert keeping.keep_folder("small", build=lambda folder: (folder / "file").write_bytes(b"y")) == folder
    assert (folder / "file").read_bytes() == b"y" and keeping.is_intact(folder)


def test_what_failed_or_was_killed_leaves_nothing(cache):
    (cache / "streams" / "some.temporary-killed").mkdir(parents=True)

    def fail(folder):
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keeping.keep_folder("streams/some", build=fail)
    assert [path.name for path in (cache / "streams").iterdir() if path.is_dir()] == []


def test_streams_are_encoded_once(write_corpus, monkeypatch):
    corpus = open_block(write_corpus())
    vocabulary = fit_vocabulary(WORDS, corpus=corpus)
    first = open_streams(corpus, vocabulary=vocabulary)
    monkeypatch.setattr(streaming, "read_pieces", lambda file: pytest.fail("encoded again"))
    assert open_streams(corpus, vocabulary=vocabulary)["train"].ids.tolist() == first["train"].ids.tolist()


@pytest.mark.parametrize("options", [WORDS, BYTES], ids=lambda options: options.type)
def test_memory_does_not_grow_with_the_text(options, write_corpus, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_BYTES", 2**14)
    corpus = open_block(write_corpus(train="the cat sat on the mat\n" * 100_000))
    vocabulary = fit_vocabulary(options, corpus=corpus)
    tracemalloc.start()
    stream = open_streams(corpus, vocabulary=vocabulary)["train"]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stream.num_bytes == 23 * 100_000
    assert peak_bytes < stream.num_bytes / 2
