use super::*;
use proptest::prelude::*;

fn lines(text: &str) -> Vec<String> {
    ktap(text)
        .into_iter()
        .map(|r| {
            format!(
                "{:?} {} {}",
                r.status,
                r.name,
                r.message.replace('\n', " / ")
            )
            .trim()
            .to_owned()
        })
        .collect()
}

/// kselftest_harness.h of 5.10: a skipped test's result line lacks its name.
#[test]
fn harness_of_5_10() {
    let text = "TAP version 13\n1..4\n# Starting 4 tests from 3 test cases.\n\
#  RUN           hmm.open_close ...\n#            OK  hmm.open_close\nok 1 hmm.open_close\n\
#  RUN           hmm.anon_read ...\n# hmm-tests.c:291:anon_read:Expected ret (-16) == 0 (0)\n\
# anon_read: Test terminated by assertion\n#          FAIL  hmm.anon_read\nnot ok 2 hmm.anon_read\n\
#  RUN           hmm.anon_write_hugetlbfs ...\n#      SKIP      Huge page could not be allocated\n\
#            OK  hmm.anon_write_hugetlbfs\nok 3 # SKIP Huge page could not be allocated\n\
#  RUN           hmm2.migrate_mixed ...\n#            OK  hmm2.migrate_mixed\nok 4 hmm2.migrate_mixed\n\
# FAILED: 3 / 4 tests passed.\n# Totals: pass:2 fail:1 xfail:0 xpass:0 skip:1 error:0\n";
    assert_eq!(
        lines(text),
        [
            "Pass hmm.open_close",
            "Fail hmm.anon_read hmm-tests.c:291:anon_read:Expected ret (-16) == 0 (0) / anon_read: Test terminated by assertion",
            "Skip hmm.anon_write_hugetlbfs Huge page could not be allocated / SKIP      Huge page could not be allocated",
            "Pass hmm2.migrate_mixed",
        ]
    );
}

/// kselftest_harness.h of 7.3: variants, names on every line, `#  ` before a diagnostic, XFAIL.
#[test]
fn harness_of_7_3() {
    let text = "TAP version 13\n1..5\n# Starting 5 tests from 2 test cases.\n\
#  RUN           hmm.hmm_device_private.open_close ...\n#            OK  hmm.hmm_device_private.open_close\n\
ok 1 hmm.hmm_device_private.open_close\n\
#  RUN           hmm.hmm_device_private.exclusive ...\n# hmm-tests.c:1776:exclusive:Expected ret (-16) == 0 (0)\n\
# exclusive: Test terminated by assertion\n#          FAIL  hmm.hmm_device_private.exclusive\n\
not ok 2 hmm.hmm_device_private.exclusive\n\
#  RUN           hmm.hmm_device_private.migrate_anon_huge ...\n#      SKIP      no huge pages\n\
#            OK  hmm.hmm_device_private.migrate_anon_huge\n\
ok 3 hmm.hmm_device_private.migrate_anon_huge # SKIP no huge pages\n\
#  RUN           hmm.hmm_device_private.x ...\n#            OK  hmm.hmm_device_private.x\n\
ok 4 hmm.hmm_device_private.x # XFAIL unknown\n\
#  RUN           hmm.hmm_device_private.benchmark ...\n";
    assert_eq!(
        lines(text),
        [
            "Pass hmm.hmm_device_private.open_close",
            "Fail hmm.hmm_device_private.exclusive hmm-tests.c:1776:exclusive:Expected ret (-16) == 0 (0) / exclusive: Test terminated by assertion",
            "Skip hmm.hmm_device_private.migrate_anon_huge no huge pages / SKIP      no huge pages",
            "Pass hmm.hmm_device_private.x XFAIL unknown",
            "Missing hmm.hmm_device_private.benchmark",
        ]
    );
}

#[test]
fn a_plan_that_is_not_met_leaves_missing_results() {
    assert_eq!(
        lines("TAP version 13\n1..3\nok 1 - a\n"),
        [
            "Pass a",
            "Missing #2 3 tests planned, 1 reported",
            "Missing #3 3 tests planned, 1 reported",
        ]
    );
    assert_eq!(
        lines("1..2\nBail out! no device\n"),
        [
            "Missing #1 bailed out: no device",
            "Missing #2 bailed out: no device",
        ]
    );
    assert_eq!(
        lines("TAP version 13\n1..0 # SKIP no test_hmm device\n"),
        ["Skip all no test_hmm device"]
    );
    assert_eq!(lines(""), Vec::<String>::new());
}

#[test]
fn a_test_that_dies_is_missing_and_the_next_one_counts() {
    let text = "1..2\n#  RUN           a.b ...\nlost words\n#  RUN           a.c ...\nok 1 a.c\n";
    assert_eq!(
        lines(text),
        [
            "Missing a.b lost words",
            "Pass a.c",
            "Missing #2 2 tests planned, 1 reported"
        ]
    );
}

