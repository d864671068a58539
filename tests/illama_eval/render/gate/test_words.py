"""One verdict in every form: the same facts, and names that stay names, by strict parsers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.parsers import expat

import pytest

from illama_eval.compare.comparison import compare_paths
from illama_eval.compare.gate import GateResult, check
from illama_eval.render.format.escape import sanitize
from illama_eval.render.gate.github_summary import to_summary
from illama_eval.render.gate.junit import to_junit
from illama_eval.render.gate.words import sentence, state_label, to_json
from illama_eval.render.page.differences import judgement_of
from illama_eval.render.terminal.comparison import show_comparison
from illama_eval.render.terminal.gate import show_verdicts


def xml_of(text):
    """Return (tag, attributes) of each element, by a parser that forgives nothing."""
    found = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: found.append((tag, attributes))
    parser.Parse(text.encode("utf-8"), True)
    return found


def test_every_form_tells_the_same_verdict(printed, rows_of, worse):
    assert worse.exit_code == 1
    names = {each.name for each in worse.of("fail")}
    data = json.loads(to_json(worse), parse_constant=pytest.fail)
    assert data["exit_code"] == 1
    assert {each["name"] for each in data["judged"] if each["outcome"] == "fail"} == names
    cases = xml_of(to_junit(worse))
    suite = dict(cases[0][1])
    assert (suite["failures"], suite["errors"]) == (str(len(names)), "0")
    assert int(suite["tests"]) == len(worse.of("pass", "warn", "fail", "error"))
    rows = rows_of(to_summary(worse))
    assert sum("worse" in row[0] for row in rows) == len(names)
    text = printed(show_verdicts, worse)
    assert text.count("\N{BLACK DOWN-POINTING TRIANGLE} worse") == len(names)
    for form in (data["sentence"], to_summary(worse), to_junit(worse), " ".join(text.split())):
        assert f"Regression in {len(names)} of 5 gated metrics" in form
        assert "top-1 accuracy" in form


def test_the_sentence_names_metric_change_interval_and_margin(worse):
    said = sentence(worse)
    assert said.startswith("Regression in ")
    number = r"\N{MINUS SIGN}\d+\.\d"
    interval = rf"\(95 % {number} to {number}\)"
    assert re.search(rf"top-1 accuracy {number} pp {interval}, margin 0\.1 pp", said)


def test_metrics_that_are_not_judged_for_one_reason_are_named_together(worse):
    lost = [replace(each, state="missing", outcome="error") for each in worse.judged[:5]]
    alike = replace(worse, judged=tuple(replace(each, reason="gone") for each in lost))
    said = sentence(alike)
    assert re.fullmatch(r"Not judged: (.+, ){3}and 2 more are missing, gone\.", said)
    page = judgement_of(alike)
    assert page.word == "Not judged"
    assert page.sentence == said.removeprefix("Not judged: ").replace("top-1", "Top-1", 1)
    reasons = [replace(each, reason=str(n)) for n, each in enumerate(lost[:2])]
    assert sentence(replace(worse, judged=tuple(reasons))).count(" is missing, ") == 2


def test_what_the_policy_fails_though_inconclusive_is_not_called_a_regression(worse):
    unclear = replace(worse.of("fail")[0], state="inconclusive")
    only = replace(worse, judged=(unclear, *worse.of("pass")))
    assert only.exit_code == 1
    assert "Regression" not in sentence(only)
    assert sentence(only).startswith("No regression shown, but failed: inconclusive in 1 of ")
    assert 'which the policy fails (inconclusive = "fail"): top-1 accuracy ' in sentence(only)
    assert state_label(unclear).endswith("inconclusive (fails by the policy)")
    both = replace(worse, judged=(*worse.judged, unclear))
    assert re.match(r"Regression in \d of .*; inconclusive in 1 of ", sentence(both))


def test_the_sentence_of_a_pass_counts_the_states(write_run, tmp_path):
    found = check(write_run(tmp_path / "b"), write_run(tmp_path / "a"))
    assert sentence(found) == ("No regression found in 5 gated metrics: 5 same within margin.")


def test_a_problem_is_said_in_every_form(printed, tmp_path, write_run):
    found = check(write_run(tmp_path / "a"), tmp_path / "none.json")
    cases = xml_of(to_junit(found))
    assert (cases[0][1]["errors"], cases[0][1]["tests"]) == ("1", "1")
    assert "none.json" in dict(cases)["error"]["message"]
    assert json.loads(to_json(found))["exit_code"] == found.exit_code == 3
    for form in (sentence(found), to_summary(found), printed(show_verdicts, found, 300)):
        assert "Not judged:" in form
        assert "cannot be read" in form


@pytest.fixture(params=range(12))
def hostile(request, hostile_names, stored_names, write_run, tmp_path):
    """Verdicts and comparison in which one hostile name stands in every slot."""
    name, path_name = stored_names[request.param], hostile_names[request.param]

    def rename(header):
        header["metrics"][name] = header["metrics"].pop("accuracy")
        header["identity"]["subjects"]["0"]["dtype"] = name

    def write(path, accuracy, seed):
        run = write_run(path, accuracy=accuracy, seed=seed, subject="nano")
        file = run / "run.json"
        data = json.loads(file.read_text(encoding="utf-8"))
        rename(data["header"])
        data["header"]["device"] = f"{name}{seed}"
        data["header"]["subjects"][0]["name"] = name
        for row in data["rows"]:
            row |= {"subject": name, "source": name, "low": None, "high": None}
            if row["study"] == "accuracy":
                row |= {"study": name, "reason": name}
                row["metric"] = name if row["metric"] == "nll" else row["metric"]
        file.write_text(json.dumps(data), encoding="utf-8")
        (run / "replicates.npz").unlink()
        (run / "per_image.npz").unlink()
        return run

    paths = write(tmp_path / "a", 0.8, 0), write(tmp_path / "b", 0.6, 1)
    found = replace(check(paths[1], paths[0]), run=path_name, baseline=path_name)
    return name, found, compare_paths(*map(str, paths))[0]


def test_a_hostile_name_stays_a_name_in_every_form(printed, rows_of, hostile):
    name, verdicts, compared = hostile
    assert verdicts.exit_code == 1
    data = json.loads(to_json(verdicts), parse_constant=pytest.fail)
    assert name in {each["study"] for each in data["judged"]}
    assert to_json(verdicts).isascii()
    cases = xml_of(to_junit(verdicts))
    assert {tag for tag, _ in cases} == {
        "testsuite",
        "properties",
        "property",
        "testcase",
        "failure",
        "skipped",
        "system-out",
    }
    assert len(sanitize(name)) > 200 or sanitize(name) in {a.get("classname") for _, a in cases}
    rows = rows_of(to_summary(verdicts))
    assert {len(row) for row in rows} == {11}
    summary = re.sub(r"</?(details|summary)>", "", to_summary(verdicts))
    assert not re.search(r"(?<!\\)[<`]", summary)
    for text in (printed(show_verdicts, verdicts), printed(show_comparison, compared)):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert max(map(len, text.splitlines())) <= 80
    for show, shown in ((show_verdicts, verdicts), (show_comparison, compared)):
        assert printed(show, shown, encoding="ascii")


def test_a_hostile_problem_stays_a_sentence(hostile_names):
    for name in hostile_names:
        found = GateResult(run=name, baseline=name, problem=name)
        assert xml_of(to_junit(found))
        assert len(to_summary(found).splitlines()) == 3
        assert json.loads(to_json(found))["problem"] == name
