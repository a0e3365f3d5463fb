"""Reads each form of a run with a reader that is not ours, and compares what it sees with the record.

check.py KUNIT SCHEMA DIR...: KUNIT is a kernel's tools/testing/kunit, SCHEMA the record's, each DIR
has one run in every form.
"""

import json
import pathlib
import re
import sys
from collections import Counter

import cmarkgfm
import jsonschema
import junitparser
import kcidb_io
import lxml.etree
import lxml.html
from cmarkgfm.cmark import Options

KUNIT, SCHEMA = sys.argv[1:3]
sys.path.insert(0, KUNIT)
import kunit_parser  # noqa: E402
import kunit_printer  # noqa: E402


def expected(record):
    """How many tests there must be of each result: cells, pairs, and four of the run as a whole."""
    out = Counter()
    words = {"pass": "pass", "fail": "fail", "skip": "skip", "error": "error"}
    for _, verdict in record["cells"]:
        out[words[verdict["verdict"]]] += 1
    out["error"] += len(record.get("unfinished", []))
    for pair in record["pairs"]:
        out[{"regressed": "fail", "incomparable": "skip"}.get(pair["verdict"], "pass")] += 1
    whole = [
        any(v["verdict"] in ("pass", "fail") for _, v in record["cells"]),
        not record.get("unfinished"),
        record["pages_read"] == record["pages_predicted"],
        not record.get("over_ceiling"),
    ]
    for well in whole:
        out["pass" if well else "fail"] += 1
    return +out


def check_json(text, record):
    with open(SCHEMA) as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(record)


def check_junit(text, record):
    lxml.etree.fromstring(text.encode(), lxml.etree.XMLParser(resolve_entities=False))
    seen, flaky = Counter(), 0
    for suite in junitparser.JUnitXml.fromstring(text.encode()):
        for case in suite:
            results = [type(r).__name__ for r in case.result]
            kinds = {"Failure": "fail", "Skipped": "skip", "Error": "error"}
            known = [kinds[r] for r in results if r in kinds]
            seen[known[0] if known else "pass"] += 1
            flaky += any(True for _ in case._elem.iter("flakyFailure"))
    assert seen == expected(record), (seen, expected(record))
    assert flaky == len(record.get("flaky", [])), flaky


def check_ktap(text, record):
    class Silent(kunit_printer.Printer):
        def __init__(self):
            super().__init__(print=False)

    test = kunit_parser.parse_run_tests(text.splitlines(), Silent())
    counts = test.counts
    want = expected(record)
    assert counts.errors == 0, [t.name for t in test.subtests if t.counts.errors]
    assert counts.crashed == 0, counts
    assert counts.passed == want["pass"], (counts, want)
    assert counts.failed == want["fail"] + want["error"], (counts, want)
    assert counts.skipped == want["skip"], (counts, want)


def check_kcidb(text, record):
    data = json.loads(text)
    kcidb_io.schema.LATEST.validate(data)
    seen = Counter(t["status"] for t in data["tests"])
    cells = Counter(v["verdict"] for _, v in record["cells"])
    pairs = Counter(p["verdict"] for p in record["pairs"])
    assert seen["FAIL"] == cells["fail"] + pairs["regressed"], seen
    assert seen["SKIP"] == cells["skip"] + pairs["incomparable"], seen
    assert seen["ERROR"] == cells["error"], seen
    assert seen["MISS"] == len(record.get("unfinished", [])), seen
    ids = [t["id"] for t in data["tests"]]
    assert len(ids) == len(set(ids))


# What our own Markdown is made of.
TAGS = set("html body div h2 h3 p ul li code pre details summary".split())


def check_markdown(text, record):
    # With raw HTML let through, whatever got out of its code span is an element.
    page = cmarkgfm.github_flavored_markdown_to_html(
        text, options=Options.CMARK_OPT_UNSAFE
    )
    root = lxml.html.fromstring(f"<div>{page}</div>")
    tags = {e.tag if isinstance(e.tag, str) else "comment" for e in root.iter()}
    assert tags <= TAGS, tags - TAGS
    # Outside of code there are only our own words: no mention, no reference, no address.
    for code in list(root.iter("code")):
        code.drop_tree()
    rest = root.text_content()
    assert not re.search(r"@\w|#\d|www\.|https?:|<|\*\*", rest), rest


def check_github(text, record):
    """As the runner reads it: `::name key=value,...::message`, each value with its escapes."""
    levels = Counter()
    for line in text.splitlines():
        found = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
        assert found, line
        levels[found[1]] += 1
        keys = [p.split("=", 1)[0] for p in found[2].split(",")]
        assert set(keys) <= {"file", "line", "title"} and len(keys) == len(set(keys)), line
        assert not re.search(r"%(?!25|0A|0D|3A|2C)", found[2] + found[3]), line
    assert max(levels.values()) <= 10, levels
    bad = record["exit_code"] != 0
    assert bool(levels["error"]) == bad, levels


def check_mail(text, record):
    for line in text.splitlines():
        assert len(line) <= 72 or " " not in line.strip(), line
        assert "\t" not in line


def main():
    checks = {
        "json": check_json,
        "junit": check_junit,
        "ktap": check_ktap,
        "kcidb": check_kcidb,
        "markdown": check_markdown,
        "summary": check_markdown,
        "github": check_github,
        "mail": check_mail,
    }
    for place in map(pathlib.Path, sys.argv[3:]):
        record = json.loads((place / "json").read_text())
        for form, check in checks.items():
            text = (place / form).read_text()
            try:
                check(text, record)
            except Exception as e:
                raise SystemExit(f"{place.name}: {form} is not what it should be: {e!r}") from e
        print(f"{place.name}: {', '.join(checks)} are read as they are meant")


main()