/// Nested as Documentation/dev-tools/ktap.rst shows it.
#[test]
fn nested() {
    let text = "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: outer\n    1..2\n    ok 1 one\n    not ok 2 two\n\
not ok 1 outer\n    KTAP version 1\n    # Subtest: other\n    1..1\nnot ok 2 other # broke\n";
    assert_eq!(
        lines(text),
        [
            "Pass outer.one",
            "Fail outer.two",
            "Missing other.#1 1 tests planned, 0 reported",
            "Fail other broke",
        ]
    );
}

#[test]
fn what_the_guest_prints_cannot_steer_a_terminal() {
    assert_eq!(lines("ok 1 \u{1b}[31mred\n"), ["Pass \\u{1b}[31mred"]);
}

#[test]
fn a_failure_among_more_results_than_are_kept_is_no_pass() {
    let mut text = "ok 1 a\n".repeat(MAX_RESULTS);
    assert_eq!(ktap(&text).len(), MAX_RESULTS);
    text.push_str("not ok 2 b\n");
    let results = ktap(&text);
    let last = results.last().unwrap();
    assert_eq!(results.len(), MAX_RESULTS + 1);
    assert_eq!(
        (last.status, last.message.as_str()),
        (TestStatus::Missing, "1 were left out")
    );
}

/// Each of these took time or memory by the square of its length.
#[test]
fn plans_and_titles_without_bound_are_read_in_time() {
    let start = std::time::Instant::now();
    for text in [
        " 1..999999\n1..0\n".repeat(200_000),
        format!(
            "# Subtest: {}\n{}",
            "x".repeat(2 << 20),
            "  ok 1 a\n".repeat(100_000)
        ),
        format!(
            "Bail out! {}\n{}",
            "x".repeat(2 << 20),
            " 1..999\n1..0\n".repeat(1000)
        ),
    ] {
        let results = ktap(&text);
        assert!(results.len() <= MAX_RESULTS + 1);
        assert!(results.iter().all(|r| r.name.len() <= 2 * MAX_NAME));
    }
    let took = start.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "took {took:?}");
}

proptest! {
    #[test]
    fn any_text_gives_bounded_results(
        lines in prop::collection::vec(prop_oneof![
            "\\PC{0,30}", " {0,6}ok [0-9]{0,20} ?-? ?[a#]{0,3}( # SKIP)?", " {0,6}1\\.\\.[0-9]{0,25}",
            " {0,6}# Subtest: x", Just("# RUN a ...".to_owned()), Just("KTAP version 1".to_owned()),
            Just("Bail out!".to_owned()), Just("not ok".to_owned()),
        ], 0..40)
    ) {
        prop_assert!(ktap(&lines.join("\n")).len() <= MAX_RESULTS + 1);
    }
}

/// Recorded of gup_longterm on fsdax, 6.12.117.
#[test]
fn tests_that_are_named_by_what_they_run() {
    let text = "TAP version 13\n1..3\n\
        # [RUN] R/W longterm GUP pin in MAP_SHARED file mapping ... with memfd\n\
        ok 1 Should have worked\n\
        # [RUN] R/W longterm GUP pin in MAP_SHARED file mapping ... with local tmpfile\n\
        not ok 2 PIN_LONGTERM_TEST_START failed\n\
        # [RUN] R/W longterm GUP pin in MAP_SHARED file mapping ... with memfd hugetlb (2048 kB)\n\
        ok 3 # SKIP need more free huge pages\n";
    let shown: Vec<_> = ktap(text)
        .into_iter()
        .map(|r| format!("{:?} {} | {}", r.status, r.name, r.message.trim()))
        .collect();
    let what = "R/W longterm GUP pin in MAP_SHARED file mapping ... with";
    assert_eq!(
        shown,
        [
            format!("Pass {what} memfd | "),
            format!("Fail {what} local tmpfile | PIN_LONGTERM_TEST_START failed"),
            format!("Skip {what} memfd hugetlb (2048 kB) | need more free huge pages"),
        ]
    );
}

/// A text of the length that an agent hands over, made to be slow: a reason and names that each of
/// very many results would repeat.
#[test]
fn no_text_takes_long() {
    let mut plans = String::new();
    let mut names = String::new();
    for level in 1..32 {
        let indent = " ".repeat(level);
        plans.push_str(&format!("{indent}1..4000000000\n"));
        names.push_str(&format!("{indent}# Subtest: {}\n", "x".repeat(10_000)));
    }
    let bail = format!("{plans}Bail out! {}\n", "x".repeat(1 << 20));
    let deep = format!(
        "{names}{}",
        "                                not ok 1 a\n".repeat(20_000)
    );
    for text in [bail, deep] {
        let began = std::time::Instant::now();
        let results = ktap(&text);
        assert!((1..=MAX_RESULTS + 1).contains(&results.len()));
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    }
}
