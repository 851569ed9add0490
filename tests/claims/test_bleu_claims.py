"""Claims about BLEU rest on the records of runs that translate."""

from tiebench.claims.evidence import Evidence, plan_papers
from tiebench.claims.papers import load_papers
from tiebench.claims.verdicts import judge_papers
from tiebench.experiment.loading import load_experiment
from tiebench.results.record import write_record
from tiebench.results.store import Store


def test_bleu_is_read_from_the_records_of_runs_that_translate(make_record, tmp_path):
    """Equivalent where two arms stand within half a point over their seeds, and no order where they cross."""
    runs = load_experiment("multi30k").list_runs(arms=["untied", "three-way"], seeds=[1, 2, 3])
    found = {"untied": (35.0, 35.1, 35.2), "three-way": (35.1, 35.2, 35.0)}
    for run in runs:
        translation = {
            "bleu": found[run.arm][run.seed - 1],
            "chrf": 60.0,
            "bleu_signature": "b",
            "chrf_signature": "c",
            "sentences": 1000,
            "beam": 5,
            "length_penalty": 1.0,
        }
        changes = [("experiment", "multi30k"), ("signature", run.signature), ("translation", translation)]
        record = make_record(run.arm, run.seed, changes=changes)
        write_record(record, Store(tmp_path).folder_of(record))
    ids = ["multi30k-three-way-equals-untied-test", "multi30k-three-way-above-untied-test"]
    papers = load_papers("press-wolf-2017", only=ids)
    plans = plan_papers(papers, only=ids, seeds=[1, 2, 3], overrides=[])
    judged = judge_papers(papers, evidence=Evidence(Store(tmp_path), plans, (1, 2, 3)), only=ids)
    assert [each.verdict for each in judged] == ["reproduced", "inconclusive"]
