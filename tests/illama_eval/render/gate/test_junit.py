from __future__ import annotations

from dataclasses import replace
from xml.parsers import expat

from illama_eval.render.gate.junit import to_junit
from illama_eval.render.gate.words import sentence, state_label


def xml_of(text):
    """Return (tag, attributes) of each element, by a parser that forgives nothing."""
    found = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: found.append((tag, attributes))
    parser.Parse(text.encode("utf-8"), True)
    return found


def test_what_could_not_be_judged_is_an_error_and_a_warning_is_skipped(worse):
    first, *others = worse.judged
    mixed = replace(
        worse,
        judged=(
            replace(
                first, state="missing", outcome="error", change=None, margin=None, reason="gone"
            ),
            *(replace(each, outcome="warn") if each.outcome == "fail" else each for each in others),
        ),
    )
    assert mixed.exit_code == 3
    assert sentence(mixed) == "Not judged: top-1 accuracy is missing, gone."
    kinds = [tag for tag, _ in xml_of(to_junit(mixed))]
    assert (kinds.count("error"), kinds.count("failure")) == (1, 0)
    assert kinds.count("skipped") == len(mixed.of("warn")) > 0
    warned = next(each for each in mixed.of("warn") if each.state == "worse")
    assert state_label(warned).endswith("worse (warning)")
