"""Whether comments fit their element lists and keep the project's rules (configs/rules.yaml)."""

from collections import Counter

import datasets
import evaluate

from language.metrics.intervals import with_interval
from language.records import ElementList, find_evidence
from language.rules import violations


class Grounding(evaluate.Metric):
    """Rates over predictions: `violation_rate` (any rule), `rule_<name>` for each broken, `coverage` (of lists with
    things: one is named), `unsupported_rate`, `contradiction_rate`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="after CHAIR, Rohrbach et al. 2018, Object Hallucination in Image Captioning",
            inputs_description="predictions: comments; references: element lists as text",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references, lang="ko", style="polite", bootstrap=0):
        lists = [ElementList.parse(text, lang) for text in references]
        broken = [violations(text, e, style) for text, e in zip(predictions, lists, strict=True)]
        count, total = Counter(rule for rules in broken for rule in rules), max(1, len(broken))
        rate = lambda name, hits: with_interval(name, [float(hit) for hit in hits], bootstrap)
        things = [{e.id for e in listed.of_kind("object")} for listed in lists]
        spoken_of = [{s.element for s in find_evidence(t, e)} for t, e in zip(predictions, lists, strict=True)]
        return {
            **rate("violation_rate", [bool(rules) for rules in broken]),
            **rate("coverage", [bool(own & said) for own, said in zip(things, spoken_of, strict=True) if own]),
            **rate("unsupported_rate", ["names what is not there" in rules for rules in broken]),
            **rate("contradiction_rate", ["mood" in rules for rules in broken]),
            **{f"rule_{rule.replace(' ', '_')}": n / total for rule, n in sorted(count.items())},
        }
