import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from tiebench.errors import TiebenchError
from tiebench.results.curve import CurvePoint, read_curve, write_curve
from tiebench.results.record import NUMERICS, Evaluation, read_record, write_record
from tiebench.results.token_nll import read_token_nll, write_token_nll


def test_a_record_comes_back_as_it_was_written(make_record, tmp_path):
    record = make_record("tied", 3, test=112.39999999999998)
    file = write_record(record, tmp_path / "run")
    assert read_record(tmp_path / "run") == record
    assert [found.name for found in file.parent.iterdir()] == ["record.json"], "something was left aside"


def test_equal_records_are_equal_bytes(make_record, tmp_path):
    record = make_record()
    turned = record.model_copy(update={"evaluations": dict(reversed(record.evaluations.items()))})
    assert write_record(record, tmp_path / "a").read_bytes() == write_record(turned, tmp_path / "b").read_bytes()


def test_figures_follow_from_nats_and_counts():
    nats = 60 * math.log(2)
    evaluation = Evaluation(split="test", nll=nats, tokens=20, words=15, bytes=80, unknown=0)
    assert evaluation.perplexity == pytest.approx(8)
    assert evaluation.word_perplexity == pytest.approx(16)
    assert evaluation.bits_per_byte == pytest.approx(0.75)


def test_the_version_of_the_mathematics_is_written_and_old_records_are_of_the_first(make_record, tmp_path):
    file = write_record(make_record(), tmp_path)
    content = json.loads(file.read_text("utf-8"))
    assert content.pop("numerics") == NUMERICS
    del content["provenance"]["sha256"]  # as in records from before both
    file.write_text(json.dumps(content), "utf-8")
    assert read_record(tmp_path).numerics == 1


def test_words_that_are_lost_leave_no_bits_per_byte():
    evaluation = Evaluation(split="test", nll=60.0, tokens=20, words=15, bytes=80, unknown=1)
    assert evaluation.bits_per_byte is None


def test_roles_must_add_up(make_record):
    with pytest.raises(ValidationError, match="roles add up to 4653200, but total is 4653201"):
        make_record(changes=[("parameters.total", 4_653_201)])


@pytest.mark.parametrize("starts", [[5, 5], [9, 3], [82_430]])
def test_articles_must_follow_each_other_within_the_test_split(make_record, starts):
    assert make_record().corpus.test_articles == [], "as in records that are older than the field"
    with pytest.raises(ValidationError, match="test_articles must increase and lie below the 82430 tokens"):
        make_record(changes=[("corpus.test_articles", starts)])


def test_an_evaluation_stands_under_its_split(make_record):
    with pytest.raises(ValidationError, match="evaluations.test is of the split 'valid'"):
        make_record(changes=[("evaluations.test.split", "valid")])


def test_nats_that_are_no_number_are_refused(make_record):
    with pytest.raises(ValidationError):
        make_record(changes=[("evaluations.test.nll", float("nan"))])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda text: text[:-40], "damaged"),
        (lambda text: "[1, 2]", "damaged"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 3'), "unknown schema version 3"),
        (lambda text: text.replace('"deadbeef"', '"DEADBEEF"'), "signature"),
        (lambda text: text.replace('"seed": 1', '"seeds": 1'), "seed"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(make_record, tmp_path, content, reason):
    file = write_record(make_record(), tmp_path)
    file.write_text(content(file.read_text()))
    with pytest.raises(TiebenchError, match=reason) as caught:
        read_record(tmp_path)
    assert str(file) in caught.value.message and caught.value.hint


def test_an_unfinished_run_has_no_record(tmp_path):
    with pytest.raises(TiebenchError, match="has no record.json"):
        read_record(tmp_path)


def test_a_record_that_is_no_json_is_not_written(make_record, tmp_path):
    with pytest.raises(ValueError, match="spec"):
        write_record(make_record(changes=[("spec.corpus", float("nan"))]), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def scored(make_record):
    nats = np.random.default_rng(0).exponential(4.7, size=82_430)
    return make_record(test=math.exp(nats.mean())), nats


def test_token_nats_come_back_as_single_precision(scored, tmp_path):
    record, nats = scored
    write_token_nll(nats, tmp_path)
    found = read_token_nll(record, tmp_path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, nats.astype(np.float32))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda nats: nats[:-1], "counts 82430 test tokens"),
        (lambda nats: nats * 1.0003, "sum to"),
        (lambda nats: nats * float("nan"), "sum to"),
    ],
)
def test_token_nats_of_another_run_are_refused(scored, tmp_path, damage, reason):
    record, nats = scored
    write_token_nll(damage(nats), tmp_path)
    with pytest.raises(TiebenchError, match=reason) as caught:
        read_token_nll(record, tmp_path)
    assert "test-nll.npy" in caught.value.message


def test_token_nats_cut_short_are_refused(scored, tmp_path):
    record, nats = scored
    file = write_token_nll(nats, tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(TiebenchError, match="damaged"):
        read_token_nll(record, tmp_path)


def test_missing_token_nats_are_none(scored, tmp_path):
    assert read_token_nll(scored[0], tmp_path) is None


def make_point(step, **changes):
    content = {"step": step, "epoch": 1.0, "tokens": step * 400, "seconds": 2.5, "learning_rate": 0.5}
    return CurvePoint(**content | {"train_nll_per_token": 5.25, "valid_perplexity": 150.1} | changes)


def test_a_curve_has_one_object_per_line(tmp_path):
    points = [make_point(100, train_nll_per_token=None), make_point(200)]
    file = write_curve(points, tmp_path)
    assert read_curve(tmp_path) == points
    first, second = map(json.loads, file.read_text().splitlines())
    assert first["train_nll_per_token"] is None
    assert list(second) == [
        "step", "epoch", "tokens", "seconds", "learning_rate", "train_nll_per_token", "valid_perplexity",
    ]  # fmt: skip


def test_a_damaged_curve_names_its_line(tmp_path):
    file = write_curve([make_point(100), make_point(200)], tmp_path)
    file.write_text(file.read_text()[:-20])
    with pytest.raises(TiebenchError, match=r"curve.jsonl is damaged: line 2"):
        read_curve(tmp_path)


def test_a_run_that_was_never_scored_has_an_empty_curve(tmp_path):
    assert read_curve(tmp_path) == []
